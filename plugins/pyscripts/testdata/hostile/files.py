### open: opens the list of users
#=> scripts may not do that (`open`)
open("/etc/passwd")

### open-by-hand: the same past the interpreter
#=> Operation not permitted
#namespaces=> Too many open files
must("open", b"/etc/passwd", 0)

### look-for-users: asks whether there is a list of users, which needs no open file
#=> Operation not permitted
#namespaces=> No such file or directory
must("access", b"/etc/passwd", 0)

### look-for-state: asks for a file of the daemon's that anybody may read
#=> Operation not permitted
#namespaces=> No such file or directory
must("access", DAEMON_FILE, 0)

### look-upward: leaves the empty folder by its parent
#=> Operation not permitted
#namespaces=> No such file or directory
must("access", b"../../../../etc/passwd", 0)

### list-root: lists the folder at the root
#=> Operation not permitted
#namespaces=> Too many open files
import os
os.listdir("/")

### write-file: makes a file in the folder for such
#=> Operation not permitted
#namespaces=> Too many open files
must("open", b"/tmp/made-by-a-script", 0o102, 0o644)

### make-folder: makes a folder at the root, which needs no open file
#=> Operation not permitted
#namespaces=> Read-only file system
must("mkdir", b"/made-by-a-script", 0o755)

### memory-file: makes a file that is in memory only
#=> Operation not permitted
#namespaces=> Too many open files
must("memfd_create", b"x", 0)

### new-root: makes another folder the root
#=> Operation not permitted
must("chroot", b"/")

### mount: mounts the processes' folder
#=> Operation not permitted
must("mount", b"proc", b"/", b"proc", 0, None)

### inherited-files: looks which files are open, up to number 4095
#=> priced 1
_, _, library = escape()
found = [number for number in range(4096) if library.write(number, b"", 0) == 0]
assert found == [0, 1, 2, 3], found

### write-into-files: writes into whatever is open but its answer
#=> priced 1
_, _, library = escape()
for number in range(4096):
    if number != 3:
        library.write(number, b"\0\0\0\0\0\0\0\0", 8)

### more-files: allows itself open files again
#=> Operation not permitted
_, ctypes, library = escape()
must("setrlimit", 7, (ctypes["c_ulong"] * 2)(64, 64))

### environment: reads the environment
#=> priced 1
import os
assert sorted(os.environ) == ["LC_ALL", "PYTHONHASHSEED", "TZ"], os.environ

### environment-by-hand: reads the environment as the C library has it
#=> priced 1
_, ctypes, library = escape()
names, number = ctypes["POINTER"](ctypes["c_char_p"]).in_dll(library, "environ"), 0
while names[number] is not None:
    assert names[number].split(b"=")[0] in (b"LC_ALL", b"PYTHONHASHSEED", b"TZ"), names[number]
    number += 1
assert number == 3

### own-environment: looks for the environment of its own process
#=> Operation not permitted
#namespaces=> No such file or directory
must("access", b"/proc/self/environ", 0)

### daemon-environment: looks for the environment of the daemon
#=> Operation not permitted
#namespaces=> No such file or directory
must("access", b"/proc/%d/environ" % DAEMON, 0)

### answer-pipe: closes the pipe that its answer goes through
#=> Operation not permitted
#namespaces=> ended its process by signal 9 or ended its process with code 70
must("close", 3)
