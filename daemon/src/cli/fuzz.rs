//! What the subcommands read, as a fuzzer has it.

use std::cell::RefCell;
use std::collections::VecDeque;

use reqwest::{Method, Request, StatusCode, Url};
use serde_json::Value;

pub(crate) use super::import::fuzz::cloudkitty_answers;
pub(crate) use super::import::fuzz::metrics as cloudkitty_metrics;
pub(crate) use super::ledger::fuzz::backup;
pub(crate) use super::prices::fuzz::prices;

/// Answers one after the other, whoever is asked, and what was asked.
#[derive(Debug)]
pub(super) struct Recorded {
    answers: RefCell<VecDeque<Vec<u8>>>,
    asked: RefCell<Vec<Asked>>,
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Null without one.
    pub(super) body: Value,
    /// What it was if that is JSON, else null.
    pub(super) answer: Value,
}

impl Recorded {
    /// A NUL between two. One that begins with 3, 4, 5 or 9 has the status 302, 404, 503 or 409.
    pub(super) fn of(bytes: &[u8]) -> Recorded {
        let answers = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        Recorded { answers: RefCell::new(answers), asked: RefCell::default() }
    }

    /// Behind the last one nobody is there any more.
    pub(super) fn answer(&self, request: &Request) -> (StatusCode, Vec<u8>) {
        let answer = self.answers.borrow_mut().pop_front().unwrap_or_else(|| b"5".to_vec());
        let status = match answer.first() {
            Some(b'3') => StatusCode::FOUND,
            Some(b'4') => StatusCode::NOT_FOUND,
            Some(b'5') => StatusCode::SERVICE_UNAVAILABLE,
            Some(b'9') => StatusCode::CONFLICT,
            _ => StatusCode::OK,
        };
        let body = if status == StatusCode::OK { answer } else { answer[1..].to_vec() };
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_default();
        self.asked.borrow_mut().push(Asked {
            method: request.method().clone(),
            url: request.url().clone(),
            body: request.body().and_then(reqwest::Body::as_bytes).map(json).unwrap_or_default(),
            answer: if status == StatusCode::OK { json(&body) } else { Value::Null },
        });
        (status, body)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }
}

/// One line, and nothing in it that a terminal would act on.
pub(super) fn check_line(line: &str) {
    assert!(!line.contains(char::is_control), "{line:?}");
}
