use crate::usage::ScopeId;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody is asked who they are: `auth = "none"`.
    Everybody,
    /// Somebody who said nothing, where nothing is needed.
    Anonymous,
    Known(Identity),
}

/// What the authentication says of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// Stands beside what the caller changes.
    pub(crate) user_id: String,
    /// The project that the caller speaks for; the id of a scope.
    pub(crate) project_id: Option<String>,
    /// What the caller may do; compared without regard to case.
    pub(crate) roles: Vec<String>,
}

/// Whose figures a caller may see and change, whatever else is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    Everything,
    /// One scope, the caller's own.
    Own(ScopeId),
    /// Nobody's.
    Nothing,
}

/// Stands for the user where nobody is asked who they are; clients know it.
const UNKNOWN: &str = "unknown";

impl Caller {
    /// As it stands beside changes.
    pub(crate) fn user_id(&self) -> &str {
        match self {
            Caller::Known(identity) => &identity.user_id,
            Caller::Everybody | Caller::Anonymous => UNKNOWN,
        }
    }

    pub(crate) fn project_id(&self) -> Option<&str> {
        match self {
            Caller::Known(identity) => identity.project_id.as_deref(),
            Caller::Everybody | Caller::Anonymous => None,
        }
    }

    pub(crate) fn roles(&self) -> &[String] {
        match self {
            Caller::Known(identity) => &identity.roles,
            Caller::Everybody | Caller::Anonymous => &[],
        }
    }
}

impl Sight {
    pub(crate) fn covers(&self, scope: &str) -> bool {
        match self {
            Sight::Everything => true,
            Sight::Own(own) => own.as_str() == scope,
            Sight::Nothing => false,
        }
    }

    /// Takes the place of whatever scopes were asked for; `None` = they stay.
    pub(crate) fn scopes(&self) -> Option<Vec<ScopeId>> {
        match self {
            Sight::Everything => None,
            Sight::Own(own) => Some(vec![own.clone()]),
            Sight::Nothing => Some(Vec::new()),
        }
    }
}
