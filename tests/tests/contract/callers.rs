//! Those who called when the section on authentication was recorded, with a real Keystone.

use std::collections::BTreeMap;
use std::path::Path;

use rated_tests::{Keystone, Target, User};

/// What the record calls them.
const ADMIN_TOKEN: &str = "c93e3e31342e4e32ba201fd3d70878b5";
const ADMIN_ID: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
const T1: &str = "8f82cc70-e50c-466e-8624-24bdea811375";
const T2: &str = "7606a24a-b8ad-4ae0-be6c-3d7a41334a2e";

/// Least that is left of an id where an answer was cut, characters.
const SHORTEST_CUT: usize = 6;

#[derive(Debug)]
pub struct Callers {
    keystone: Keystone,
    /// Ids as recorded, and as they are.
    ids: Vec<(&'static str, String)>,
    /// By what the record calls the caller, or the token.
    tokens: BTreeMap<&'static str, String>,
}

impl Callers {
    pub fn start(folder: &Path) -> Callers {
        let keystone = Keystone::start(folder);
        let api = &keystone.api;
        let elsewhere = api.create_project("elsewhere");
        // Frames are sorted by scope, so the ids must be in the recorded order.
        let mut projects = ["this", "that"].map(|name| api.create_project(name));
        projects.sort_unstable();
        let [two, one] = projects;
        let user = |name: &str, roles: &[&str], target: Target<'_>| -> (User, String) {
            let user = api.create_user(name, "a-password");
            for role in roles {
                api.assign(&user, role, target);
            }
            let token = api.token(&user, target);
            (user, token)
        };
        let (admin, admin_token) = user("the-admin", &["admin"], Target::Project(&elsewhere));
        let (_, member) = user("member", &["member", "reader"], Target::Project(&one));
        let (_, third) = user("third", &["unrelated"], Target::Project(&one));
        let (_, nowhere) = user("nowhere", &["reader"], Target::Domain("default"));
        user("rated", &["admin"], Target::Project(&elsewhere));
        let ids = vec![(ADMIN_ID, admin.id), (T1, one), (T2, two)];
        let tokens = BTreeMap::from([
            (ADMIN_TOKEN, admin_token.clone()),
            ("admin", admin_token),
            ("member of T1", member),
            ("no role on T1", third),
            ("no project", nowhere),
        ]);
        Callers { keystone, ids, tokens }
    }

    /// The daemon's configuration.
    pub fn config(&self) -> String {
        let url = &self.keystone.api.url;
        format!(
            "[api.keystone]\nurl = \"{url}\"\nwww_authenticate_uri = \"http://KEYSTONE\"\n\
             username = \"rated\"\npassword = \"a-password\"\nproject_name = \"elsewhere\"\n"
        )
    }

    /// The record with the ids that there are now.
    pub fn translate(&self, record: &str) -> String {
        let mut text = record.to_owned();
        for (old, new) in &self.ids {
            text = text.replace(old, new);
            // An answer may have been cut within an id.
            for length in SHORTEST_CUT..old.len() {
                let cut = |id: &str| format!("{} [...]", &id[..length.min(id.len())]);
                text = text.replace(&cut(old), &cut(new));
            }
        }
        text
    }

    /// The token that stands for what the record shows; what it does not know is sent as it is.
    pub fn token(&self, recorded: &str) -> String {
        self.tokens.get(recorded).cloned().unwrap_or_else(|| recorded.to_owned())
    }
}
