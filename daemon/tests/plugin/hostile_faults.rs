//! What no error is made of: the process itself is harmed.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

/// Does it, if it is one of these.
pub(super) fn harm(does: &str) {
    match does {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "segfault" => segfault(),
        "spin" => loop {
            black_box(());
        },
        "leak to 8 GiB" => leak(),
        "fork and hang" => fork_and_hang(),
        "close all files" => close_all_files(),
        "write to stdout" => write_to_stdout(),
        "overflow the stack" => drop(black_box(overflow(1))),
        "panic with a payload that panics" => std::panic::panic_any(Bomb),
        "panic on a thread" => {
            let outcome = std::thread::spawn(|| panic!("on a thread")).join();
            assert!(outcome.is_err());
        }
        _ => {}
    }
}

fn segfault() {
    // SAFETY: none: nothing is at that address.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
}

/// Written to, so that it is memory indeed.
fn leak() {
    for _ in 0..128 {
        std::mem::forget(black_box(vec![1_u8; 64 << 20]));
    }
}

unsafe extern "C" {
    fn fork() -> i32;
    fn setsid() -> i32;
    fn close(file: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// The child tries to get away, and ends by itself some time.
fn fork_and_hang() {
    // SAFETY: the child calls what may be called after a fork.
    unsafe {
        if fork() == 0 {
            setsid();
            // Longer than a test waits for its death.
            std::thread::sleep(Duration::from_mins(5));
            _exit(0);
        }
    }
    loop {
        std::thread::sleep(Duration::from_mins(1));
    }
}

fn close_all_files() {
    for file in 0..1024 {
        // SAFETY: none: they are not ours to close.
        unsafe { close(file) };
    }
}

fn write_to_stdout() {
    let mut out = std::io::stdout().lock();
    for line in 0..10_000 {
        let _ = writeln!(out, "line {line} of what nobody asked for");
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn overflow(depth: u64) -> u64 {
    let more = black_box([depth; 512]);
    overflow(more[7] + 1) + more[3]
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // Within another panic it would abort: that is not what is tried here.
        assert!(std::thread::panicking(), "the payload panics as well");
    }
}
