//! Who may do what.
//!
//! Each route names an [`Action`]; a rule says who may do it, and whose figures the caller sees
//! then ([`Sight`]). The rules are `CloudKitty`'s by default; `policy.toml` replaces single ones,
//! in the words of OpenStack's policies.
//!
//! A rule can let somebody in or keep somebody out. It never widens what a caller who is no
//! administrator sees: that is the caller's own scope, whatever is asked for.

mod actions;
mod file;
mod rule;

use std::collections::BTreeMap;

pub(crate) use actions::*;
pub use file::PolicyError;
use rule::Rule;

use super::caller::{Caller, Sight};
use super::failure::Failure;
use crate::usage::ScopeId;

/// The rules in force; cheap to ask.
#[derive(Debug)]
pub struct Policy {
    /// By name: those of actions, and those that others refer to. References have been checked.
    rules: BTreeMap<String, Rule>,
}

/// The rule that says who sees and changes everything.
const IS_ADMIN: &str = "context_is_admin";

impl Policy {
    /// Refuses with the contract's words, or says whose figures the caller sees.
    pub(crate) fn admit(&self, caller: &Caller, action: &'static Action) -> Result<Sight, Failure> {
        if *caller == Caller::Everybody {
            return Ok(Sight::Everything);
        }
        if !self.allows(caller, action.name) {
            return Err(Failure::Forbidden(action));
        }
        let sight = self.sight(caller);
        if action.subject == Subject::Scopes && sight == Sight::Nothing {
            return Err(Failure::Forbidden(action));
        }
        Ok(sight)
    }

    /// Whose figures the caller sees, once the action is allowed.
    pub(crate) fn sight(&self, caller: &Caller) -> Sight {
        if *caller == Caller::Everybody || self.is_admin(caller) {
            return Sight::Everything;
        }
        match caller.project_id().map(ScopeId::new) {
            Some(Ok(scope)) => Sight::Own(scope),
            Some(Err(_)) | None => Sight::Nothing,
        }
    }

    pub(crate) fn is_admin(&self, caller: &Caller) -> bool {
        *caller == Caller::Everybody || self.allows(caller, IS_ADMIN)
    }

    fn allows(&self, caller: &Caller, name: &str) -> bool {
        // A name that has no rule lets nobody in; every action has one.
        self.rules.get(name).is_some_and(|rule| rule.allows(caller, &self.rules))
    }
}

#[cfg(test)]
mod tests;
