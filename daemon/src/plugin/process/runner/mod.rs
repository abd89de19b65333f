//! The other end: a process that loads one library, makes one instance of it and serves calls.
//!
//! One thread reads what the daemon says and never waits for anything else; calls, and the ends of
//! rules, run on threads of their own. Those are kept: as many as were ever busy at a time.

mod borrowed;
mod limits;
mod work;

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rated_plugin::Error;

use super::message::Order;
use super::report::Report;
use super::wire::{FRAME_SIZE_MAX, read_frame};
use borrowed::Link;
pub(in crate::plugin) use limits::warn_of_less;
use work::Work;

/// Why a runner cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error("is started by the daemon only: standard input is no socket of it")]
    NoSocket(#[source] io::Error),
    #[error("the daemon says what makes no sense")]
    Protocol,
}

/// Runs until the daemon has no more use for it.
///
/// Call it before anything else of the process has begun: limits hold for threads that come later.
pub fn run() -> Result<(), RunnerError> {
    let mut socket = socket().map_err(RunnerError::NoSocket)?;
    let is_apart = limits::leave_the_daemon(&socket);
    let Some(first) = next_of(&mut socket).map_err(RunnerError::NoSocket)? else {
        return Ok(());
    };
    let Ok(Order::Load(load)) = Order::decode(first) else { return Err(RunnerError::Protocol) };
    let is_limited = is_apart.and_then(|()| limits::hold(load.memory_bytes));
    let writer = match is_limited.and_then(|()| socket.try_clone()) {
        Ok(writer) => writer,
        Err(error) => {
            refuse(&mut socket, &error);
            return Ok(());
        }
    };
    let mut next = move || next_of(&mut socket);
    let grace_secs = load.grace_secs;
    let link = Arc::new(Link::new(writer, load.levels));
    let work = Arc::new(Work::new(link.clone(), load));
    let mut ending = None;
    while let Ok(Some(frame)) = next() {
        match Order::decode(frame) {
            Ok(Order::Load(_)) | Err(_) => return Err(RunnerError::Protocol),
            Ok(Order::Call(head, call)) => work.begin(head, call),
            Ok(Order::Cancel(call)) => work.cancel(call),
            Ok(Order::Release(rater)) => work.release(rater),
            Ok(Order::Answer(number, answer)) => link.answered(number, answer),
            // Answers come in until it has ended: it may have something to store.
            Ok(Order::End) => {
                limits::end_within(grace_secs);
                ending = ending.or_else(|| begin_to_end(&work, &link));
            }
        }
    }
    link.hang_up();
    // The daemon may be gone, and nobody else kills it then.
    limits::end_within(grace_secs);
    match ending {
        // It ends by itself; a panic of it has been written to standard error.
        Some(ending) => drop(ending.join()),
        None => work.end(),
    }
    Ok(())
}

fn next_of(socket: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    read_frame(socket, |_| FRAME_SIZE_MAX)
}

/// Whoever calls a process that could not be limited is told so; it loads nothing.
fn refuse(socket: &mut UnixStream, error: &io::Error) {
    let refused = Err(Error::unavailable(format!("its process cannot limit itself: {error}")));
    while let Ok(Some(frame)) = next_of(socket) {
        let Ok(Order::Call(head, _)) = Order::decode(frame) else { return };
        let said = Report::outcome(head.number, &refused, |_| {}).map_err(io::Error::other);
        if said.and_then(|said| socket.write_all(&said)).is_err() {
            return;
        }
    }
}

/// On a thread of its own; `None`: there is none to be had, so nothing is answered meanwhile.
fn begin_to_end(work: &Arc<Work>, link: &Arc<Link>) -> Option<JoinHandle<()>> {
    let (work, kept) = (work.clone(), link.clone());
    let thread = thread::Builder::new().name("end".to_owned());
    let ending = thread.spawn(move || {
        work.end();
        kept.read_no_more();
    });
    if ending.is_err() {
        link.read_no_more();
    }
    ending.ok()
}

/// The socket, under a number that no plugin takes for standard input.
fn socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    // Fails for what is no socket.
    socket.peer_addr()?;
    Ok(socket)
}
