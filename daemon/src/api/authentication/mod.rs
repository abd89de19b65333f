//! Who calls: what came with a request becomes a [`Caller`], or a refusal.
//!
//! A secret that was sent is compared in constant time or as a hash, and stands in no log, no error
//! and no `Debug` output.
//!
//! This module does not decide what a caller may do: that is the policy.

use warp::http::HeaderMap;

use super::caller::Caller;
use super::failure::Failure;
use crate::config::{ApiConfig, Auth};

/// Knows who calls.
#[derive(Debug)]
pub(crate) struct Authentication {
    auth: Auth,
    /// Whoever a test says.
    #[cfg(test)]
    pub(crate) fixed: Option<Option<Caller>>,
}

impl Authentication {
    pub(crate) fn new(config: &ApiConfig) -> Authentication {
        Authentication {
            auth: config.auth,
            #[cfg(test)]
            fixed: None,
        }
    }

    /// `Ok(None)`: the request says nothing of who calls. An error when what it says is wrong, or
    /// when it cannot be checked at the moment.
    #[expect(clippy::unused_async, reason = "other ways ask a server")]
    pub(crate) async fn caller(&self, _headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
        #[cfg(test)]
        if let Some(caller) = &self.fixed {
            return Ok(caller.clone());
        }
        match self.auth {
            Auth::None => Ok(Some(Caller::Everybody)),
        }
    }

    /// Values of `WWW-Authenticate`: how callers can say who they are.
    pub(crate) fn challenges(&self) -> Vec<String> {
        match self.auth {
            Auth::None => Vec::new(),
        }
    }
}
