//! How much a plugin has said lately: what is too much is counted and left out of the log.

use std::time::{Duration, Instant};

/// Most messages in a [`WINDOW`].
const MESSAGES_MAX: u64 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// Of one instance.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of the window.
    begin: Option<Instant>,
    count: u64,
}

impl Said {
    /// One more message: what is to be said of those that were left out, and whether this one is
    /// logged.
    pub(super) fn more(&mut self, now: Instant) -> (Option<String>, bool) {
        let is_over = |begin: Instant| now.duration_since(begin) >= WINDOW;
        let mut remark = None;
        if self.begin.is_none_or(is_over) {
            let left_out = self.count.saturating_sub(MESSAGES_MAX);
            remark = (left_out > 0).then(|| format!("({left_out} messages were left out)"));
            *self = Said { begin: Some(now), count: 0 };
        }
        self.count += 1;
        if self.count == MESSAGES_MAX + 1 {
            remark = Some("(further messages are left out for a while)".to_owned());
        }
        (remark, self.count <= MESSAGES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_messages_are_counted_and_left_out() {
        let begin = Instant::now();
        let mut said = Said::default();

        let flood: Vec<_> = (0..1000).map(|_| said.more(begin)).collect();

        assert!(flood[..100].iter().all(|message| *message == (None, true)));
        let further = "(further messages are left out for a while)".to_owned();
        assert_eq!(flood[100], (Some(further), false));
        assert!(flood[101..].iter().all(|message| *message == (None, false)));
        let later = begin + WINDOW;
        assert_eq!(said.more(later), (Some("(900 messages were left out)".to_owned()), true));
        assert_eq!(said.more(later), (None, true));
    }
}
