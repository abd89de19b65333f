//! What was looked for in a file, there or not: for the test that the sample shows all of it.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bounds and default of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) min: i128,
    pub(super) max: i128,
    pub(super) default: i128,
}

thread_local! {
    static ASKED: RefCell<BTreeMap<String, Option<Number>>> = RefCell::default();
}

pub(super) fn note(name: String) {
    ASKED.with_borrow_mut(|asked| {
        asked.entry(name).or_default();
    });
}

pub(super) fn note_number(name: String, number: Number) {
    ASKED.with_borrow_mut(|asked| {
        asked.insert(name, Some(number));
    });
}

/// By their dotted names, since this was asked last in this thread.
pub(super) fn take() -> BTreeMap<String, Option<Number>> {
    ASKED.take()
}
