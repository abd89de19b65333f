//! What a runner may take and do, set before the library is loaded; the library cannot lift it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::plugin::process::HUNG_UP;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{alarm, dup2_stdin};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Most files open at once.
const FILES_MAX: u64 = 256;
/// Address space beyond the memory that may be written to: the program, libraries, and what
/// allocators and stacks set aside and do not use.
const ADDRESS_SPACE_MORE: u64 = 4 << 30;

/// Nothing of the daemon stays but the socket, and its death is the runner's.
pub(super) fn leave_the_daemon(socket: &UnixStream) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    dup2_stdin(File::open("/dev/null")?)?;
    let kept = socket.as_raw_fd();
    close_range(3, kept - 1)?;
    close_range(kept + 1, RawFd::MAX)
}

/// Closes the files from one number to another, both included.
fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: nothing in this process has been begun that uses another file.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    // A kernel that does not know it (before 5.9) has had the daemon's files closed at the start of
    // this program: none of them is inherited.
    if outcome == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Memory, files, no core dumps, no other process group.
pub(super) fn hold(memory_bytes: u64) -> io::Result<()> {
    let space = memory_bytes.saturating_add(ADDRESS_SPACE_MORE);
    // A sanitizer keeps its books in terabytes of address space, hardly any of which is used.
    if !cfg!(sanitized) {
        setrlimit(Resource::RLIMIT_DATA, memory_bytes, memory_bytes)?;
        // For memory that counts as nobody's data: shared mappings.
        setrlimit(Resource::RLIMIT_AS, space, space)?;
    }
    setrlimit(Resource::RLIMIT_NOFILE, FILES_MAX, FILES_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_no_new_privs()?;
    stay_in_the_group()
}

/// Whatever the library starts is killed with its process group, so it may not leave that.
fn stay_in_the_group() -> io::Result<()> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let rules = [libc::SYS_setsid, libc::SYS_setpgid].map(|call| (call, Vec::new()));
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let rules = rules.into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, machine);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// The process ends without running anything of the library.
pub(super) fn end_now() -> ! {
    // SAFETY: ends the process and touches none of its memory.
    unsafe { libc::_exit(HUNG_UP) }
}

/// The process ends after that time, whatever it does.
pub(super) fn end_within(time: Duration) {
    alarm::set(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
}
