//! Threads that help those who read much.
//!
//! A reader works itself; of the helpers there are as many in the whole process as processors, less
//! one, so that queries that come together share them and none waits for another.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Most helpers, however many processors there are.
const HELPERS_MAX: usize = 15;

/// Those at work.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// A helper's place, until it is dropped.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let max = (processors - 1).min(HELPERS_MAX);
        let more = |helpers: usize| (helpers < max).then_some(helpers + 1);
        HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HELPERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does `work` in this thread, and at the same time in up to so many others as are free. What all
/// of them return, this thread's first.
pub(super) fn with_helpers<T: Send>(helpers_max: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let places: Vec<Place> = (0..helpers_max).map_while(|_| Place::take()).collect();
    if places.is_empty() {
        return vec![work()];
    }
    thread::scope(|scope| {
        let work = &work;
        let help = |place: Place| {
            let help = move || {
                let _place = place;
                work()
            };
            // Without a thread there is one helper less.
            thread::Builder::new().name("ledger-scan".to_owned()).spawn_scoped(scope, help).ok()
        };
        let helpers: Vec<_> = places.into_iter().filter_map(help).collect();
        let mut done = vec![work()];
        for helper in helpers {
            match helper.join() {
                Ok(part) => done.push(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_done_once() {
        let next = AtomicUsize::new(0);
        let take = || {
            let mut taken = Vec::new();
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    job @ 0..1000 => taken.push(job),
                    _ => return taken,
                }
            }
        };

        let mut jobs = with_helpers(3, take).concat();

        jobs.sort_unstable();
        assert_eq!(jobs, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_gets_to_the_reader_and_frees_the_place() {
        for _ in 0..=HELPERS_MAX {
            let broken = std::panic::catch_unwind(|| with_helpers(1, || panic!("broken")));
            assert!(broken.is_err());
        }
    }
}
