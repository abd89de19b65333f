//! What a runner may take and do, set before the library is loaded.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::plugin::process::HUNG_UP;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
    close_all_but(socket)
}

/// The daemon's own files are closed at the start of any program; those that it was given itself
/// by whoever started it are not.
fn close_all_but(socket: &UnixStream) -> io::Result<()> {
    let kept = socket.as_raw_fd();
    // Read to its end first: the folder is an open file as well.
    let files: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for file in files.into_iter().filter(|file| *file > 2 && *file != kept) {
        // SAFETY: nothing in this process has been begun that uses another file.
        unsafe { libc::close(file) };
    }
    Ok(())
}

/// Memory and address space, each with the name that it has in a unit.
fn spaces(memory_bytes: u64) -> [(Resource, &'static str, u64); 2] {
    let space = memory_bytes.saturating_add(ADDRESS_SPACE_MORE);
    // The address space is for memory that counts as nobody's data: shared mappings.
    [(Resource::RLIMIT_DATA, "LimitDATA", memory_bytes), (Resource::RLIMIT_AS, "LimitAS", space)]
}

/// What the daemon itself may not take none of its processes gets.
pub(in crate::plugin) fn warn_of_less(memory_bytes: u64) {
    for (resource, limit, wanted) in spaces(memory_bytes) {
        let Ok((_, allowed)) = getrlimit(resource) else { continue };
        if allowed < wanted {
            let (allowed_mib, wanted_mib) = (allowed >> 20, wanted >> 20);
            tracing::warn!(
                limit,
                allowed_mib,
                wanted_mib,
                "Processes of plugins get less memory than `process_memory_mib` asks for."
            );
        }
    }
}

/// Memory, files, no core dumps, no other process group.
pub(super) fn hold(memory_bytes: u64) -> io::Result<()> {
    // A sanitizer keeps its books in terabytes of address space, hardly any of which is used.
    if !cfg!(sanitized) {
        for (resource, _, bytes) in spaces(memory_bytes) {
            limit(resource, bytes)?;
        }
    }
    limit(Resource::RLIMIT_NOFILE, FILES_MAX)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    prctl::set_no_new_privs()?;
    stay_in_the_group()
}

/// To no more than the daemon itself may have: that takes rights which it mostly lacks.
fn limit(resource: Resource, wanted: u64) -> io::Result<()> {
    let (_, allowed) = getrlimit(resource)?;
    let limit = wanted.min(allowed);
    Ok(setrlimit(resource, limit, limit)?)
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

/// The process ends after that time, whatever it does; a second later than the daemon ends it, if
/// there is one.
pub(super) fn end_within(secs: u32) {
    alarm::set(secs.saturating_add(1));
}
