//! What is said of the walls, and the filter's whole list.

use std::fmt::Write;

use nix::libc;
use rated_plugin::Status;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_pyscripts::{PyScripts, Wall};

use super::site::{Site, WithoutFilter, WithoutNamespaces};

/// All that a run may ask of the kernel.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    libc::SYS_write,
];

/// Calls of the kernel's own probes, which it keeps from every filter, and ends who makes one.
const PROBES: &[i64] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };

/// Runs a script for one scope by itself; it raises what it does not like.
#[track_caller]
fn passes(site: &Site, text: &str) {
    site.add(&site.script(text));
    assert_eq!(site.rate(&["bad"]).unwrap(), ["1"]);
}

#[test]
fn every_system_call_that_is_not_listed_is_refused() {
    let site = Site::new(&[Wall::Namespaces]);
    let mut script = "_, ctypes, library = escape()\nlibrary.syscall.restype = \
                      ctypes['c_long']\nread, passed = ctypes['get_errno'], []\n"
        .to_owned();
    let _ = writeln!(script, "allowed = {:?}", [ALLOWED, PROBES].concat());
    // The second half is the calling convention of programs with short pointers.
    script.push_str(
        "for number in [*range(600), *range(1 << 30, (1 << 30) + 600)]:\n    \
             if number in allowed:\n        continue\n    \
             if library.syscall(number, -1, -1, -1, -1, -1, -1) != -1 or read() != 1:\n        \
                 passed.append(number)\n\
         assert not passed, passed\n",
    );

    passes(&site, &script);
}

#[test]
fn a_listed_system_call_has_bounds() {
    let site = Site::new(&[Wall::Namespaces]);
    let mut script = "_, ctypes, library = escape()\nlibrary.syscall.restype = \
                      ctypes['c_long']\nread = ctypes['get_errno']\n\
                      def refused(*call):\n    \
                          return library.syscall(*call) == -1 and read() == 1\n"
        .to_owned();
    let (mmap, mprotect) = (libc::SYS_mmap, libc::SYS_mprotect);
    let (write, sleep, futex) = (libc::SYS_write, libc::SYS_pselect6, libc::SYS_futex);
    let calls = [
        // Code; a file, by its number; both at once.
        format!("{mmap}, 0, 4096, 5, 0x22, -1, 0"),
        format!("{mmap}, 0, 4096, 1, 2, 1, 0"),
        format!("{mprotect}, 0, 4096, 4"),
        // Files beside its own four.
        format!("{write}, 4, b'', 0"),
        format!("{write}, -1, b'', 0"),
        // A wait for files; locks that the kernel hands on.
        format!("{sleep}, 1, 0, 0, 0, 0, 0"),
        format!("{futex}, 0, 6, 0, 0, 0, 0"),
        format!("{futex}, 0, 3, 0, 0, 0, 0"),
    ];
    for call in &calls {
        let _ = writeln!(script, "assert refused({call}), {call:?}");
    }
    let _ = writeln!(script, "assert not refused({write}, 1, b'', 0)");
    let _ = writeln!(script, "assert not refused({mmap}, 0, 4096, 3, 0x22, -1, 0)");

    passes(&site, &script);
}

#[test]
fn the_log_says_once_which_walls_stand() {
    let logged = |site: &Site| {
        site.add("pass");
        site.rate(&["a"]).unwrap();
        assert_eq!(site.host.logged().len(), 1, "{:?}", site.host.logged());
        site.walls()
    };

    let expected = "Scripts are contained by limits and a filter of system calls; without \
                    namespaces: not asked for.";
    assert_eq!(logged(&Site::new(&[Wall::Namespaces])), expected);
    let site = Site::new(&[Wall::Filter]);
    let has_namespaces = site.has_namespaces();
    let told = logged(&site);
    assert!(told.contains("without a filter of system calls: not asked for"), "{told}");
    assert_eq!(told.contains("limits and namespaces"), has_namespaces, "{told}");
}

#[test]
fn what_must_stand_and_does_not_is_an_error_that_says_what_to_do() {
    let host = FakeHost::new();
    let full = "containment = 'full'";
    let module = TestModule::new::<WithoutNamespaces>(&host, full).unwrap();

    let error = module.check().unwrap_err();

    assert_eq!(error.status, Status::Unavailable);
    assert!(error.message.starts_with("no script is run without namespaces: "), "{error}");
    assert!(error.message.contains("(hint: "), "{error}");
    assert!(error.message.contains("`containment = \"filter\"`"), "{error}");
    // The filter must stand without being asked for.
    let module = TestModule::new::<WithoutFilter>(&host, "").unwrap();
    let error = module.check().unwrap_err();
    assert!(error.message.contains("without a filter of system calls"), "{error}");
    assert!(error.message.contains("`containment = \"limits\"`"), "{error}");
    let unknown = TestModule::new::<PyScripts>(&host, "containment = 'none'");
    assert_eq!(unknown.err().map(|error| error.status), Some(Status::InvalidConfig));
}

#[test]
fn what_a_script_says_stays_its_own_in_the_log() {
    let site = Site::new(&[]);
    let forged = r#"
text = b"all well\\n2026-01-01T00:00:00Z ERROR rated: all is lost\\u001b[2J\\n" * 400
about = b'{"message": "' + text + b'", "traceback": "' + text + b'", "script": "x"}'
answer(framed(b'{"error": ' + about + b'}'))"#;
    site.add(&site.script(forged));

    let error = site.rate(&["bad"]).unwrap_err();

    assert!(error.message.len() < 1200, "{}", error.message.len());
    assert!(error.message.starts_with("scope `bad`: the scripts: all well 2026"), "{error}");
    assert!(!error.message.contains(char::is_control), "{error}");
    let logged = site.host.logged().pop().unwrap().message;
    assert!(logged.len() < 12_000, "{}", logged.len());
    assert!(logged.lines().skip(1).all(|line| line.starts_with("  | ")), "{logged}");
    assert!(!logged.contains('\u{1b}'), "{logged}");
}
