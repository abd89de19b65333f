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
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use rated_plugin::Result;

use super::ask::ProcessSettings;
use super::desk::{Desk, Task, TooMuch};
use super::mailbox::Mailbox;
use super::message::Order;
use super::report::{self, Given, Report, Wanted};
use super::wire::read_frame;
use super::{HUNG_UP, RUNNER_COMMAND, output, serve};
use crate::fault::{Step, passed};
use crate::plugin::call::CallState;
use crate::plugin::host_api::{Daemon, Lender, logged};

/// How long one waits to hear why a process has died; it is dead already.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);
/// Variables of the environment that hold settings of the daemon, perhaps passwords.
const SETTINGS_PREFIX: &str = "RATED__";
/// For the allocator of a process (jemalloc): what it reserves counts against the plugin's limit,
/// and 33 to 48 MiB as the daemon has it become 13 to 15.
const ALLOCATOR: (&str, &str) = ("_RJEM_MALLOC_CONF", "background_thread:false,narenas:1");

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
    /// The same, for who may not wait for its lock.
    line: UnixStream,
    state: Mutex<State>,
    changed: Condvar,
    desk: Desk,
    /// Cancelled with its end: for what no call asks for.
    life: Arc<CallState>,
    /// What it may take, and with that most of what it may say at once.
    memory_bytes: u64,
}

/// A call that waits for its answer.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) call: Arc<CallState>,
}

#[derive(Debug, Default)]
struct State {
    /// Until it is waited for: afterwards another process may have the number.
    pid: Option<Pid>,
    calls: BTreeMap<u64, Waiter>,
    ending: Option<Ending>,
    /// Calls that were under way when it ended.
    lost: usize,
    /// It ends with the last call under way.
    retired: bool,
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
        settings: &ProcessSettings,
        label: &str,
        lender: &Arc<Daemon>,
        on_death: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<Watched>> {
        let (ours, theirs) = UnixStream::pair()?;
        let (written, writes) = io::pipe()?;
        let (socket, line) = (Mutex::new(ours.try_clone()?), ours.try_clone()?);
        let pipes = Pipes { theirs, ours, written, writes };
        let watched = Arc::new(Watched {
            socket,
            line,
            state: Mutex::default(),
            changed: Condvar::new(),
            desk: Desk::new(settings.memory_bytes),
            life: Arc::new(CallState::new()),
            memory_bytes: settings.memory_bytes,
        });
        let (sender, started) = sync_channel(1);
        let (kept, program) = (watched.clone(), settings.program.clone());
        let (label, lender) = (label.to_owned(), lender.clone());
        // The child dies with the thread that starts it, so that thread stays until the end.
        thread::Builder::new().name("rated-process".to_owned()).spawn(move || {
            let begun = spawn(&program, &label, pipes).and_then(|(mut child, readers)| {
                match kept.begin(&child, readers, &lender) {
                    Ok(reader) => Ok((child, reader)),
                    Err(error) => {
                        // Nobody else waits for it.
                        kept.lock().pid = None;
                        let _ = child.kill();
                        kept.desk.close();
                        kept.life.cancel();
                        child.wait().and(Err(error))
                    }
                }
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

    /// What was asked for.
    pub(super) fn answer(&self, number: u64, given: &Result<Given>) {
        use std::io::Write as _;
        // Made a frame by the one that writes it: no two of them are in memory twice.
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(frame) = serve::answer(number, given) {
            // One that has died asks no more.
            let _ = socket.write_all(&frame);
        }
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What is said of a call goes there. `false`: nothing will be said any more.
    pub(super) fn expect(&self, call: u64, waiter: Waiter) -> bool {
        let mut state = self.lock();
        if state.ending.is_some() || state.exit.is_some() {
            return false;
        }
        state.calls.insert(call, waiter);
        true
    }

    pub(super) fn forget(&self, call: u64) {
        let mut state = self.lock();
        state.calls.remove(&call);
        state.end_retired();
    }

    /// Takes no more calls, and is killed when none is under way.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.ends(Ending::Wanted);
        state.retired = true;
        state.end_retired();
    }

    /// Kills it and everything it started.
    pub(super) fn kill(&self, why: Ending) {
        let mut state = self.lock();
        state.ends(why);
        state.kill();
        drop(state);
        self.changed.notify_all();
    }

    /// Has it ended, or been killed, other than as the daemon wished?
    pub(super) fn is_dead(&self) -> bool {
        let state = self.lock();
        state.ending.as_ref().is_some_and(|ending| *ending != Ending::Wanted)
    }

    /// How many calls were lost with it.
    pub(super) fn lost(&self) -> usize {
        self.lock().lost
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
        self.lock().ends(Ending::Wanted);
        let timeout = Some(grace).filter(|grace| !grace.is_zero());
        let can_be_told = self.line.set_write_timeout(timeout);
        let end = Order::end().map_err(io::Error::other);
        let told = can_be_told.and(end).and_then(|end| self.send(&end));
        let state = self.lock();
        let alive = |state: &mut State| told.is_ok() && state.exit.is_none();
        let waited = self.changed.wait_timeout_while(state, grace, alive);
        waited.unwrap_or_else(PoisonError::into_inner).0.kill();
    }

    /// Waits for its end, and tells everybody.
    fn bury(&self, mut child: Child, reader: thread::JoinHandle<()>, on_death: impl FnOnce()) {
        // Until it has ended, but not yet waited for: its number is still its own.
        let pid = Pid::from_raw(child.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
        let mut state = self.lock();
        // What it started may hold the socket open.
        state.kill();
        state.pid = None;
        drop(state);
        let status = child.wait();
        // What it said before it died is heard first, and nothing else: somebody who was not
        // killed may have been given the other end.
        let _ = self.line.shutdown(Shutdown::Read);
        // The thread never panics.
        let _ = reader.join();
        let mut state = self.lock();
        state.exit = Some(status.map_or_else(|error| error.to_string(), how));
        let ending = state.ends(Ending::Itself);
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.desk.close();
        self.life.cancel();
        // First counted, then told.
        if ending != Ending::Wanted {
            on_death();
            passed(Step::ProcessDied);
        }
        for waiter in calls.values() {
            waiter.mailbox.gone();
        }
        self.changed.notify_all();
        reap(pid);
    }

    /// Reads until nothing can come any more.
    fn read(self: &Arc<Self>, mut socket: UnixStream, lender: &Arc<Daemon>) {
        let size_max = |kind| report::size_max(kind, self.memory_bytes);
        loop {
            let report = match read_frame(&mut socket, size_max) {
                Ok(Some(frame)) => Report::decode(frame),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    break self.kill(Ending::Protocol(error.to_string()));
                }
                Ok(None) | Err(_) => break self.lock().kill(),
            };
            let Ok(report) = report else {
                break self.kill(Ending::Protocol("it said what makes no sense".to_owned()));
            };
            if let Err(TooMuch) = self.take(report, lender) {
                break self.kill(Ending::Protocol("it asks for too much at once".to_owned()));
            }
        }
    }

    fn take(self: &Arc<Self>, report: Report, lender: &Arc<Daemon>) -> Result<(), TooMuch> {
        let call = match &report {
            Report::Log { level, place, said } => {
                lender.log(*level, &logged(place), &logged(said));
                return Ok(());
            }
            Report::Count { metric, by } => {
                lender.count(metric, *by);
                return Ok(());
            }
            Report::Observe { metric, value } => {
                lender.observe(metric, *value);
                return Ok(());
            }
            Report::Ask { number, wanted: Wanted::Now, .. } => {
                self.answer(*number, &Ok(Given::Number(lender.now_ns())));
                return Ok(());
            }
            Report::Columns(call, _) | Report::Outcome(call, _) | Report::Ask { call, .. } => *call,
        };
        let waiter = self.lock().calls.get(&call).cloned();
        match (waiter, report) {
            // Several at a time, if the plugin has threads for that.
            (waiter, Report::Ask { number, wanted: wanted @ Wanted::Http { .. }, .. }) => {
                let call = waiter.map_or_else(|| self.life.clone(), |waiter| waiter.call);
                self.desk.take(Task { number, wanted, call }, self, lender)
            }
            (Some(waiter), report) => {
                waiter.mailbox.put(report);
                Ok(())
            }
            (None, Report::Ask { number, wanted, .. }) => {
                let call = self.life.clone();
                self.desk.take(Task { number, wanted, call }, self, lender)
            }
            // Nobody waits for it any more.
            (None, _) => Ok(()),
        }
    }
}

/// What was killed with a process and has been left to this one, as to the first of a container, is
/// waited for: until there is no more of that group.
fn reap(group: Pid) {
    while matches!(waitid(Id::PGid(group), WaitPidFlag::WEXITED), Ok(_) | Err(Errno::EINTR)) {}
}

impl State {
    /// From now on it is known why it ends, if it was not before.
    fn ends(&mut self, why: Ending) -> Ending {
        if self.ending.is_none() {
            self.lost = self.calls.len();
        }
        self.ending.get_or_insert(why).clone()
    }

    fn end_retired(&self) {
        if self.retired && self.calls.is_empty() {
            self.kill();
        }
    }

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
        .env(ALLOCATOR.0, ALLOCATOR.1)
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
        (None, Some(9)) => "closed its connection to the daemon, or was killed by somebody else, \
                            such as the kernel when no memory is left"
            .to_owned(),
        // So ends an allocation in Rust that finds no memory.
        (None, Some(6)) => "was ended by the signal SIGABRT, perhaps for want of \
                            `process_memory_mib`"
            .to_owned(),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was ended by the signal {signal}"),
            Err(_) => format!("was ended by the signal {number}"),
        },
        (None, None) => "has ended".to_owned(),
    }
}
