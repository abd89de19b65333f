//! So many things that are lent one at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rated_plugin::Result;

/// How often a wait looks whether its caller still waits.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Places<T> {
    /// How many there are.
    count: usize,
    state: Mutex<State<T>>,
    returned: Condvar,
}

#[derive(Debug)]
struct State<T> {
    idle: Vec<T>,
    lent: usize,
}

impl<T> Places<T> {
    pub(super) fn new(count: usize) -> Places<T> {
        let state = State { idle: Vec::new(), lent: 0 };
        Places { count, state: Mutex::new(state), returned: Condvar::new() }
    }

    /// A place, once there is one, and what was left there. Every now and then `goes_on` says
    /// whether it is still wanted. Ends with [`Places::give_back`].
    pub(super) fn take(&self, goes_on: impl Fn() -> Result<()>) -> Result<Option<T>> {
        let mut state = self.lock();
        while state.lent >= self.count {
            goes_on()?;
            let waited = self.returned.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lent += 1;
        Ok(state.idle.pop())
    }

    pub(super) fn give_back(&self, left: Option<T>) {
        let mut state = self.lock();
        state.lent -= 1;
        state.idle.extend(left);
        drop(state);
        self.returned.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_finds_no_place_waits_until_one_comes_back_or_is_wanted_no_more() {
        let places: Places<&str> = Places::new(2);
        for _ in 0..2 {
            assert_eq!(places.take(|| Ok(())).unwrap(), None);
        }
        let third = places.take(|| Err(rated_plugin::Error::unavailable("no")));
        assert_eq!(third.unwrap_err().message, "no");

        let (waits, hear) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                places.take(|| {
                    waits.send(()).unwrap();
                    Ok(())
                })
            });
            hear.recv().unwrap();
            places.give_back(Some("idle"));
            assert_eq!(waiting.join().unwrap().unwrap(), Some("idle"));
        });
    }
}
