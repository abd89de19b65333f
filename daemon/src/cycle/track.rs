use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is left to do of one metric: for each scope (by its index) the begin of its next period.
///
/// A scope's periods are handed out one after the other: a scope that is handed out is nobody
/// else's until it is put back.
#[derive(Debug, Default)]
pub(super) struct Track {
    scopes: Vec<TrackScope>,
    /// By begin of the next period, and whatever keeps scopes apart.
    waiting: BTreeMap<(i64, GroupTag), BTreeSet<u32>>,
    /// Scopes that share slices with nobody of another tag.
    tags: HashMap<u32, GroupTag>,
    held: BTreeSet<u32>,
    tag_last: GroupTag,
}

type GroupTag = u32;

#[derive(Debug, Clone, Copy)]
struct TrackScope {
    next_begin: i64,
    place: Place,
    active: bool,
    /// The round of synchronisation in which it was last put back.
    round: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    HandedOut,
    /// The ledger is to be read before it goes on.
    Doubtful,
    Held,
    Inactive,
}

impl Track {
    /// Takes over what the ledger says: `next_begin` and `active` by scope index.
    ///
    /// Scopes that are handed out stay as they are, and so do those that came back since `round`
    /// began: the ledger was perhaps read before that.
    pub(super) fn sync(&mut self, next_begin: &[i64], active: &[bool], round: u32) {
        self.waiting.clear();
        for (scope, (&next_begin, &active)) in (0_u32..).zip(next_begin.iter().zip(active)) {
            let index = scope as usize;
            if index == self.scopes.len() {
                let round = round.wrapping_sub(1);
                self.scopes.push(TrackScope { next_begin, place: Place::Inactive, active, round });
            }
            let known = &mut self.scopes[index];
            known.active = active;
            let is_read_too_early = known.place == Place::Doubtful && known.round == round;
            if known.place == Place::HandedOut || is_read_too_early {
                continue;
            }
            if known.round != round {
                known.next_begin = next_begin;
            }
            if known.place != Place::Held {
                let next_begin = known.next_begin;
                self.put(scope, next_begin);
            }
        }
    }

    /// Begin of the oldest period that waits.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.waiting.keys().next().map(|(begin, _)| *begin)
    }

    /// Hands out scopes whose next period is the oldest that waits, in order of their index.
    pub(super) fn take(&mut self, scopes_max: usize) -> Option<(i64, Vec<u32>)> {
        let mut group = self.waiting.first_entry()?;
        let (begin, _) = *group.key();
        let mut taken = Vec::new();
        while taken.len() < scopes_max {
            let Some(scope) = group.get_mut().pop_first() else { break };
            self.scopes[scope as usize].place = Place::HandedOut;
            taken.push(scope);
        }
        if group.get().is_empty() {
            group.remove();
        }
        Some((begin, taken))
    }

    /// The scopes' next period begins there; they may be handed out again.
    pub(super) fn put_back(&mut self, scopes: &[u32], next_begin: i64, round: u32) {
        for scope in scopes {
            let known = &mut self.scopes[*scope as usize];
            debug_assert_eq!(known.place, Place::HandedOut, "only what was handed out comes back");
            known.round = round;
            self.put(*scope, next_begin);
        }
    }

    /// Like [`Track::put_back`], but they are not handed out before [`Track::release`].
    pub(super) fn put_aside(&mut self, scopes: &[u32], next_begin: i64, round: u32) {
        for scope in scopes {
            let known = &mut self.scopes[*scope as usize];
            debug_assert_eq!(known.place, Place::HandedOut, "only what was handed out comes back");
            *known = TrackScope { next_begin, place: Place::Held, round, ..*known };
            self.held.insert(*scope);
        }
    }

    /// Like [`Track::put_back`], but where they stand is what the ledger says when it is read next.
    pub(super) fn doubt(&mut self, scopes: &[u32], round: u32) {
        for scope in scopes {
            let known = &mut self.scopes[*scope as usize];
            debug_assert_eq!(known.place, Place::HandedOut, "only what was handed out comes back");
            *known = TrackScope { place: Place::Doubtful, round, ..*known };
        }
    }

    /// Lets those go on that are held back no longer.
    pub(super) fn release(&mut self, is_free: impl Fn(u32) -> bool) {
        let free: Vec<u32> = self.held.iter().copied().filter(|scope| is_free(*scope)).collect();
        for scope in free {
            self.held.remove(&scope);
            self.put(scope, self.scopes[scope as usize].next_begin);
        }
    }

    /// From now on these share slices with each other alone.
    pub(super) fn set_apart(&mut self, scopes: &[u32]) {
        self.tag_last += 1;
        for scope in scopes {
            self.tags.insert(*scope, self.tag_last);
        }
    }

    /// From now on these share slices with everybody again.
    pub(super) fn rejoin(&mut self, scopes: &[u32]) {
        if !self.tags.is_empty() {
            for scope in scopes {
                self.tags.remove(scope);
            }
        }
    }

    /// Begin of the oldest period that an active scope needs next, wherever the scope is at
    /// present.
    pub(super) fn furthest_behind(&self) -> Option<i64> {
        self.scopes.iter().filter(|scope| scope.active).map(|scope| scope.next_begin).min()
    }

    fn put(&mut self, scope: u32, next_begin: i64) {
        let tag = self.tags.get(&scope).copied().unwrap_or(0);
        let known = &mut self.scopes[scope as usize];
        known.next_begin = next_begin;
        if known.active {
            known.place = Place::Waiting;
            self.waiting.entry((next_begin, tag)).or_default().insert(scope);
        } else {
            known.place = Place::Inactive;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(next_begin: &[i64]) -> Track {
        let mut track = Track::default();
        track.sync(next_begin, &vec![true; next_begin.len()], 1);
        track
    }

    #[test]
    fn the_oldest_period_is_handed_out_first_and_to_nobody_twice() {
        let mut track = track(&[20, 10, 20, 10, 10]);

        assert_eq!(track.take(2), Some((10, vec![1, 3])));
        assert_eq!(track.take(9), Some((10, vec![4])));
        track.put_back(&[1, 3], 20, 1);

        assert_eq!(track.take(9), Some((20, vec![0, 1, 2, 3])));
        assert_eq!(track.take(9), None);
        assert_eq!(track.furthest_behind(), Some(10));
    }

    #[test]
    fn what_came_back_since_the_ledger_was_read_is_newer_than_what_was_read() {
        let mut track = track(&[10, 10]);
        track.take(1);
        let stale = [10, 10];

        track.put_back(&[0], 20, 2);
        track.sync(&stale, &[true, true], 2);
        assert_eq!(track.take(9), Some((10, vec![1])));
        assert_eq!(track.take(9), Some((20, vec![0])));
        track.put_back(&[0], 30, 2);

        // The next reading is newer: the scope was set back in between.
        track.sync(&[10, 10], &[true, true], 3);
        assert_eq!(track.take(9), Some((10, vec![0])));
    }

    #[test]
    fn what_is_doubtful_goes_on_where_the_ledger_says_when_it_is_read_next() {
        let mut track = track(&[30, 30]);
        track.take(9);
        track.doubt(&[0], 2);
        track.put_back(&[1], 40, 2);

        // This reading began before: nobody knows what it saw.
        track.sync(&[30, 30], &[true, true], 2);
        assert_eq!(track.take(9), Some((40, vec![1])));
        assert_eq!(track.take(9), None);

        track.sync(&[10, 40], &[true, true], 3);
        assert_eq!(track.take(9), Some((10, vec![0])));
    }

    #[test]
    fn inactive_scopes_are_left_out_and_come_back_where_they_were() {
        let mut track = track(&[10, 10, 10]);
        track.sync(&[10, 10, 10], &[true, false, true], 2);
        assert_eq!(track.take(9), Some((10, vec![0, 2])));
        track.put_back(&[0, 2], 20, 2);

        track.sync(&[20, 10, 20], &[true, true, true], 3);

        assert_eq!(track.take(9), Some((10, vec![1])));
    }

    #[test]
    fn what_is_put_aside_waits_until_it_is_released() {
        let mut track = track(&[10, 10]);
        track.take(9);
        track.put_aside(&[1], 10, 1);
        track.put_back(&[0], 20, 1);
        track.sync(&[20, 10], &[true, true], 2);
        assert_eq!(track.take(9), Some((20, vec![0])));

        track.release(|_| true);

        assert_eq!(track.take(9), Some((10, vec![1])));
    }

    #[test]
    fn scopes_that_are_set_apart_share_slices_with_each_other_alone() {
        let mut track = track(&[10, 10, 10, 10]);
        track.take(9);
        track.set_apart(&[0, 1]);
        track.set_apart(&[2, 3]);
        track.put_back(&[0, 1, 2, 3], 10, 1);

        assert_eq!(track.take(9), Some((10, vec![0, 1])));
        assert_eq!(track.take(9), Some((10, vec![2, 3])));
        track.rejoin(&[0, 1, 2, 3]);
        track.put_back(&[0, 1, 2, 3], 20, 1);

        assert_eq!(track.take(9), Some((20, vec![0, 1, 2, 3])));
    }
}
