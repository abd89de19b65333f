"""The walls around a Python process of `pyscripts`; `runner.py` follows below in the same program.

Namespaces take away what could be reached: files, network, other processes. A filter of system calls takes away the
means: what it does not list is refused, whatever code asks for it. Each holds without the other, and both without any
help of the interpreter, which a script can bend as it likes. What the kernel refuses is said, not passed over.
"""

import sys

# Nothing of a script's choosing is ever imported: no current folder.
sys.path[:] = [folder for folder in sys.path if folder]

import os
import signal
import struct

NOBODY = 65534

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class Kernel:
    """What the kernel can do and Python has no function for, by way of the C library."""

    def __init__(self, program):
        import ctypes

        self.ctypes = ctypes
        self.library = ctypes.CDLL(None, use_errno=True)
        instruction = struct.Struct("=HBBI")
        # Kept here: the kernel reads them when a run begins.
        self.code = ctypes.create_string_buffer(b"".join(instruction.pack(*line) for line in program))
        self.program = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(self.code)))
        self.address = ctypes.addressof(self.program)
        self.filters = self.is_apart = False
        # All that is needed in a run is looked up before the first one.
        self.prctl = self.function("prctl", *[ctypes.c_ulong] * 5)

    def function(self, name, *types):
        found = getattr(self.library, name)
        found.argtypes, found.restype = types, self.ctypes.c_int

        def call(*arguments):
            if found(*arguments) == -1:
                number = self.ctypes.get_errno()
                raise OSError(number, "%s: %s" % (name, os.strerror(number)))

        return call

    def die_with(self, parent):
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            # It was faster.
            os._exit(0)

    def filter_calls(self):
        """From here on this process can do what the program lets it do. There is no way back."""
        self.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self.address, 0, 0)

    def leave_everything(self, folder):
        """Namespaces of its own: an empty folder that cannot be written is all there is, the network has no device.

        The process itself goes on among the others; the next one it makes is the first of a new world.
        """
        if os.geteuid() != 0:
            self.become_root_of_nothing()
        else:
            try:
                self.unshare(NAMESPACES)
            except OSError:
                # A root without that right, a container's, may do what everybody may.
                refusal(become_nobody)
                self.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
                self.become_root_of_nothing()
        text, number = self.ctypes.c_char_p, self.ctypes.c_ulong
        mount = self.function("mount", text, text, text, number, text)
        pivot_root, umount = self.function("pivot_root", text, text), self.function("umount2", text, self.ctypes.c_int)
        harmless = MS_NOSUID | MS_NODEV | MS_NOEXEC
        # Nobody else sees what is mounted from here on, nor does it matter where.
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount(b"none", os.fsencode(folder), b"tmpfs", harmless, b"size=4k,nr_inodes=1,mode=555")
        os.chdir(folder)
        pivot_root(b".", b".")
        umount(b".", MNT_DETACH)
        os.chdir("/")
        mount(None, b"/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | harmless, None)
        self.function("sethostname", text, self.ctypes.c_size_t)(b"scripts", 7)
        if os.geteuid() == 0:
            become_nobody()

    def unshare(self, what):
        self.function("unshare", self.ctypes.c_int)(what)
        self.is_apart = True

    def become_root_of_nothing(self):
        """A user namespace gives whoever makes one the rights over what else is new."""
        user, group = os.geteuid(), os.getegid()
        self.unshare(CLONE_NEWUSER | NAMESPACES)
        for name, text in (
            ("setgroups", "deny"), ("uid_map", "%d %d 1" % (user, user)), ("gid_map", "%d %d 1" % (group, group)),
        ):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)


def become_nobody():
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def give_up_rights(kernel):
    """No right of a superuser is left, none can be had by starting a program, and nobody may look inside."""
    if os.geteuid() == 0:
        try:
            become_nobody()
        except OSError:
            # A root without that right.
            pass
    if kernel is not None:
        text = kernel.ctypes.c_char_p
        header = struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0)
        kernel.function("capset", text, text)(header, bytes(24))
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        kernel.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def offer_memory():
    """When the machine is out of memory, this process and its children go before the daemon does."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        # Without `/proc` the kernel decides by size.
        pass


def contained(limits, folder):
    """Builds the walls that last as long as this process: who calls the kernel for each run, and what is missing."""
    kernel, missing = None, limits["missing"]
    try:
        kernel = Kernel(limits["filter"])
    except (ImportError, OSError, AttributeError) as error:
        reason = "Python's `ctypes` is of no use: %s" % error
        missing = {"namespaces": reason, "filter": reason}
    missing["filter"] = missing["filter"] or refusal_apart(kernel.filter_calls, kernel)
    missing["namespaces"] = missing["namespaces"] or refusal(lambda: kernel.leave_everything(folder))
    give_up_rights(kernel)
    if kernel is not None:
        kernel.filters = missing["filter"] is None
        if kernel.is_apart:
            go_on_as_first(kernel)
    return kernel, missing


def refusal(work):
    """What the kernel said to that, `None` if nothing."""
    try:
        work()
    except OSError as error:
        return error.strerror or str(error)
    return None


def refusal_apart(work, kernel):
    """The same for what must not be done to this process: a child tries."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            status = refusal(work) is not None
        finally:
            os._exit(status)
    return "the kernel takes no filter" if os.waitpid(child, 0)[1] else None


def go_on_as_first(kernel):
    """Only a child is in the new world of processes. It goes on; this one waits for it and ends with it."""
    child = os.fork()
    if child == 0:
        # The parent is in another world, where it has no number.
        kernel.die_with(0)
        return
    os.close(0)
    os.close(1)
    os.waitpid(child, 0)
    os._exit(0)
