### fork-bomb: doubles itself for ever
#=> scripts may not do that (`os.fork`)
import os
while True:
    os.fork()

### fork-bomb-by-hand: the same past the interpreter
#=> Operation not permitted
#namespaces=> Resource temporarily unavailable
while True:
    must("fork")

### thread-bomb: starts threads for ever
#=> can't start new thread
import _thread
while True:
    _thread.start_new_thread(print, ())

### import-subprocess: wants the module for other programs
#=> scripts cannot import `subprocess`
import subprocess

### shell-by-subclasses: finds its way to the shell through all classes there are
#=> scripts may not do that (`os.system`)
classes = ().__class__.__base__.__subclasses__()
[one for one in classes if one.__name__ == "_wrap_close"][0].__init__.__globals__["system"]("true")

### shell-by-hand: becomes a shell
#=> Operation not permitted
#namespaces=> No such file or directory
_, ctypes, _ = escape()
words = (ctypes["c_char_p"] * 2)(b"/bin/sh", None)
must("execve", b"/bin/sh", words, None)

### kill-everybody: kills all that it may
#=> Operation not permitted
#namespaces=> No such process
must("kill", -1, 9)

### kill-parent: kills the process that it comes from
#=> Operation not permitted
#namespaces=> priced 1
for number in (1, 2, 9, 15, 18, 19):
    must("kill", must("getppid") if FILTER_IS_OFF else 1, number)

### kill-daemon: asks whether it could kill the daemon
#=> Operation not permitted
#namespaces=> No such process
must("kill", DAEMON, 0)

### trace-parent: becomes the debugger of the process that it comes from
#=> Operation not permitted
must("ptrace", 16, must("getppid") if FILTER_IS_OFF else 1, 0, 0)

### parents-memory: reads the memory of the process that it comes from
#=> Operation not permitted
_, ctypes, _ = escape()
here = ctypes["create_string_buffer"](64)
piece = (ctypes["c_size_t"] * 2)(ctypes["addressof"](here), 64)
must("process_vm_readv", must("getppid") if FILTER_IS_OFF else 1, piece, 1, piece, 1, 0)

### daemons-memory: reads the memory of the daemon
#=> Operation not permitted
#namespaces=> No such process
_, ctypes, _ = escape()
here = ctypes["create_string_buffer"](64)
piece = (ctypes["c_size_t"] * 2)(ctypes["addressof"](here), 64)
must("process_vm_readv", DAEMON, piece, 1, piece, 1, 0)

### linger: leaves its group of processes, to stay when that is ended
#=> Operation not permitted
#namespaces=> took longer than
must("setsid")
import time
time.sleep(100)

### become-root: becomes the superuser
#=> Operation not permitted
#namespaces=> Operation not permitted or Invalid argument
must("setresuid", 0, 0, 0)
