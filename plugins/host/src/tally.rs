//! What each user consumed between two looks at the machine.
//!
//! CPU time of a process that is there at both looks, or is new, is known. What a process used
//! between the last look and its end is not; but who waited for it inherits its whole counters. So
//! of each process the growth of the inherited counter is taken, less what was already counted of
//! the children that ended: the rest is what nobody saw. It goes to the user of the child that was
//! seen most, or to the parent's when the child was never seen.
//!
//! - Nothing is counted twice. A look takes time: a child may be gone while its parent was read
//!   before it inherited. So what could not be deducted yet is deducted at the next look.
//!   An orphan is inherited by process 1 (or by a reaper of the session): what is missing at the
//!   expected parent is deducted there.
//! - Where control groups count a user's slice, that counter says what nobody saw, exactly, and the
//!   inherited counters of the slice are not used.
//! - What can be lost, always in the user's favour: the last moments of a process whose parent
//!   ignores its end, outside of slices.
//!
//! I/O is done the same way, but there a process has one counter for its own and the inherited, so
//! that what nobody saw goes to the parent's user.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Process, Snapshot};

/// Longest chain of ended parents that is followed.
const ANCESTORS_MAX: usize = 1024;

/// What a user consumed between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Consumption {
    pub(crate) cpu_ns: u64,
    pub(crate) io_bytes: u64,
    /// Resident memory at the first look plus that at the second.
    pub(crate) memory_bytes_twice: u64,
    /// Processes at the first look plus those at the second.
    pub(crate) processes_twice: u64,
}

pub(crate) type ByUser = BTreeMap<u32, Consumption>;

/// The last look, and what was counted ahead of the machine's own books.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last: Snapshot,
    /// By process: what was counted of children that ended, and it has not inherited yet.
    cpu_ahead: BTreeMap<u32, u64>,
    io_ahead: BTreeMap<u32, u64>,
    /// By slice: CPU time counted by process before the slice's own counter showed it.
    slice_ahead: BTreeMap<u32, u64>,
}

/// A process that may have inherited.
#[derive(Debug, Default)]
struct Parent {
    gained: u64,
    /// Counted of its children that ended since the last look.
    credit: u64,
    /// The same from the look before.
    ahead: u64,
    /// It may have adopted children that were expected elsewhere.
    is_adopter: bool,
}

/// The child that ended and was seen most.
#[derive(Debug, Clone, Copy)]
struct Heir {
    seen_ns: u64,
    uid: u32,
    slice: Option<u32>,
}

impl Tally {
    pub(crate) fn new(first: Snapshot) -> Tally {
        Tally { last: first, ..Tally::default() }
    }

    /// What was consumed since the last look.
    pub(crate) fn advance(&mut self, next: Snapshot) -> ByUser {
        let mut users = ByUser::new();
        let last = std::mem::take(&mut self.last);
        for snapshot in [&last, &next] {
            for process in snapshot.processes.values() {
                let user = users.entry(process.uid).or_default();
                user.memory_bytes_twice += process.memory_bytes;
                user.processes_twice += u64::from(!process.is_zombie);
            }
        }
        let step = Step::new(&last, &next);
        for (pid, process) in &next.processes {
            let grown = step.own_growth(*pid, process);
            users.entry(process.uid).or_default().cpu_ns += grown;
        }
        self.add_unseen_cpu(&step, &mut users);
        self.add_slices(&step, &mut users);
        self.add_io(&step, &mut users);
        self.last = next;
        users.retain(|_, user| *user != Consumption::default());
        users
    }

    fn add_unseen_cpu(&mut self, step: &Step<'_>, users: &mut ByUser) {
        let seen = |process: &Process| process.own_ns + process.reaped_ns;
        let mut parents = step.parents(&self.cpu_ahead, seen);
        for (pid, parent) in &mut parents {
            let old = step.before(*pid).map_or(0, |old| old.reaped_ns);
            parent.gained = step.next.processes[pid].reaped_ns.saturating_sub(old);
            parent.is_adopter = *pid == 1 || (parent.gained > 0 && parent.credit == 0);
        }
        let (surpluses, ahead) = settle(&parents);
        self.cpu_ahead = ahead;
        for (pid, surplus) in surpluses {
            let process = &step.next.processes[&pid];
            let heir = step.heirs.get(&pid);
            let slices = [process.slice, heir.and_then(|heir| heir.slice)];
            if slices.iter().flatten().any(|slice| step.next.slices.contains_key(slice)) {
                continue;
            }
            let uid = heir.map_or(process.uid, |heir| heir.uid);
            users.entry(uid).or_default().cpu_ns += surplus;
        }
    }

    fn add_slices(&mut self, step: &Step<'_>, users: &mut ByUser) {
        let mut counted: BTreeMap<u32, u64> = BTreeMap::new();
        for (pid, process) in &step.next.processes {
            let grown = step.own_growth(*pid, process);
            if let Some(slice) = process.slice {
                *counted.entry(slice).or_default() += grown;
            }
        }
        let mut ahead_next = BTreeMap::new();
        for (slice, usage_ns) in &step.next.slices {
            let grown = usage_ns.saturating_sub(step.last.slices.get(slice).copied().unwrap_or(0));
            let counted = counted.get(slice).copied().unwrap_or(0);
            let ahead = self.slice_ahead.get(slice).copied().unwrap_or(0);
            match grown.checked_sub(counted.saturating_add(ahead)) {
                Some(unseen) => users.entry(*slice).or_default().cpu_ns += unseen,
                None => {
                    ahead_next.insert(*slice, counted.saturating_add(ahead) - grown);
                }
            }
        }
        self.slice_ahead = ahead_next;
    }

    fn add_io(&mut self, step: &Step<'_>, users: &mut ByUser) {
        let mut parents = step.parents(&self.io_ahead, |process| process.io_bytes.unwrap_or(0));
        let mut unreadable = BTreeSet::new();
        for (pid, parent) in &mut parents {
            let process = &step.next.processes[pid];
            let old = step.before(*pid);
            let old_bytes = old.map_or(Some(0), |old| old.io_bytes);
            let (Some(bytes), Some(old_bytes)) = (process.io_bytes, old_bytes) else {
                unreadable.insert(*pid);
                continue;
            };
            parent.gained = bytes.saturating_sub(old_bytes);
            let has_reaped = process.reaped_ns > old.map_or(0, |old| old.reaped_ns);
            parent.is_adopter = *pid == 1 || (has_reaped && parent.credit == 0);
        }
        parents.retain(|pid, _| !unreadable.contains(pid));
        let (surpluses, ahead) = settle(&parents);
        self.io_ahead = ahead;
        for (pid, surplus) in surpluses {
            users.entry(step.next.processes[&pid].uid).or_default().io_bytes += surplus;
        }
    }
}

/// Two looks and who ended between them.
struct Step<'a> {
    last: &'a Snapshot,
    next: &'a Snapshot,
    /// The process that ended, and the nearest ancestor that is still there.
    ended: Vec<(&'a Process, u32)>,
    heirs: BTreeMap<u32, Heir>,
}

impl<'a> Step<'a> {
    fn new(last: &'a Snapshot, next: &'a Snapshot) -> Step<'a> {
        let mut step = Step { last, next, ended: Vec::new(), heirs: BTreeMap::new() };
        for (pid, process) in &last.processes {
            if step.survives(*pid) {
                continue;
            }
            let Some(ancestor) = step.surviving_ancestor(process) else { continue };
            step.ended.push((process, ancestor));
            let seen_ns = process.own_ns + process.reaped_ns;
            let heir = Heir { seen_ns, uid: process.uid, slice: process.slice };
            let best = step.heirs.entry(ancestor).or_insert(heir);
            if seen_ns > best.seen_ns {
                *best = heir;
            }
        }
        step
    }

    /// The same process at the last look.
    fn before(&self, pid: u32) -> Option<&'a Process> {
        let start_ticks = self.next.processes.get(&pid)?.start_ticks;
        self.last.processes.get(&pid).filter(|process| process.start_ticks == start_ticks)
    }

    fn own_growth(&self, pid: u32, process: &Process) -> u64 {
        process.own_ns.saturating_sub(self.before(pid).map_or(0, |old| old.own_ns))
    }

    fn survives(&self, pid: u32) -> bool {
        self.before(pid).is_some()
    }

    fn surviving_ancestor(&self, process: &Process) -> Option<u32> {
        let mut parent = process.parent;
        for _ in 0..ANCESTORS_MAX {
            if self.survives(parent) {
                return Some(parent);
            }
            match self.last.processes.get(&parent) {
                Some(ended) => parent = ended.parent,
                None => break,
            }
        }
        self.survives(1).then_some(1)
    }

    /// All processes of the next look with what was counted of their ended children.
    fn parents(
        &self,
        ahead: &BTreeMap<u32, u64>,
        seen: impl Fn(&Process) -> u64,
    ) -> BTreeMap<u32, Parent> {
        let mut parents: BTreeMap<u32, Parent> =
            self.next.processes.keys().map(|pid| (*pid, Parent::default())).collect();
        for (process, ancestor) in &self.ended {
            if let Some(parent) = parents.get_mut(ancestor) {
                parent.credit += seen(process);
            }
        }
        for (pid, ahead) in ahead {
            if let Some(parent) = parents.get_mut(pid).filter(|_| self.survives(*pid)) {
                parent.ahead = *ahead;
            }
        }
        parents
    }
}

/// What each gained and nobody had counted, and what was counted and nobody has gained yet.
fn settle(parents: &BTreeMap<u32, Parent>) -> (Vec<(u32, u64)>, BTreeMap<u32, u64>) {
    let expected = |parent: &Parent| parent.credit + parent.ahead;
    let mut missing: u64 =
        parents.values().map(|parent| expected(parent).saturating_sub(parent.gained)).sum();
    let mut surpluses = Vec::new();
    let mut ahead = BTreeMap::new();
    for (pid, parent) in parents {
        let mut surplus = parent.gained.saturating_sub(expected(parent));
        if parent.is_adopter {
            let adopted = surplus.min(missing);
            surplus -= adopted;
            missing -= adopted;
        }
        if surplus > 0 {
            surpluses.push((*pid, surplus));
        }
        // Only once: a parent that has not inherited by the next look never will.
        let deficit = expected(parent).saturating_sub(parent.gained).min(parent.credit);
        if deficit > 0 {
            ahead.insert(*pid, deficit);
        }
    }
    (surpluses, ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u32 = 0;
    const ANN: u32 = 1000;
    const BOB: u32 = 1001;

    fn process(parent: u32, uid: u32, own_ns: u64, reaped_ns: u64) -> Process {
        Process { parent, uid, own_ns, reaped_ns, io_bytes: Some(0), ..Process::default() }
    }

    fn look(processes: &[(u32, Process)]) -> Snapshot {
        Snapshot { processes: processes.iter().copied().collect(), slices: BTreeMap::new() }
    }

    fn cpu(users: &ByUser, uid: u32) -> u64 {
        users.get(&uid).map_or(0, |user| user.cpu_ns)
    }

    #[test]
    fn what_grew_and_what_is_new_belongs_to_its_user() {
        let mut tally =
            Tally::new(look(&[(1, process(0, ROOT, 50, 0)), (7, process(1, ANN, 10, 0))]));

        let users = tally.advance(look(&[
            (1, process(0, ROOT, 51, 0)),
            (7, process(1, ANN, 30, 0)),
            (8, process(7, BOB, 5, 0)),
        ]));

        assert_eq!((cpu(&users, ROOT), cpu(&users, ANN), cpu(&users, BOB)), (1, 20, 5));
        assert_eq!(users[&ANN].processes_twice, 2);
        assert_eq!(users[&BOB].processes_twice, 1);
    }

    #[test]
    fn a_reused_process_number_is_a_new_process() {
        let mut tally = Tally::new(look(&[(7, process(1, ANN, 1000, 0))]));
        let reused = Process { start_ticks: 1, ..process(1, BOB, 3, 0) };

        let users = tally.advance(look(&[(7, reused)]));

        assert_eq!((cpu(&users, ANN), cpu(&users, BOB)), (0, 3));
    }

    #[test]
    fn the_last_moments_of_a_child_are_not_lost_and_not_doubled() {
        // Root's parent waits for ann's child, which had been seen with 40 and ends with 100.
        let mut tally =
            Tally::new(look(&[(3, process(1, ROOT, 0, 500)), (4, process(3, ANN, 30, 10))]));

        let users = tally.advance(look(&[(3, process(1, ROOT, 0, 600))]));

        assert_eq!((cpu(&users, ANN), cpu(&users, ROOT)), (60, 0));
    }

    #[test]
    fn children_that_nobody_saw_belong_to_their_parents_user() {
        let mut tally = Tally::new(look(&[(3, process(1, ANN, 0, 0))]));

        let users = tally.advance(look(&[(3, process(1, ANN, 1, 25))]));

        assert_eq!(cpu(&users, ANN), 26);
    }

    #[test]
    fn a_child_that_is_gone_before_its_parent_inherits_is_deducted_at_the_next_look() {
        let mut tally =
            Tally::new(look(&[(3, process(1, ANN, 0, 0)), (4, process(3, ANN, 40, 0))]));

        let first = tally.advance(look(&[(3, process(1, ANN, 0, 0))]));
        let second = tally.advance(look(&[(3, process(1, ANN, 0, 45))]));

        assert_eq!((cpu(&first, ANN), cpu(&second, ANN)), (0, 5));
    }

    #[test]
    fn an_orphan_is_deducted_where_it_is_inherited() {
        // Bob's parent 5 and child 6 end together; the child goes to process 1 instead.
        let mut tally = Tally::new(look(&[
            (1, process(0, ROOT, 0, 0)),
            (3, process(1, ROOT, 0, 0)),
            (5, process(3, BOB, 10, 0)),
            (6, process(5, BOB, 100, 0)),
        ]));

        let users =
            tally.advance(look(&[(1, process(0, ROOT, 0, 100)), (3, process(1, ROOT, 0, 10))]));

        assert_eq!((cpu(&users, ROOT), cpu(&users, BOB)), (0, 0), "all of it was counted before");
    }

    #[test]
    fn a_chain_that_ends_together_is_counted_once() {
        let mut tally = Tally::new(look(&[
            (3, process(1, ROOT, 0, 0)),
            (5, process(3, ANN, 10, 7)),
            (6, process(5, ANN, 100, 0)),
        ]));

        // 6 ended with 120, 5 with 11 and inherited 127.
        let users = tally.advance(look(&[(3, process(1, ROOT, 0, 138))]));

        assert_eq!((cpu(&users, ANN), cpu(&users, ROOT)), (21, 0));
    }

    #[test]
    fn a_slice_says_what_nobody_saw() {
        let inside = |own_ns| Process { slice: Some(ANN), ..process(3, ANN, own_ns, 0) };
        let sudo = |own_ns| Process { slice: Some(ANN), ..process(4, ROOT, own_ns, 0) };
        let with_slice = |usage_ns, processes: &[(u32, Process)]| Snapshot {
            slices: BTreeMap::from([(ANN, usage_ns)]),
            ..look(processes)
        };
        let parent = |reaped_ns| process(1, ROOT, 0, reaped_ns);
        let mut tally = Tally::new(with_slice(
            1000,
            &[(3, parent(0)), (4, inside(10)), (5, sudo(0)), (6, inside(50))],
        ));

        // 6 ended with 90, which 3 inherits; 4 waited for a compiler of 200 that nobody saw.
        let waited = Process { reaped_ns: 200, ..inside(15) };
        let users = tally.advance(with_slice(1265, &[(3, parent(90)), (4, waited), (5, sudo(20))]));

        assert_eq!(cpu(&users, ROOT), 20);
        assert_eq!(cpu(&users, ANN), 5 + 40 + 200);
    }

    #[test]
    fn a_slice_that_lags_behind_is_not_counted_twice() {
        let with_slice = |usage_ns, own_ns| Snapshot {
            slices: BTreeMap::from([(ANN, usage_ns)]),
            ..look(&[(4, Process { slice: Some(ANN), ..process(1, ANN, own_ns, 0) })])
        };
        let mut tally = Tally::new(with_slice(0, 0));

        let first = tally.advance(with_slice(9, 10));
        let second = tally.advance(with_slice(21, 20));

        assert_eq!((cpu(&first, ANN), cpu(&second, ANN)), (10, 11));
    }

    #[test]
    fn inherited_io_is_not_counted_twice() {
        let io = |parent, uid, io_bytes| Process { io_bytes, ..process(parent, uid, 0, 0) };
        let mut tally = Tally::new(look(&[
            (3, io(1, ROOT, Some(100))),
            (4, io(3, ANN, Some(70))),
            (9, io(3, BOB, None)),
        ]));

        // 4 read 30 more and ended; 3 inherits its 100 and wrote 5 itself.
        let users = tally.advance(look(&[(3, io(1, ROOT, Some(205))), (9, io(3, BOB, Some(999)))]));

        assert_eq!(users[&ROOT].io_bytes, 35);
        assert_eq!(users[&BOB].io_bytes, 0, "what it had before it could be read is not new");
    }

    #[test]
    fn a_zombie_is_no_process_that_somebody_uses() {
        let zombie = Process { is_zombie: true, ..process(1, ANN, 5, 0) };
        let mut tally = Tally::new(look(&[(4, zombie)]));

        assert!(tally.advance(look(&[(4, zombie)])).is_empty());
    }
}
