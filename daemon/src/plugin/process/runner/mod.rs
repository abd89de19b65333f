//! The other end: a process that loads one library, makes one instance of it and serves calls.
//!
//! One thread reads what the daemon says and never waits for anything else; calls run on threads of
//! their own, at most as many as the daemon has calls under way.

mod borrowed;
mod limits;
mod work;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::message::Order;
use super::wire::read_frame;
use borrowed::Link;
use work::Work;

/// How long ending may take, once the daemon wants it or is gone.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Why a runner cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error("is started by the daemon only: standard input is no socket of it")]
    NoSocket(#[source] io::Error),
    #[error("cannot limit itself")]
    Limits(#[source] io::Error),
    #[error("the daemon says what makes no sense")]
    Protocol,
}

/// Runs until the daemon has no more use for it.
///
/// Call it before anything else of the process has begun: limits hold for threads that come later.
pub fn run() -> Result<(), RunnerError> {
    let mut socket = socket().map_err(RunnerError::NoSocket)?;
    limits::leave_the_daemon(&socket).map_err(RunnerError::Limits)?;
    let Some(first) = read_frame(&mut socket).map_err(RunnerError::NoSocket)? else {
        return Ok(());
    };
    let Ok(Order::Load(load)) = Order::decode(first) else { return Err(RunnerError::Protocol) };
    limits::hold(load.memory_bytes).map_err(RunnerError::Limits)?;
    let writer = socket.try_clone().map_err(RunnerError::NoSocket)?;
    let link = Arc::new(Link::new(writer, load.levels));
    let work = Work::new(link.clone(), load);
    while let Ok(Some(frame)) = read_frame(&mut socket) {
        match Order::decode(frame) {
            Ok(Order::Load(_)) | Err(_) => return Err(RunnerError::Protocol),
            Ok(Order::Call(head, call)) => work.begin(head, call),
            Ok(Order::Cancel(call)) => work.cancel(call),
            Ok(Order::Release(rater)) => work.release(rater),
            Ok(Order::Answer(number, answer)) => link.answered(number, answer),
        }
    }
    link.hang_up();
    limits::end_within(END_PATIENCE);
    work.end();
    Ok(())
}

/// The socket, under a number that no plugin takes for standard input.
fn socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    // Fails for what is no socket.
    socket.peer_addr()?;
    Ok(socket)
}
