//! Who may do what.
//!
//! Each route names an [`Action`]; a rule says who may do it, and whose figures the caller sees
//! then ([`Sight`]). The rules are `CloudKitty`'s by default; `policy.toml` replaces single ones,
//! in the words of `OpenStack`'s policies.
//!
//! A rule can let somebody in or keep somebody out. It never widens what a caller who is no
//! administrator sees of scopes: that is the caller's own, whatever is asked for. Price lists,
//! scripts and modules belong to no scope.

mod actions;
mod file;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod rule;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) use actions::*;
use rule::Rule;

use super::caller::{Caller, Sight};
use super::failure::Failure;
use super::kept::{FileError, Kept, Privacy};
use crate::usage::ScopeId;

/// Who may do what, by the rules in force; cheap to ask, from any thread.
#[derive(Debug)]
pub struct Policy {
    default: Arc<Rules>,
    /// The default rules, with those of a file in place of the ones of the same name.
    file: Option<Kept<Rules>>,
}

/// By name: those of actions, and those that others refer to. References have been checked.
#[derive(Debug, PartialEq, Eq)]
struct Rules(BTreeMap<String, Rule>);

/// The rule that says who sees and changes everything.
const IS_ADMIN: &str = "context_is_admin";

impl Policy {
    /// `path`: a file with rules in place of default ones.
    pub fn load(path: Option<&Path>) -> Result<Policy, FileError> {
        let load = |path: &Path| {
            let own = path.to_owned();
            let read = move |contents: &[Vec<u8>]| Rules::read(&own, &contents[0]);
            Kept::load("policy", vec![(path.to_owned(), Privacy::Public)], read)
        };
        Ok(Policy { default: Arc::default(), file: path.map(load).transpose()? })
    }

    /// Looks for a new file; blocks.
    pub(super) fn reread(&self) {
        self.file.iter().for_each(Kept::reread);
    }

    fn rules(&self) -> Arc<Rules> {
        self.file.as_ref().map_or_else(|| Arc::clone(&self.default), Kept::now)
    }

    /// Refuses with the contract's words, or says whose figures the caller sees.
    pub(crate) fn admit(&self, caller: &Caller, action: &'static Action) -> Result<Sight, Failure> {
        if *caller == Caller::Everybody {
            return Ok(Sight::Everything);
        }
        let rules = self.rules();
        if !rules.allow(caller, action.name) {
            return Err(Failure::Forbidden(action));
        }
        let sight = rules.sight(caller);
        if action.subject == Subject::Scopes && sight == Sight::Nothing {
            return Err(Failure::Forbidden(action));
        }
        Ok(sight)
    }

    /// Whose figures the caller sees where everybody may ask.
    pub(crate) fn sight(&self, caller: &Caller) -> Sight {
        self.rules().sight(caller)
    }
}

impl Rules {
    fn sight(&self, caller: &Caller) -> Sight {
        if *caller == Caller::Everybody || self.allow(caller, IS_ADMIN) {
            return Sight::Everything;
        }
        match caller.project_id().map(ScopeId::new) {
            Some(Ok(scope)) => Sight::Own(scope),
            Some(Err(_)) | None => Sight::Nothing,
        }
    }

    fn allow(&self, caller: &Caller, name: &str) -> bool {
        // A name that has no rule lets nobody in; every action has one.
        self.0.get(name).is_some_and(|rule| rule.allows(caller, &self.0))
    }
}

#[cfg(test)]
mod tests;
