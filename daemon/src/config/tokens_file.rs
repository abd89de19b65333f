//! `tokens.toml`: the tokens of machines that call the API.
//!
//! ```toml
//! [[token]]
//! name = "prometheus"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! roles = ["monitoring"]
//! scope = "8f82cc70"                  # optional: the project it speaks for
//! expires = 2027-01-01T00:00:00Z      # optional
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::document::{self, Value};
use super::problem::{self, ConfigError, ProblemKind, Problems};
use super::reader::{TableReader, into_text, wrong_type};
use super::{Rights, auth_section};

/// Most tokens in a file: each is compared with what was sent.
const TOKENS_MAX: usize = 1000;
/// Longest name of a token, bytes.
const NAME_SIZE_MAX: usize = 64;

/// A token, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenEntry {
    pub(crate) name: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) rights: Rights,
    pub(crate) expires: Option<DateTime<Utc>>,
}

/// Reads a file's content; problems name `path` and never repeat a hash: it may be a token that
/// somebody has put there by mistake.
pub(crate) fn read_tokens(content: &[u8], path: &Path) -> Result<Vec<TokenEntry>, ConfigError> {
    let problems = Problems::new(path);
    let Ok(text) = std::str::from_utf8(content) else {
        problems.add(problem::Place::File, "", ProblemKind::NotUtf8);
        return Err(problem::into_error(vec![problems]));
    };
    let table = document::parse(text, &problems);
    let mut tokens = Vec::new();
    if !problems.is_unreadable() {
        let mut root = TableReader::root(table, &problems);
        let list = root.take("token", |value| match value {
            Value::List(list) => Ok(list),
            other => Err(wrong_type("a list of tables, each headed `[[token]]`", &other)),
        });
        root.finish();
        let list = list.map_or(Vec::new(), |field| field.value);
        if list.len() > TOKENS_MAX {
            let kind = ProblemKind::TooMany { max: TOKENS_MAX, got: list.len() };
            problems.add(problem::Place::File, "token", kind);
        }
        for (index, entry) in list.into_iter().enumerate() {
            let path = format!("token[{index}]");
            let reader = TableReader::of_entry(path, entry, &problems);
            tokens.extend(read_token(reader));
        }
        refuse_repeated(&tokens, &problems);
    }
    if problems.is_empty() { Ok(tokens) } else { Err(problem::into_error(vec![problems])) }
}

fn read_token(mut section: TableReader<'_>) -> Option<TokenEntry> {
    let name = section.required_text("name");
    if let Some(field) = name.as_ref().filter(|field| check_token_name(&field.value).is_err()) {
        section.refuse(field, name_kind(&field.value), None);
    }
    let sha256 = section.take("sha256", |value| {
        let kind = ProblemKind::MalformedSecret {
            wanted: "the SHA-256 of the token, 64 hexadecimal digits",
        };
        parse_hash(&into_text(value)?).ok_or(kind)
    });
    if sha256.is_none() && !section.has_fault(&section.name_of("sha256")) {
        let hint = "`rated token new` prints it".to_owned();
        let name = section.name_of("sha256");
        section.fault(section.place().clone(), &name, ProblemKind::Missing, Some(hint));
    }
    let rights = auth_section::read_rights(&mut section);
    let expires = section.take("expires", |value| {
        let text = match value {
            Value::Time(text) => text,
            other => into_text(other)?,
        };
        let date = DateTime::parse_from_rfc3339(&text).map(|date| date.with_timezone(&Utc));
        let wanted = "a date with time and offset, such as `2027-01-01T00:00:00Z`";
        date.map_err(|_| ProblemKind::Malformed { wanted, got: text })
    });
    section.finish();
    let (name, sha256) = (name?.value, sha256?.value);
    Some(TokenEntry { name, sha256, rights, expires: expires.map(|field| field.value) })
}

/// Names stand in logs and beside what was changed.
pub(crate) fn check_token_name(name: &str) -> Result<(), ProblemKind> {
    let sound = !name.is_empty()
        && name.len() <= NAME_SIZE_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if sound { Ok(()) } else { Err(name_kind(name)) }
}

fn name_kind(name: &str) -> ProblemKind {
    let wanted = "1 to 64 letters, digits, `-`, `_`, `.` and `@`";
    ProblemKind::Malformed { wanted, got: name.escape_debug().to_string() }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(hash)
}

fn refuse_repeated(tokens: &[TokenEntry], problems: &Problems) {
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    for token in tokens {
        if !names.insert(&token.name) || !hashes.insert(token.sha256) {
            let kind = ProblemKind::Repeated { name: token.name.clone() };
            problems.add(problem::Place::File, "token", kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(text: &str) -> Result<Vec<TokenEntry>, String> {
        read_tokens(text.as_bytes(), Path::new("tokens.toml")).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(words), "no `{words}` in: {error}");
        assert!(error.starts_with("cannot read `tokens.toml`: "), "{error}");
    }

    #[test]
    fn a_file_is_read_as_it_is_documented() {
        let text = format!(
            "[[token]]\nname = \"prometheus\"\nsha256 = \"{HASH}\"\nroles = [\"monitoring\"]\n\
             scope = \"p1\"\nexpires = 2027-01-01T00:00:00Z\n\
             [[token]]\nname = \"bare\"\nsha256 = \"{}\"\n",
            "0".repeat(64)
        );

        let tokens = read(&text).unwrap();

        assert_eq!(tokens[0].sha256[..3], [0x9f, 0x86, 0xd0]);
        assert_eq!(tokens[0].rights.roles, ["monitoring"]);
        assert_eq!(tokens[0].rights.scope.as_ref().unwrap().as_str(), "p1");
        assert_eq!(tokens[0].expires.unwrap().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert_eq!(tokens[1].rights, Rights::default());
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_token() {
        let token = |rest: &str| format!("[[token]]\nname = \"a\"\n{rest}\n");
        let hash = format!("sha256 = \"{HASH}\"");

        refused(&token(""), "line 1: `token[0].sha256`: is missing");
        refused(&token("sha256 = \"my-plain-token\""), "line 3: `token[0].sha256`: must be the");
        assert!(!read(&token("sha256 = \"my-plain-token\"")).unwrap_err().contains("plain"));
        refused(&token(&format!("{hash}\nrole = []")), "did you mean `roles`?");
        refused(&token(&format!("{hash}\nexpires = 2027-01-01")), "a date with time and offset");
        refused(&(token(&hash) + &token(&hash)), "`a` stands there twice");
        refused(&token(&hash).replace("\"a\"", "\"a b\""), "got `a b`");
        refused("token = 1", "a list of tables, each headed `[[token]]`");
        refused("[[tokens]]", "did you mean `token`?");
    }
}
