//! Who reads at present, so that nothing is deleted that a reader may still come to.
//!
//! A reader lists slices and then reads their parts without a lock. What it listed may go out of
//! sight meanwhile, but its data file stays until everybody who began before has ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers readers in the order in which they begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    present: BTreeSet<u64>,
}

/// A reader, until it is dropped.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    readers: &'a Readers,
    number: u64,
}

/// A reader that comes back again and again, until it is dropped.
#[derive(Debug)]
pub(super) struct Stay {
    readers: Readers,
    number: u64,
}

impl Readers {
    /// As `enter`, for longer than a call.
    pub(super) fn stay(&self) -> Stay {
        Stay { readers: self.clone(), number: self.begin() }
    }

    /// Before the first look at any slice.
    pub(super) fn enter(&self) -> Presence<'_> {
        Presence { readers: self, number: self.begin() }
    }

    fn begin(&self) -> u64 {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.present.insert(number);
        number
    }

    /// Number of the next reader: everybody before it may know what can be seen now.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Whether all readers before that one have ended.
    pub(super) fn have_left(&self, before: u64) -> bool {
        self.lock().present.first().is_none_or(|first| *first >= before)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A set of numbers is sound whatever happened to the thread that held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.readers.lock().present.remove(&self.number);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.readers.lock().present.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_began_before_are_waited_for() {
        let readers = Readers::default();
        let (first, second) = (readers.enter(), readers.enter());
        let before = readers.next();
        let later = readers.enter();

        assert!(!readers.have_left(before));
        drop(second);
        assert!(!readers.have_left(before));
        drop(first);
        assert!(readers.have_left(before));
        assert!(!readers.have_left(readers.next()));
        drop(later);
        assert!(readers.have_left(readers.next()));
    }
}
