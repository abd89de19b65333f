//! What was copied, what was there already, what could not be.

use crate::cli::table::printable;

/// Lines that explain what was left; more are counted.
const LEFT_MAX: usize = 50;

/// Of one kind of thing.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What there is to be shown of it, a line each.
    pub(super) lines: Vec<String>,
    pub(super) copied: Vec<(String, usize)>,
    pub(super) known: usize,
    pub(super) left: Vec<String>,
}

impl Report {
    /// `what` is the name of one.
    pub(super) fn copy(&mut self, what: &str) {
        match self.copied.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += 1,
            None => self.copied.push((what.to_owned(), 1)),
        }
    }

    pub(super) fn leave(&mut self, what: &str, why: &str) {
        self.left.push(format!("{what}: {why}"));
    }

    /// `verb` is `copied` or `would copy`.
    pub(super) fn text(&self, kind: &str, verb: &str) -> String {
        let counted = |(what, count): &(String, usize)| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let copied: Vec<String> = self.copied.iter().map(counted).collect();
        let copied = if copied.is_empty() { "nothing".to_owned() } else { copied.join(", ") };
        let (known, left) = (self.known, self.left.len());
        let copied = printable(&copied);
        let head = format!("{kind}: {verb} {copied}; as it was: {known}; left: {left}");
        let shown = self.left.iter().take(LEFT_MAX).map(|line| printable(line));
        let more = left.saturating_sub(LEFT_MAX);
        let more = (more > 0).then(|| format!("{more} more"));
        let lines = shown.chain(more).map(|line| ["  left: ", &line].concat());
        let all = self.lines.iter().cloned().chain([head]).chain(lines);
        all.map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_what_was_left_explained() {
        let mut report = Report::default();
        report.copy("rule");
        report.copy("group");
        report.copy("rule");
        report.known = 3;
        report.leave("script `a`", "another one here");

        let expected = "\
prices: copied 2 rules, 1 group; as it was: 3; left: 1
  left: script `a`: another one here
";
        assert_eq!(report.text("prices", "copied"), expected);
    }
}
