use std::fmt;
use std::sync::Arc;

/// Who is billed: a project, a tenant, a namespace, a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(Arc<str>);

/// Longest scope id, bytes.
pub const SCOPE_ID_SIZE_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeIdError {
    #[error("a scope id must not be empty")]
    Empty,
    #[error("a scope id must be at most {SCOPE_ID_SIZE_MAX} bytes long, got {0}")]
    TooLong(usize),
    #[error("a scope id must not contain control characters")]
    ControlCharacter,
}

impl ScopeId {
    pub fn new(text: &str) -> Result<ScopeId, ScopeIdError> {
        if text.is_empty() {
            return Err(ScopeIdError::Empty);
        }
        if text.len() > SCOPE_ID_SIZE_MAX {
            return Err(ScopeIdError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(ScopeIdError::ControlCharacter);
        }
        Ok(ScopeId(text.into()))
    }

    /// Stands where rows have no scope. No scope has this id.
    pub fn nobody() -> ScopeId {
        ScopeId("".into())
    }

    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
