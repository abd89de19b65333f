### code: makes memory that can be run as code
#=> Operation not permitted
#namespaces=> not tried
must("syscall", NUMBERS["mmap"], 0, 4096, 7, 0x22, -1, 0)

### code-afterwards: makes memory that it has written to one that can be run as code
#=> Operation not permitted
#namespaces=> not tried
address = must("syscall", NUMBERS["mmap"], 0, 4096, 3, 0x22, -1, 0)
must("syscall", NUMBERS["mprotect"], address, 4096, 5)

### io-uring: opens the queue by which the kernel works for a program
#=> Operation not permitted
#namespaces=> not tried
must("syscall", NUMBERS["io_uring_setup"], 8, bytes(120))

### bpf: loads a program into the kernel
#=> Operation not permitted
#namespaces=> not tried
must("syscall", NUMBERS["bpf"], 0, bytes(128), 128)

### keyring: leaves a word in the kernel's keyring
#=> Operation not permitted
#namespaces=> not tried
must("syscall", NUMBERS["add_key"], b"user", b"x", b"x", 1, -4)

### shared-memory: leaves a word in memory that outlives it
#=> Operation not permitted
#namespaces=> not tried
must("shmget", 7, 4096, 0o1600)

### performance-counters: watches the processor
#=> Operation not permitted
#namespaces=> Permission denied or Too many open files or Operation not permitted
must("syscall", NUMBERS["perf_event_open"], bytes([0] * 4 + [112] + [0] * 107), 0, -1, -1, 0)

### page-faults: handles the kernel's faults itself
#=> Operation not permitted
#namespaces=> Operation not permitted or Too many open files
must("syscall", NUMBERS["userfaultfd"], 0)

### namespaces: makes a world where it is the superuser
#=> Operation not permitted
#namespaces=> not tried
must("unshare", 0x10000000)

### another-filter: replaces the filter by one that lets all through
#=> Operation not permitted
#namespaces=> not tried
must("syscall", NUMBERS["seccomp"], 1, 0, b"\1\0\0\0\0\0\0\0" + bytes(8))

### dumpable: lets others look into its memory
#=> Operation not permitted
#namespaces=> not tried
must("prctl", 4, 1, 0, 0, 0)

### dump-core: allows itself a dump of its memory
#=> Operation not permitted
_, ctypes, _ = escape()
must("setrlimit", 4, (ctypes["c_ulong"] * 2)(1 << 30, 1 << 30))

### hurry: makes itself more important than others
#=> Operation not permitted
#namespaces=> Permission denied or Operation not permitted
must("setpriority", 0, 0, -20)

### machine: asks for the name of the machine
#=> Operation not permitted
#namespaces=> priced 1
_, ctypes, _ = escape()
name = ctypes["create_string_buffer"](64)
must("gethostname", name, 64) if FILTER_IS_OFF else must("syscall", NUMBERS["uname"], bytes(400))
assert name.value == b"scripts", name.value
