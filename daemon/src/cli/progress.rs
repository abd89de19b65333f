//! How far a long command has come: on the standard error, where it is in nobody's way.
//!
//! On a terminal one line that is drawn anew. Elsewhere a line in ten minutes, so that a command
//! that is run by cron and is done by then sends no mail.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// A terminal is not written to more often.
const DRAWING_PAUSE: Duration = Duration::from_millis(100);
const LINE_PAUSE: Duration = Duration::from_mins(10);
/// To the begin of the line, and clears it.
const CLEAR: &str = "\r\x1b[2K";

pub(super) struct Progress {
    out: Box<dyn Write>,
    is_terminal: bool,
    is_drawn: bool,
    /// When something was shown last; at first, the begin.
    shown: Instant,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let is_terminal = io::stderr().is_terminal();
        Progress {
            out: Box::new(io::stderr()),
            is_terminal,
            is_drawn: false,
            shown: Instant::now(),
        }
    }

    /// Shows it, if something has not just been shown. Who cannot be told is not told.
    pub(super) fn show(&mut self, line: impl FnOnce() -> String) {
        self.show_at(Instant::now(), line);
    }

    fn show_at(&mut self, now: Instant, line: impl FnOnce() -> String) {
        let pause = if self.is_terminal { DRAWING_PAUSE } else { LINE_PAUSE };
        if now.saturating_duration_since(self.shown) < pause {
            return;
        }
        self.shown = now;
        let line = line();
        let _ = if self.is_terminal {
            write!(self.out, "{CLEAR}{line}").and_then(|()| self.out.flush())
        } else {
            writeln!(self.out, "{line}")
        };
        self.is_drawn = self.is_terminal;
    }

    /// Before something else is written.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(self.out, "{CLEAR}").and_then(|()| self.out.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Paper(mpsc::Sender<u8>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for byte in bytes {
                self.0.send(*byte).unwrap();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of an hour with progress in each second.
    fn of_an_hour(is_terminal: bool) -> String {
        let (ink, written) = mpsc::channel();
        let begin = Instant::now();
        let out = Box::new(Paper(ink));
        let mut progress = Progress { out, is_terminal, is_drawn: false, shown: begin };
        for second in 1..=3600 {
            progress.show_at(begin + Duration::from_secs(second), || format!("{second} done"));
        }
        drop(progress);
        String::from_utf8(written.into_iter().collect()).unwrap()
    }

    #[test]
    fn off_a_terminal_there_is_a_line_in_ten_minutes() {
        let expected: Vec<String> = (1..=6).map(|part| format!("{} done\n", part * 600)).collect();

        assert_eq!(of_an_hour(false), expected.concat());
    }

    #[test]
    fn on_a_terminal_one_line_is_drawn_anew_and_cleared() {
        let written = of_an_hour(true);

        assert!(written.starts_with("\r\x1b[2K1 done\r\x1b[2K2 done"), "{written}");
        assert!(written.ends_with("\r\x1b[2K3600 done\r\x1b[2K"), "{written}");
        assert!(!written.contains('\n'));
    }
}
