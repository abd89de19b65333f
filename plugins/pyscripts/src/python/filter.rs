//! The filter of system calls: what a run may ask of the kernel, as a program for it.
//!
//! A forked Python that computes needs memory, time and a way to answer. That is the list; every
//! other call, now known or not, and every call in another calling convention, is refused. The
//! program is made here, where the numbers of calls are known for the machine that this is built
//! for; the process gives it to the kernel before the first script.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Highest number of an open file in a run: the null device, three times, and its answer.
const FILES_MAX: u64 = 3;

/// Calls that are fine whatever their arguments.
const FREE: &[i64] = &[
    // Memory. What `brk` and `mremap` give cannot be run as code.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Time, which mostly costs no call at all, and sleep.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    // Randomness, for those who may import `random`.
    libc::SYS_getrandom,
    // The end, by a signal or without.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
];

/// A call that is fine when all of these hold: argument, which of its bits count, their value.
type Bound = (i64, &'static [(u8, u64, u64)]);

const NO_CODE: u64 = libc::PROT_EXEC as u64;
const ANONYMOUS: u64 = libc::MAP_ANONYMOUS as u64;
/// All but the flags for "of this process only" and "by the clock on the wall".
const FUTEX_COMMAND: u64 = !0x180;

const BOUND: &[Bound] = &[
    // Memory that is neither a file nor code.
    (libc::SYS_mmap, &[(2, NO_CODE, 0), (3, ANONYMOUS, ANONYMOUS)]),
    (libc::SYS_mprotect, &[(2, NO_CODE, 0)]),
    // Locks: wait and wake, also by bits.
    (libc::SYS_futex, &[(1, FUTEX_COMMAND, 0)]),
    (libc::SYS_futex, &[(1, FUTEX_COMMAND, 1)]),
    (libc::SYS_futex, &[(1, FUTEX_COMMAND, 9)]),
    (libc::SYS_futex, &[(1, FUTEX_COMMAND, 10)]),
    // Older Pythons sleep by waiting for no file.
    (libc::SYS_pselect6, &[(0, u64::MAX, 0)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, &[(0, u64::MAX, 0)]),
];

/// The program, or why there is none.
pub(super) fn program() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        FREE.iter().map(|call| (*call, Vec::new())).collect();
    for (call, conditions) in BOUND {
        let conditions = conditions.iter().map(|(argument, bits, value)| {
            let operator = SeccompCmpOp::MaskedEq(*bits);
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator, *value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(*call).or_default().push(rule);
    }
    let file = SeccompCmpOp::Le;
    let file = SeccompCondition::new(0, SeccompCmpArgLen::Dword, file, FILES_MAX)?;
    rules.insert(libc::SYS_write, vec![SeccompRule::new(vec![file])?]);
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, machine)?.try_into()
}
