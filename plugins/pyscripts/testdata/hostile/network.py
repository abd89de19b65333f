### import-socket: wants the module for the network
#=> scripts cannot import `socket`
import socket

### connect: makes a socket to connect to a server on this machine
#=> Operation not permitted
#namespaces=> Too many open files
must("socket", 2, 1, 0)

### connect-locally: makes a socket for the files of servers on this machine
#=> Operation not permitted
#namespaces=> Too many open files
must("socketpair", 1, 1, 0, bytes(8))

### send-from-files: takes what is open for a socket and connects it
#=> Operation not permitted
#namespaces=> Socket operation on non-socket
address = bytes([2, 0]) + PORT.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
for number in (0, 1, 2, 3):
    must("connect", number, address, 16)
