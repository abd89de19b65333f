//! Entity tags: what a document was made of, in a form that callers send back.
//!
//! A tag is strong: two documents with one tag are equal byte by byte. It names what the document
//! was made of and the form it is written in, so that it is known without making the document.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderName, StatusCode, header};

use super::answer::Answer;
use super::call::Call;
use super::failure::Failure;
use super::negotiate::{Accepts, Format};

/// Hexadecimal digits of a checksum that stand in a tag.
const DIGITS: usize = 16;

/// What a document was made of, in letters, digits and dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// Of what a module says about its rules.
    pub(crate) fn of_rules(revision: u64, library_sha256: &str) -> Tag {
        Tag(format!("{revision}-{}", library_sha256.get(..DIGITS).unwrap_or(library_sha256)))
    }

    /// Of a small document that nothing counts the changes of.
    pub(crate) fn of_document(document: &Value) -> Tag {
        let sum = Sha256::digest(document.to_string());
        let begin = sum.iter().take(8).fold(0, |begin, byte| begin << 8 | u64::from(*byte));
        Tag(format!("{begin:016x}"))
    }

    fn in_form(&self, form: &str) -> String {
        format!("\"{}-{form}\"", self.0)
    }

    /// With the tag of the form that the caller gets.
    pub(crate) fn on(&self, answer: Answer, call: &Call) -> Answer {
        let form = form(Accepts::of(call).format());
        answer.header(header::ETAG, self.in_form(form)).header(header::VARY, "Accept")
    }

    /// 304 when the caller has the document already.
    pub(crate) fn not_modified(&self, call: &Call) -> Option<Answer> {
        let own = self.in_form(form(Accepts::of(call).format()));
        // For this question a weak tag is as good. A star asks for any document at all, which is
        // not known yet.
        let is_known = listed(call, header::IF_NONE_MATCH)
            .iter()
            .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == own);
        is_known.then(|| self.on(Answer::empty(StatusCode::NOT_MODIFIED), call))
    }

    /// Refuses a change that was meant for another state.
    pub(crate) fn check_match(&self, call: &Call) -> Result<(), Failure> {
        let wanted = listed(call, header::IF_MATCH);
        let is_own = |tag: &String| {
            tag == "*" || ["json", "xml", "text-xml"].iter().any(|form| self.in_form(form) == *tag)
        };
        if wanted.is_empty() || wanted.iter().any(is_own) {
            return Ok(());
        }
        let status = StatusCode::PRECONDITION_FAILED;
        let text = "it has been changed in between; read it again".to_owned();
        Err(Failure::Refused { status, text })
    }
}

/// A small document with the tag of its text, or 304.
pub(crate) fn tagged(document: Value, call: &Call) -> Answer {
    let tag = Tag::of_document(&document);
    tag.not_modified(call).unwrap_or_else(|| tag.on(Answer::document(document), call))
}

/// Does the caller say which state a change is meant for?
pub(crate) fn is_conditional(call: &Call) -> bool {
    call.headers.contains_key(header::IF_MATCH)
}

fn form(format: Option<Format>) -> &'static str {
    match format {
        None | Some(Format::Json) => "json",
        Some(Format::Xml("text/xml")) => "text-xml",
        Some(Format::Xml(_)) => "xml",
    }
}

/// Tags hold no commas. A header that is no text has a tag that nobody gave.
fn listed(call: &Call, name: HeaderName) -> Vec<String> {
    let values = call.headers.get_all(name).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    values
        .flat_map(|value| {
            value.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<String>>()
        })
        .collect()
}
