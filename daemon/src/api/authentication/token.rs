use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Refusal;
use crate::api::caller::Identity;
use crate::api::kept::{FileError, Kept, Privacy};
use crate::clock::Clock;
use crate::config::{Rights, TokenConfig, TokenEntry, read_tokens};

/// Tokens of machines, known by their hashes.
///
/// A token has 256 random bits, so a plain SHA-256 of it tells nothing: there is no list of likely
/// tokens to try.
pub(super) struct Tokens {
    entries: Kept<Vec<TokenEntry>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn load(config: &TokenConfig, clock: &Arc<dyn Clock>) -> Result<Tokens, FileError> {
        let path: PathBuf = config.file.clone();
        let files = vec![(path.clone(), Privacy::Public)];
        let entries = Kept::load("tokens", files, move |contents| read_tokens(&contents[0], &path));
        Ok(Tokens { entries: entries?, clock: Arc::clone(clock) })
    }

    pub(super) fn caller(&self, token: &[u8]) -> Result<Identity, Refusal> {
        let hash = Sha256::digest(token);
        let entries = self.entries.now();
        let mut found = None;
        // All are compared, whichever is the one.
        for entry in entries.iter() {
            if bool::from(entry.sha256.ct_eq(hash.as_slice())) {
                found = Some(entry);
            }
        }
        let entry = found.ok_or(Refusal::Wrong)?;
        if entry.expires.is_some_and(|expires| expires <= self.clock.now()) {
            return Err(Refusal::Wrong);
        }
        Ok(identity(&entry.name, Some(&entry.rights)))
    }

    pub(super) fn reread(&self) {
        self.entries.reread();
    }
}

/// A caller of our own making.
pub(super) fn identity(name: &str, rights: Option<&Rights>) -> Identity {
    Identity {
        user_id: name.to_owned(),
        project_id: rights.and_then(|rights| Some(rights.scope.as_ref()?.as_str().to_owned())),
        roles: rights.map(|rights| rights.roles.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::clock::ManualClock;

    fn entry(name: &str, token: &str, rest: &str) -> String {
        let hash = Sha256::digest(token);
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash:x}\"\n{rest}\n")
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_is_taken_out() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("tokens.toml");
        let ending = entry("p", "abc", "roles = [\"r\"]\nexpires = 2026-06-01T00:00:00Z");
        fs::write(&file, ending + &entry("q", "def", "scope = \"s\"")).unwrap();
        let clock = Arc::new(ManualClock::new("2026-05-01T00:00:00Z".parse().unwrap()));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let tokens = Tokens::load(&TokenConfig { file: file.clone() }, &shared).unwrap();

        let known = tokens.caller(b"abc").unwrap();
        assert_eq!((known.user_id.as_str(), known.roles.len()), ("p", 1));
        assert_eq!(tokens.caller(b"def").unwrap().project_id.as_deref(), Some("s"));
        for wrong in ["", "ab", "abcd", "ABC"] {
            assert!(tokens.caller(wrong.as_bytes()).is_err(), "{wrong}");
        }
        clock.set("2026-06-01T00:00:00Z".parse().unwrap());
        assert!(tokens.caller(b"abc").is_err());
        fs::write(&file, "").unwrap();
        tokens.reread();
        assert!(tokens.caller(b"def").is_err());
    }
}
