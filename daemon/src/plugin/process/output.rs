//! What a plugin's process writes to its standard output and standard error, in the daemon's log:
//! as if it had logged each line.

use std::io::{PipeReader, Read};

use tracing::warn;

use crate::plugin::host_api::{Lender, logged};

/// Longest line, bytes; what is longer comes as several.
const LINE_SIZE_MAX: usize = 1024;
/// Of a line in the log: it comes from nobody's log call.
const PLACE: &str = "output";
const LEVEL: u32 = 2;

/// Reads until nobody can write any more.
pub(super) fn pass_on(mut pipe: PipeReader, lender: &dyn Lender) {
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    loop {
        let size = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                warn!(%error, "What a plugin writes cannot be read any more.");
                break;
            }
        };
        for line in lines.add(&buffer[..size]) {
            lender.log(LEVEL, PLACE, &line);
        }
    }
    if let Some(line) = lines.take() {
        lender.log(LEVEL, PLACE, &line);
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.unfinished.push(*byte);
            }
            if *byte == b'\n' || self.unfinished.len() >= LINE_SIZE_MAX {
                found.extend(self.take());
            }
        }
        found
    }

    fn take(&mut self) -> Option<String> {
        let line = logged(&std::mem::take(&mut self.unfinished));
        (!line.trim().is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_cut_into_lines() {
        let mut lines = Lines::default();

        assert_eq!(lines.add(b"one\ntw"), ["one"]);
        assert_eq!(lines.add(b"o\n\n \n"), ["two"]);
        let long = lines.add(&[b'x'; LINE_SIZE_MAX + 1]);
        assert_eq!(long, ["x".repeat(LINE_SIZE_MAX)]);

        assert_eq!(lines.take().as_deref(), Some("x"));
        assert_eq!(lines.take(), None);
    }
}
