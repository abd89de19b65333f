//! A process from its start to its death, and the threads that watch it.
//!
//! One thread starts it and waits for its end (the kernel kills it when that thread ends, and with
//! it the daemon), one reads what it says, one what it writes to its standard output. Whatever ends
//! it, its whole process group is killed, and whoever waits for an answer is told.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::mailbox::Mailbox;
use super::report::{Report, Wanted};
use super::wire::read_frame;
use super::{HUNG_UP, RUNNER_COMMAND, output, serve};
use crate::fault::{Step, passed};
use crate::plugin::host_api::{Daemon, Lender, logged};

/// How long one waits to hear why a process has died; it is dead already.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);
/// Variables of the environment that hold settings of the daemon, perhaps passwords.
const SETTINGS_PREFIX: &str = "RATED__";
/// Most requests that no call asked for and that wait.
const ORPHANS_MAX: usize = 16;

/// Why a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Itself,
    /// The daemon has no more use for it.
    Wanted,
    /// That call did not end in time.
    Overdue(u64),
    /// What it said is not what the protocol says.
    Protocol(String),
}

pub(super) struct Watched {
    /// For writing; frames are written whole.
    socket: Mutex<UnixStream>,
    /// The same, for hanging up while somebody writes.
    line: UnixStream,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Until it is waited for: afterwards another process may have the number.
    pid: Option<Pid>,
    calls: BTreeMap<u64, Arc<Mailbox>>,
    ending: Option<Ending>,
    /// How it ended, once it has.
    exit: Option<String>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// What the child is given, and what is read from it.
struct Pipes {
    theirs: UnixStream,
    ours: UnixStream,
    written: io::PipeReader,
    writes: io::PipeWriter,
}

impl Watched {
    /// `on_death` is called when it ends without being asked to.
    pub(super) fn start(
        program: &Path,
        label: &str,
        lender: &Arc<Daemon>,
        on_death: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<Watched>> {
        let (ours, theirs) = UnixStream::pair()?;
        let (written, writes) = io::pipe()?;
        let (socket, line) = (Mutex::new(ours.try_clone()?), ours.try_clone()?);
        let pipes = Pipes { theirs, ours, written, writes };
        let watched =
            Arc::new(Watched { socket, line, state: Mutex::default(), changed: Condvar::new() });
        let (sender, started) = sync_channel(1);
        let (kept, program) = (watched.clone(), program.to_owned());
        let (label, lender) = (label.to_owned(), lender.clone());
        // The child dies with the thread that starts it, so that thread stays until the end.
        thread::Builder::new().name("rated-process".to_owned()).spawn(move || {
            let begun = spawn(&program, &label, pipes).and_then(|(child, readers)| {
                kept.begin(&child, readers, &lender).map(|reader| (child, reader))
            });
            match begun {
                Ok((child, reader)) => {
                    let _ = sender.send(Ok(()));
                    kept.bury(child, reader, on_death);
                }
                // Who started it waits.
                Err(error) => drop(sender.send(Err(error))),
            }
        })?;
        started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(watched)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the threads that read.
    fn begin(
        self: &Arc<Self>,
        child: &Child,
        (socket, written): (UnixStream, io::PipeReader),
        lender: &Arc<Daemon>,
    ) -> io::Result<thread::JoinHandle<()>> {
        self.lock().pid = Some(Pid::from_raw(child.id().cast_signed()));
        let (kept, asked) = (self.clone(), lender.clone());
        let reader = thread::Builder::new()
            .name("rated-process".to_owned())
            .spawn(move || kept.read(socket, &asked));
        let lender = lender.clone();
        let output = thread::Builder::new()
            .name("rated-process".to_owned())
            .spawn(move || output::pass_on(written, &*lender));
        if reader.is_err() || output.is_err() {
            self.kill(Ending::Wanted);
        }
        output?;
        reader
    }

    /// Sends a whole frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).write_all(frame)
    }

    /// What is said of a call goes there. `false`: nothing will be said any more.
    pub(super) fn expect(&self, call: u64, mailbox: Arc<Mailbox>) -> bool {
        let mut state = self.lock();
        if state.ending.is_some() || state.exit.is_some() {
            return false;
        }
        state.calls.insert(call, mailbox);
        true
    }

    pub(super) fn forget(&self, call: u64) {
        self.lock().calls.remove(&call);
    }

    /// Kills it and everything it started.
    pub(super) fn kill(&self, why: Ending) {
        let mut state = self.lock();
        state.ending.get_or_insert(why);
        state.kill();
    }

    /// Has it ended, or been killed, other than as the daemon wished?
    pub(super) fn is_dead(&self) -> bool {
        let state = self.lock();
        state.ending.as_ref().is_some_and(|ending| *ending != Ending::Wanted)
    }

    /// Why it has died; waits until that is known.
    pub(super) fn ending(&self) -> Ending {
        let state = self.lock();
        let unknown = |state: &mut State| state.ending.is_none();
        let waited = self.changed.wait_timeout_while(state, NEWS_PATIENCE, unknown);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.ending.clone().unwrap_or(Ending::Itself)
    }

    /// The same for people.
    pub(super) fn death(&self) -> String {
        let ending = self.ending();
        match (ending, &self.lock().exit) {
            (Ending::Itself, Some(exit)) => format!("its process {exit}"),
            (Ending::Itself, None) => "its process has died".to_owned(),
            (Ending::Wanted, _) => "its process has been ended".to_owned(),
            (Ending::Overdue(_), _) => {
                "its process was killed: a call did not end in time".to_owned()
            }
            (Ending::Protocol(what), _) => format!("its process was killed: {what}"),
        }
    }

    /// Asks it to end, waits for `grace`, kills it.
    pub(super) fn end(&self, grace: Duration) {
        self.lock().ending.get_or_insert(Ending::Wanted);
        // One that has died has nothing to be told.
        let _ = self.line.shutdown(Shutdown::Write);
        let state = self.lock();
        let alive = |state: &mut State| state.exit.is_none();
        let waited = self.changed.wait_timeout_while(state, grace, alive);
        waited.unwrap_or_else(PoisonError::into_inner).0.kill();
    }

    /// Waits for its end, and tells everybody.
    fn bury(&self, mut child: Child, reader: thread::JoinHandle<()>, on_death: impl FnOnce()) {
        // Until it has ended, but not yet waited for: its number is still its own.
        let pid = Pid::from_raw(child.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
        let mut state = self.lock();
        // What it started may hold the socket open.
        state.kill();
        state.pid = None;
        drop(state);
        let status = child.wait();
        // What it said before it died is heard first. The thread never panics.
        let _ = reader.join();
        let mut state = self.lock();
        state.exit = Some(status.map_or_else(|error| error.to_string(), how));
        let ending = state.ending.get_or_insert(Ending::Itself).clone();
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        // First counted, then told.
        if ending != Ending::Wanted {
            on_death();
            passed(Step::ProcessDied);
        }
        for mailbox in calls.values() {
            mailbox.gone();
        }
        self.changed.notify_all();
    }

    /// Reads until nothing can come any more.
    fn read(self: &Arc<Self>, mut socket: UnixStream, lender: &Arc<Daemon>) {
        let mut orphans = None;
        loop {
            let report = match read_frame(&mut socket) {
                Ok(Some(frame)) => Report::decode(frame),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    break self.kill(Ending::Protocol(error.to_string()));
                }
                Ok(None) | Err(_) => break self.lock().kill(),
            };
            let Ok(report) = report else {
                break self.kill(Ending::Protocol("it said what makes no sense".to_owned()));
            };
            self.take(report, lender, &mut orphans);
        }
    }

    fn take(
        self: &Arc<Self>,
        report: Report,
        lender: &Arc<Daemon>,
        orphans: &mut Option<SyncSender<(u64, Wanted)>>,
    ) {
        let call = match &report {
            Report::Log { level, place, said } => {
                return lender.log(*level, &logged(place), &logged(said));
            }
            Report::Count { metric, by } => return lender.count(metric, *by),
            Report::Observe { metric, value } => return lender.observe(metric, *value),
            Report::Columns(call, _) | Report::Outcome(call, _) | Report::Ask { call, .. } => *call,
        };
        let mailbox = self.lock().calls.get(&call).cloned();
        match (mailbox, report) {
            (Some(mailbox), report) => mailbox.put(report),
            (None, Report::Ask { number, wanted, .. }) => {
                let sender = orphans.get_or_insert_with(|| self.serve_orphans(lender));
                if sender.try_send((number, wanted)).is_err()
                    && let Ok(frame) = serve::busy(number)
                {
                    let _ = self.send(&frame);
                }
            }
            // Nobody waits for it any more.
            (None, _) => {}
        }
    }

    /// Threads of a plugin may ask what no call asked for.
    fn serve_orphans(self: &Arc<Self>, lender: &Arc<Daemon>) -> SyncSender<(u64, Wanted)> {
        let (sender, asked) = sync_channel(ORPHANS_MAX);
        let (kept, lender) = (self.clone(), lender.clone());
        let serve = move || {
            for (number, wanted) in asked {
                let frame = serve::answer(number, serve::give(&*lender, None, wanted));
                let Ok(frame) = frame else { continue };
                if kept.send(&frame).is_err() {
                    break;
                }
            }
        };
        // Without it everything asked is answered with "too much at once".
        let _ = thread::Builder::new().name("rated-process".to_owned()).spawn(serve);
        sender
    }
}

impl State {
    fn kill(&self) {
        if let Some(pid) = self.pid {
            // Both fail only when nobody is left.
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn spawn(
    program: &Path,
    label: &str,
    pipes: Pipes,
) -> io::Result<(Child, (UnixStream, io::PipeReader))> {
    let Pipes { theirs, ours, written, writes } = pipes;
    let mut command = Command::new(program);
    command
        .arg0("rated")
        // The label is for people who list processes.
        .args([RUNNER_COMMAND, label])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(writes.try_clone()?))
        .stderr(Stdio::from(writes))
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(SETTINGS_PREFIX) {
            command.env_remove(name);
        }
    }
    let begin = Instant::now();
    let child = command.spawn()?;
    tracing::debug!(label, id = child.id(), took = ?begin.elapsed(), "A process was started.");
    passed(Step::ProcessStarted);
    Ok((child, (ours, written)))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(HUNG_UP), _) => "closed its connection to the daemon".to_owned(),
        (Some(code), _) => format!("ended with the code {code}"),
        // Either somebody else killed it, or it hung up and was killed for that.
        (None, Some(9)) => "closed its connection to the daemon or was killed".to_owned(),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was ended by the signal {signal}"),
            Err(_) => format!("was ended by the signal {number}"),
        },
        (None, None) => "has ended".to_owned(),
    }
}
