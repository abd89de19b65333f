//! What a process says of one call, until the thread that waits for it has read it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::report::Report;

/// Most messages that wait: who sends more waits, and with it all calls of that process.
const MESSAGES_MAX: usize = 16;
/// Most bytes of them; a larger one waits alone.
const BYTES_MAX: usize = 64 << 20;

/// What there is to do next.
#[derive(Debug)]
pub(super) enum Next {
    Message(Report),
    /// The call was cancelled; said once.
    Cancelled,
    /// The process has died.
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Report>,
    bytes: usize,
    cancelled: Cancelled,
    /// How many wait until there is room for what they say.
    waiting: usize,
    /// Nobody writes any more.
    gone: bool,
    /// Nobody reads any more.
    closed: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Cancelled {
    #[default]
    No,
    Yes,
    Told,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while too many messages wait.
    pub(super) fn put(&self, message: Report) {
        let size = message.size();
        let is_full = |state: &State| {
            let is_large = !state.messages.is_empty() && state.bytes + size > BYTES_MAX;
            state.messages.len() >= MESSAGES_MAX || is_large
        };
        let mut state = self.lock();
        while is_full(&state) && !state.closed {
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        if !state.closed {
            state.bytes += size;
            state.messages.push_back(message);
            self.changed.notify_all();
        }
    }

    pub(super) fn cancel(&self) {
        let mut state = self.lock();
        if state.cancelled == Cancelled::No {
            state.cancelled = Cancelled::Yes;
            self.changed.notify_all();
        }
    }

    pub(super) fn gone(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    /// Whoever puts more does not wait.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.messages.clear();
        state.bytes = 0;
        self.changed.notify_all();
    }

    /// Waits. What was said before the process died comes first.
    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            if state.cancelled == Cancelled::Yes {
                state.cancelled = Cancelled::Told;
                return Next::Cancelled;
            }
            if let Some(message) = state.messages.pop_front() {
                state.bytes -= message.size();
                self.changed.notify_all();
                return Next::Message(message);
            }
            if state.gone {
                return Next::Gone;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::plugin::process::wire::Reader;

    fn message() -> Report {
        Report::Count { metric: "x".to_owned(), by: 1 }
    }

    #[test]
    fn messages_come_before_the_news_of_a_death() {
        let mailbox = Mailbox::default();
        mailbox.put(message());
        mailbox.gone();
        mailbox.cancel();
        mailbox.cancel();

        assert!(matches!(mailbox.next(), Next::Cancelled));
        assert!(matches!(mailbox.next(), Next::Message(_)));
        assert!(matches!(mailbox.next(), Next::Gone));
    }

    #[test]
    fn what_is_large_waits_alone() {
        let large = || Report::Columns(1, Reader::new(vec![0; BYTES_MAX + 1]));
        for (first, then) in [(large(), message()), (message(), large()), (large(), large())] {
            let mailbox = Arc::new(Mailbox::default());
            let size = first.size();
            mailbox.put(first);
            let sender = mailbox.clone();
            let thread = thread::spawn(move || sender.put(then));

            assert!(waits(&mailbox, 1, &thread), "there is room for both");
            assert_eq!(mailbox.lock().bytes, size);
            assert!(matches!(mailbox.next(), Next::Message(_)));
            assert!(matches!(mailbox.next(), Next::Message(_)));

            thread.join().unwrap();
            assert_eq!(mailbox.lock().bytes, 0);
        }
    }

    /// Whether who sends has come to wait for so many messages to be read, or to its end.
    fn waits(mailbox: &Mailbox, messages: usize, sender: &JoinHandle<()>) -> bool {
        loop {
            let state = mailbox.lock();
            // One that was woken and has not looked yet still counts.
            if state.waiting > 0 && state.messages.len() == messages {
                return true;
            }
            drop(state);
            if sender.is_finished() {
                return false;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn who_sends_too_much_waits_until_it_is_read_or_nobody_will() {
        let mailbox = Arc::new(Mailbox::default());
        let sender = mailbox.clone();
        let thread = thread::spawn(move || {
            for _ in 0..3 * MESSAGES_MAX {
                sender.put(message());
            }
        });

        for _ in 0..MESSAGES_MAX {
            assert!(matches!(mailbox.next(), Next::Message(_)));
        }
        assert!(waits(&mailbox, MESSAGES_MAX, &thread), "there is room for more");
        mailbox.close();

        thread.join().unwrap();
        assert!(mailbox.lock().messages.is_empty());
    }
}
