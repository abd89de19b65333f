//! `CloudKitty`'s metrics file as a fuzzer has it: refused with its line, or a file that the daemon
//! takes.

use std::path::Path;

pub(crate) use super::cloudkitty::fuzz::answers as cloudkitty_answers;
use super::metrics::{ImportError, convert};
use crate::config;

pub(crate) fn metrics(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("metrics.yml");
    match convert(path, text, "project_id") {
        Ok(written) => {
            let checked = config::check_metrics(&written, path, "project_id");
            assert!(checked.is_ok(), "{written}");
        }
        Err(ImportError::Place { line, .. }) => {
            // YAML knows three kinds of breaks.
            let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
            let lines = text.bytes().filter(|byte| breaks(byte)).count() + 1;
            assert!((0..=lines).contains(&line), "line {line} of {lines}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
