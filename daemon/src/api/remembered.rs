//! Answers that were made before, as long as the ledger is the same.
//!
//! What a remembered answer was made of, besides the ledger, is its key. Before the ledger is read
//! its version is: an answer is never older than what it is kept for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::caller::Sight;
use crate::ledger::{Filters, Ledger};

/// Most answers that are remembered.
const ANSWERS_MAX: usize = 256;

/// Largest of them, and of their keys, bytes.
const ANSWER_SIZE_MAX: usize = 64 << 10;

/// What was asked, and everything else that the answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Total { begin: DateTime<Utc>, end: DateTime<Utc>, filters: Filters },
    Scopes { query: String, sight: Sight },
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    answers: Arc<Mutex<HashMap<Question, Made>>>,
}

struct Made {
    version: u64,
    bytes: Bytes,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

impl Remembered {
    /// The answer to a question, made again when the ledger has changed.
    pub(crate) async fn answer<E>(
        &self,
        ledger: &dyn Ledger,
        question: Question,
        make: impl AsyncFnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let version = ledger.version();
        if let Some(bytes) = self.find(&question, version) {
            return Ok(bytes);
        }
        let bytes = make().await?;
        if bytes.len().max(question.size()) <= ANSWER_SIZE_MAX {
            self.keep(question, Made { version, bytes: bytes.clone() });
        }
        Ok(bytes)
    }

    fn find(&self, question: &Question, version: u64) -> Option<Bytes> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let made = answers.get(question)?;
        (made.version == version).then(|| made.bytes.clone())
    }

    fn keep(&self, question: Question, made: Made) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX && !answers.contains_key(&question) {
            answers.clear();
        }
        answers.insert(question, made);
    }
}

impl Question {
    /// Roughly.
    fn size(&self) -> usize {
        match self {
            Question::Total { filters, .. } => {
                filters.types.iter().flatten().map(String::len).sum()
            }
            Question::Scopes { query, .. } => query.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::api::tests::FakeLedger;

    fn scopes(query: &str) -> Question {
        Question::Scopes { query: query.to_owned(), sight: Sight::Everything }
    }

    async fn ask(
        remembered: &Remembered,
        ledger: &FakeLedger,
        question: Question,
        answer: &'static str,
    ) -> Bytes {
        let make = async || Ok::<_, Infallible>(Bytes::from_static(answer.as_bytes()));
        remembered.answer(ledger, question, make).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_made_again_when_the_ledger_has_changed() {
        let (remembered, ledger) = (Remembered::default(), FakeLedger::default());

        assert_eq!(ask(&remembered, &ledger, scopes("a"), "1").await, "1");
        assert_eq!(ask(&remembered, &ledger, scopes("a"), "2").await, "1");
        assert_eq!(ask(&remembered, &ledger, scopes("b"), "3").await, "3");
        ledger.set_module_state("m", crate::rating::MODULE_STATE_DEFAULT).unwrap();
        assert_eq!(ask(&remembered, &ledger, scopes("a"), "4").await, "4");
    }

    #[tokio::test]
    async fn what_a_caller_asks_does_not_fill_the_memory() {
        let (remembered, ledger) = (Remembered::default(), FakeLedger::default());

        for number in 0..=ANSWERS_MAX {
            ask(&remembered, &ledger, scopes(&number.to_string()), "1").await;
        }
        ask(&remembered, &ledger, scopes(&"x".repeat(ANSWER_SIZE_MAX + 1)), "1").await;

        assert_eq!(remembered.answers.lock().unwrap().len(), 1);
    }
}
