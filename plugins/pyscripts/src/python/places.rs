//! So many things that are lent one at a time, and who gets the next one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rated_plugin::{Purpose, Result};

/// How often a wait looks whether its caller still waits.
const LOOK: Duration = Duration::from_millis(100);

/// Who goes before whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A period has to be rated, or somebody waits for a quote.
    First,
    /// What was rated is rated once more: takes what nobody else wants, and never the last one if
    /// there are several.
    Last,
}

impl From<Purpose> for Turn {
    fn from(purpose: Purpose) -> Turn {
        match purpose {
            Purpose::Period | Purpose::Quote => Turn::First,
            Purpose::Replay => Turn::Last,
        }
    }
}

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
    /// Those of [`Turn::First`] that wait.
    first_waiting: usize,
}

impl<T> Places<T> {
    pub(super) fn new(count: usize) -> Places<T> {
        let state = State { idle: Vec::new(), lent: 0, first_waiting: 0 };
        Places { count, state: Mutex::new(state), returned: Condvar::new() }
    }

    /// A place, once there is one, and what was left there. Every now and then `goes_on` says
    /// whether it is still wanted. Ends with [`Places::give_back`].
    pub(super) fn take(&self, turn: Turn, goes_on: impl Fn() -> Result<()>) -> Result<Option<T>> {
        let mut state = self.lock();
        if !self.is_free(&state, turn) {
            state.first_waiting += usize::from(turn == Turn::First);
            let waited = loop {
                if let Err(error) = goes_on() {
                    break Err(error);
                }
                let waited = self.returned.wait_timeout(state, LOOK);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if self.is_free(&state, turn) {
                    break Ok(());
                }
            };
            state.first_waiting -= usize::from(turn == Turn::First);
            if let Err(error) = waited {
                drop(state);
                // Others may have waited behind this one.
                self.returned.notify_all();
                return Err(error);
            }
        }
        state.lent += 1;
        Ok(state.idle.pop())
    }

    pub(super) fn give_back(&self, left: Option<T>) {
        let mut state = self.lock();
        state.lent -= 1;
        state.idle.extend(left);
        drop(state);
        // All, as not everybody may have it.
        self.returned.notify_all();
    }

    fn is_free(&self, state: &State<T>, turn: Turn) -> bool {
        match turn {
            Turn::First => state.lent < self.count,
            Turn::Last => {
                let count = self.count.saturating_sub(1).max(1);
                state.lent < count && state.first_waiting == 0
            }
        }
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
    fn what_is_rated_again_leaves_a_process_to_the_others() {
        let places: Places<()> = Places::new(3);
        for _ in 0..2 {
            places.take(Turn::Last, || Ok(())).unwrap();
        }

        let third = places.take(Turn::Last, || Err(rated_plugin::Error::unavailable("no")));

        assert_eq!(third.unwrap_err().message, "no");
        assert!(places.take(Turn::First, || Ok(())).unwrap().is_none());
    }

    #[test]
    fn a_period_goes_before_what_is_rated_again_and_waited_longer() {
        let places: Places<&str> = Places::new(1);
        let (said, hear) = mpsc::channel();
        places.take(Turn::First, || Ok(())).unwrap();
        thread::scope(|scope| {
            for (turn, name) in [(Turn::Last, "again"), (Turn::First, "period")] {
                let (said, places) = (said.clone(), &places);
                let waits = said.clone();
                scope.spawn(move || {
                    let waits = || {
                        let _ = waits.send("waits");
                        Ok(())
                    };
                    places.take(turn, waits).unwrap();
                    said.send(name).unwrap();
                    places.give_back(Some("idle"));
                });
                // Whoever was first says so again and again; it does no harm.
                assert_eq!(hear.recv(), Ok("waits"));
                while places.lock().first_waiting < usize::from(turn == Turn::First) {
                    thread::yield_now();
                }
            }
            places.give_back(None);
        });
        drop(said);

        let order: Vec<&str> = hear.iter().filter(|said| *said != "waits").collect();
        assert_eq!(order, ["period", "again"]);
        assert_eq!(places.take(Turn::Last, || Ok(())).unwrap(), Some("idle"));
    }
}
