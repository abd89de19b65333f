//! An htpasswd file, as Apache's tool writes it: one `name:hash` a line, `#` begins a comment.
//!
//! Only hashes that resist guessing: bcrypt (`$2y$`, `$2b$`, `$2a$`) and argon2id (a PHC string),
//! both within limits of cost. Others are refused with their line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use argon2::password_hash::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier as _, Version};

use super::NAME_SIZE_MAX;

/// Most users in a file.
const USERS_MAX: usize = 10_000;
/// Logarithm of bcrypt's rounds: 5 is what `htpasswd -B` takes, 14 is about a second.
const BCRYPT_COST: RangeInclusive<u32> = 5..=14;
/// Length of a bcrypt hash, bytes.
const BCRYPT_SIZE: usize = 60;
/// Memory of argon2, KiB: what OWASP asks for at least, and 128 MiB.
const ARGON2_MEMORY_KIB: RangeInclusive<u32> = 7168..=131_072;
/// Passes of argon2.
const ARGON2_PASSES: RangeInclusive<u32> = 1..=20;
/// Lanes of argon2.
const ARGON2_LANES: RangeInclusive<u32> = 1..=16;
/// Memory times passes: about two seconds.
const ARGON2_WORK_MAX: u64 = 1_048_576;

pub(super) struct Htpasswd {
    hashes: Vec<PasswordHash>,
    by_name: BTreeMap<String, usize>,
}

pub(super) enum PasswordHash {
    Bcrypt(String),
    Argon2(String),
}

/// Everything that is wrong with a file; no hash stands in it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`: {}", path.display(), Listed(problems))]
pub(super) struct HtpasswdError {
    path: PathBuf,
    problems: Vec<LineProblem>,
}

#[derive(Debug, thiserror::Error)]
#[error("line {line}: {kind}")]
struct LineProblem {
    line: usize,
    kind: ProblemKind,
}

#[derive(Debug, thiserror::Error)]
enum ProblemKind {
    #[error("is not valid UTF-8")]
    NotUtf8,
    #[error("must be `name:hash`, as `htpasswd -B` writes it")]
    NoPair,
    #[error("the name must have 1 to {NAME_SIZE_MAX} bytes without control characters")]
    Name,
    #[error("the name stands there twice")]
    Repeated,
    #[error(
        "the hash must be bcrypt (`$2y$`, `$2b$`, `$2a$`) or argon2id; others are too weak \
         (hint: `htpasswd -B`)"
    )]
    Weak,
    #[error("the hash is damaged")]
    Damaged,
    #[error("bcrypt's cost {0}")]
    BcryptCost(OutOfBounds),
    #[error("argon2's `m` (KiB) {0}")]
    Argon2Memory(OutOfBounds),
    #[error("argon2's `t` {0}")]
    Argon2Passes(OutOfBounds),
    #[error("argon2's `p` {0}")]
    Argon2Lanes(OutOfBounds),
    #[error("argon2's `m` times `t` must be at most {ARGON2_WORK_MAX}, got {0}")]
    Argon2Work(u64),
    #[error("there must be at most {USERS_MAX} users")]
    TooMany,
}

#[derive(Debug, thiserror::Error)]
#[error("must be between {min} and {max}, got {got}")]
struct OutOfBounds {
    min: u32,
    max: u32,
    got: u32,
}

impl OutOfBounds {
    fn check(got: u32, bounds: &RangeInclusive<u32>) -> Result<(), OutOfBounds> {
        if bounds.contains(&got) {
            return Ok(());
        }
        Err(OutOfBounds { min: *bounds.start(), max: *bounds.end(), got })
    }
}

struct Listed<'p>(&'p [LineProblem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Htpasswd {
    pub(super) fn parse(content: &[u8], path: &Path) -> Result<Htpasswd, HtpasswdError> {
        let mut file = Htpasswd { hashes: Vec::new(), by_name: BTreeMap::new() };
        let mut problems = Vec::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            if let Err(kind) = file.add(line) {
                problems.push(LineProblem { line: index + 1, kind });
            }
        }
        if problems.is_empty() {
            return Ok(file);
        }
        Err(HtpasswdError { path: path.to_owned(), problems })
    }

    fn add(&mut self, line: &[u8]) -> Result<(), ProblemKind> {
        let line = std::str::from_utf8(line).map_err(|_| ProblemKind::NotUtf8)?;
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, hash) = line.split_once(':').ok_or(ProblemKind::NoPair)?;
        let sound =
            (1..=NAME_SIZE_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if !sound {
            return Err(ProblemKind::Name);
        }
        if self.hashes.len() >= USERS_MAX {
            return Err(ProblemKind::TooMany);
        }
        let hash = PasswordHash::parse(hash)?;
        if self.by_name.insert(name.to_owned(), self.hashes.len()).is_some() {
            return Err(ProblemKind::Repeated);
        }
        self.hashes.push(hash);
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn of(&self, name: &str) -> Option<&PasswordHash> {
        self.by_name.get(name).and_then(|index| self.hashes.get(*index))
    }

    /// Somebody's; `None` when there is nobody.
    pub(super) fn any(&self, index: u64) -> Option<&PasswordHash> {
        let count = u64::try_from(self.hashes.len()).ok().filter(|count| *count > 0)?;
        self.hashes.get(usize::try_from(index % count).ok()?)
    }
}

impl PasswordHash {
    fn parse(text: &str) -> Result<PasswordHash, ProblemKind> {
        if ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| text.starts_with(prefix)) {
            return PasswordHash::bcrypt(text);
        }
        if text.starts_with("$argon2id$") {
            return PasswordHash::argon2(text);
        }
        Err(ProblemKind::Weak)
    }

    fn bcrypt(text: &str) -> Result<PasswordHash, ProblemKind> {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| ProblemKind::Damaged)?;
        let (cost, salt) = (parts.get_cost(), parts.get_salt());
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
        if text.len() != BCRYPT_SIZE || salt.len() != 22 || !text.bytes().skip(7).all(is_sound) {
            return Err(ProblemKind::Damaged);
        }
        OutOfBounds::check(cost, &BCRYPT_COST).map_err(ProblemKind::BcryptCost)?;
        Ok(PasswordHash::Bcrypt(text.to_owned()))
    }

    fn argon2(text: &str) -> Result<PasswordHash, ProblemKind> {
        let hash = Phc::new(text).map_err(|_| ProblemKind::Damaged)?;
        let params = Params::try_from(&hash).map_err(|_| ProblemKind::Damaged)?;
        let version = hash.version.unwrap_or(u32::from(Version::V0x13));
        if version != u32::from(Version::V0x13) || hash.salt.is_none() || hash.hash.is_none() {
            return Err(ProblemKind::Damaged);
        }
        let (memory, passes) = (params.m_cost(), params.t_cost());
        OutOfBounds::check(memory, &ARGON2_MEMORY_KIB).map_err(ProblemKind::Argon2Memory)?;
        OutOfBounds::check(passes, &ARGON2_PASSES).map_err(ProblemKind::Argon2Passes)?;
        OutOfBounds::check(params.p_cost(), &ARGON2_LANES).map_err(ProblemKind::Argon2Lanes)?;
        let work = u64::from(memory) * u64::from(passes);
        if work > ARGON2_WORK_MAX {
            return Err(ProblemKind::Argon2Work(work));
        }
        Ok(PasswordHash::Argon2(text.to_owned()))
    }

    /// Takes its time.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        match self {
            // Reads 72 bytes at most, as everything that makes bcrypt hashes does.
            PasswordHash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            PasswordHash::Argon2(text) => Phc::new(text).is_ok_and(|hash| {
                // What costs come with the hash wins over these.
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
                argon2.verify_password(password, &hash).is_ok()
            }),
        }
    }
}
