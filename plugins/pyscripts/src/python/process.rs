//! One process: started, asked, ended.

use std::fs::{DirBuilder, remove_dir_all};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rated_plugin::Call;
use uuid::Uuid;

use super::RUNNER;
use super::filter;
use super::messages::{ANSWER_SIZE_MAX, Missing, Request, Scripts, Start};
use crate::settings::{Limits, Wall};

/// Largest message to a process, bytes.
pub(super) const REQUEST_SIZE_MAX: usize = 64 << 20;
/// How often a wait looks whether its caller still waits.
const LOOK: Duration = Duration::from_millis(100);
/// How long a process may take to start, or to compile.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer; the process is of no use any more.
#[derive(Debug)]
pub(super) enum Lost {
    /// It ended, or does not keep to the protocol.
    Ended,
    /// It answers too late.
    Late,
    /// The caller waits no longer.
    Cancelled,
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Lost {
        Lost::Ended
    }
}

/// A running process with its folder; both go when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// The scripts it was given last.
    pub(super) loaded: Option<std::sync::Arc<Scripts>>,
    is_waited_for: bool,
    _folder: Folder,
}

impl Process {
    /// Starts one; nothing of the daemon but three pipes comes along.
    pub(super) fn start(python: &Path, limits: &Limits) -> io::Result<Process> {
        let folder = Folder::new()?;
        let (filter, missing) = walls(&limits.left_out);
        let start = Start {
            memory_bytes: limits.memory_bytes,
            cpu_secs: limits.cpu_secs,
            wall_secs: limits.wall.as_secs(),
            answer_bytes: ANSWER_SIZE_MAX,
            modules: &limits.modules,
            filter,
            missing,
        };
        let start = serde_json::to_string(&start).map_err(io::Error::other)?;
        let mut child = Command::new(python)
            .args(["-s", "-S", "-B", "-X", "utf8", "-c", RUNNER, &start])
            .env_clear()
            // Sets of texts have the same order in every process: the same usage, the same prices.
            .env("PYTHONHASHSEED", "0")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&folder.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            kill_group(&mut child);
            return Err(io::Error::other("the process has no pipes"));
        };
        let (loaded, is_waited_for) = (None, false);
        let process = Process { child, input, output, loaded, is_waited_for, _folder: folder };
        unblocked(&process.input)?;
        unblocked(&process.output)?;
        Ok(process)
    }

    /// Is it still there, as far as one can see?
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_waited_for = !matches!(self.child.try_wait(), Ok(None));
        !self.is_waited_for
    }

    /// Sends a message, the request's bytes, and waits for the answer.
    pub(super) fn ask(
        &mut self,
        call: &Call,
        (request, message): (&Request<'_>, &[u8]),
        patience: Duration,
    ) -> Result<Vec<u8>, Lost> {
        let end = Instant::now() + patience;
        let size = u32::try_from(message.len()).map_err(|_| Lost::Ended)?;
        let answer_size_max = u32::try_from(request.answer_size_max()).map_err(|_| Lost::Ended)?;
        let mut head = vec![request.letter()];
        head.extend(size.to_be_bytes());
        head.extend(answer_size_max.to_be_bytes());
        self.send(call, &head, end)?;
        self.send(call, message, end)?;
        self.receive(call, end)
    }

    /// The next message.
    pub(super) fn receive(&mut self, call: &Call, end: Instant) -> Result<Vec<u8>, Lost> {
        let mut head = [0; 4];
        self.fill(call, &mut head, end)?;
        let size = usize::try_from(u32::from_be_bytes(head)).map_err(|_| Lost::Ended)?;
        if size > ANSWER_SIZE_MAX {
            return Err(Lost::Ended);
        }
        let mut body = vec![0; size];
        self.fill(call, &mut body, end)?;
        Ok(body)
    }

    fn send(&mut self, call: &Call, mut left: &[u8], end: Instant) -> Result<(), Lost> {
        while !left.is_empty() {
            match self.input.write(left) {
                Ok(0) => return Err(Lost::Ended),
                Ok(size) => left = &left[size..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.input, PollFlags::POLLOUT, call, end)?;
                }
                Err(_) => return Err(Lost::Ended),
            }
        }
        Ok(())
    }

    fn fill(&mut self, call: &Call, buffer: &mut [u8], end: Instant) -> Result<(), Lost> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.output.read(&mut buffer[filled..]) {
                Ok(0) => return Err(Lost::Ended),
                Ok(size) => filled += size,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.output, PollFlags::POLLIN, call, end)?;
                }
                Err(_) => return Err(Lost::Ended),
            }
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_waited_for {
            kill_group(&mut self.child);
        }
    }
}

/// The program of the filter, and what is not to be built.
fn walls(left_out: &[Wall]) -> (Vec<(u16, u8, u8, u32)>, Missing) {
    let not_asked = |wall| left_out.contains(&wall).then(|| "not asked for".to_owned());
    let mut missing =
        Missing { namespaces: not_asked(Wall::Namespaces), filter: not_asked(Wall::Filter) };
    let program = filter::program().unwrap_or_else(|error| {
        missing.filter = Some(error.to_string());
        Vec::new()
    });
    let lines = program.iter().map(|line| (line.code, line.jt, line.jf, line.k));
    (lines.collect(), missing)
}

/// Ends a process and those of its group; none of them can refuse.
///
/// It must not have been waited for: only then its number is surely nobody else's.
pub(super) fn kill_group(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn unblocked(pipe: &impl AsFd) -> io::Result<()> {
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Waits until a pipe can go on.
fn wait(pipe: &impl AsFd, what: PollFlags, call: &Call, end: Instant) -> Result<(), Lost> {
    loop {
        if call.is_cancelled() {
            return Err(Lost::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::Late);
        }
        let timeout = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(pipe.as_fd(), what)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(_) => return Err(Lost::Ended),
        }
    }
}

/// Whether there is something to read, or the end, within the time.
pub(super) fn wait_readable(pipe: &impl AsFd, timeout: PollTimeout) -> io::Result<bool> {
    Ok(poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout)? > 0)
}

/// An empty folder of one's own below the system's folder for such. The process removes it while
/// it stands in it; this is for one that never came so far.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!(
            "rated-pyscripts-{}-{}",
            std::process::id(),
            Uuid::new_v4()
        ));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.path);
    }
}
