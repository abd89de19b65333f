//! Policies as a fuzzer has them: each is refused, or decides about everybody and everything.

use std::path::Path;

use super::actions::ACTIONS;
use super::{IS_ADMIN, Rules};
use crate::api::caller::{Caller, Identity, Sight};

/// `policy.toml`.
pub(in crate::api) fn file(bytes: &[u8]) {
    let rules = match Rules::read(Path::new("policy.toml"), bytes) {
        Ok(rules) => rules,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for caller in callers() {
        for action in ACTIONS {
            let _ = rules.allow(&caller, action.name);
        }
        let sees_all = rules.sight(&caller) == Sight::Everything;
        assert_eq!(sees_all, rules.allow(&caller, IS_ADMIN));
    }
}

fn callers() -> Vec<Caller> {
    let known = |project: Option<&str>, roles: &[&str]| {
        Caller::Known(Identity {
            user_id: "ann".to_owned(),
            project_id: project.map(str::to_owned),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        })
    };
    vec![known(None, &[]), known(Some("p"), &["member"]), known(Some("p"), &["Admin"])]
}
