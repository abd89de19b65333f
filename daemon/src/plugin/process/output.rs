//! What a plugin's process writes to its standard output and standard error, in the daemon's log.

use std::io::{PipeReader, Read};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::plugin::host_api::{Lender, logged};

/// Longest line, bytes; what is longer comes as several.
const LINE_SIZE_MAX: usize = 1024;
/// Most lines in a [`WINDOW`]; further ones are counted and left out.
const LINES_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// Of a line in the log: it comes from nobody's log call.
const PLACE: &str = "output";
const LEVEL: u32 = 2;

/// Reads until nobody can write any more.
pub(super) fn pass_on(mut pipe: PipeReader, lender: &dyn Lender) {
    let mut lines = Lines::new(Instant::now());
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
        for line in lines.add(&buffer[..size], Instant::now()) {
            lender.log(LEVEL, PLACE, &line);
        }
    }
    if let Some(line) = lines.end() {
        lender.log(LEVEL, PLACE, &line);
    }
}

/// Cuts bytes into lines, and leaves out what is too much.
#[derive(Debug)]
struct Lines {
    unfinished: Vec<u8>,
    since: Instant,
    count: u32,
    left_out: u64,
}

impl Lines {
    fn new(now: Instant) -> Lines {
        Lines { unfinished: Vec::new(), since: now, count: 0, left_out: 0 }
    }

    fn add(&mut self, bytes: &[u8], now: Instant) -> Vec<String> {
        let mut found = Vec::new();
        if now.duration_since(self.since) >= WINDOW {
            found.extend(self.left_out());
            (self.since, self.count) = (now, 0);
        }
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
        if line.trim().is_empty() {
            return None;
        }
        self.count += 1;
        if self.count <= LINES_MAX {
            return Some(line);
        }
        self.left_out += 1;
        (self.left_out == 1).then(|| "(further lines are left out for a while)".to_owned())
    }

    fn left_out(&mut self) -> Option<String> {
        let count = std::mem::take(&mut self.left_out);
        (count > 0).then(|| format!("({count} lines were left out)"))
    }

    fn end(&mut self) -> Option<String> {
        let last = self.take();
        self.left_out().or(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_too_many_are_counted() {
        let begin = Instant::now();
        let mut lines = Lines::new(begin);
        assert_eq!(lines.add(b"one\ntw", begin), ["one"]);
        assert_eq!(lines.add(b"o\n\n \n", begin), ["two"]);
        let long = lines.add(&[b'x'; LINE_SIZE_MAX + 1], begin);
        assert_eq!(long, ["x".repeat(LINE_SIZE_MAX)]);

        let flood = lines.add(&b"y\n".repeat(1000), begin);

        assert_eq!(flood.len(), LINES_MAX as usize - 3 + 1);
        assert_eq!(flood[97], "(further lines are left out for a while)");
        let later = lines.add(b"z\n", begin + WINDOW);
        assert_eq!(later, ["(903 lines were left out)", "z"]);
        assert_eq!(lines.end(), None);
    }
}
