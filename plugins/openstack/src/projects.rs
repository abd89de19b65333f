//! The fetcher: the projects of Keystone are the scopes.
//!
//! As in `CloudKitty`, a project counts when the user who asks has the role `rating` in it: given
//! to the user itself and in the project itself, not by a group and not inherited. Projects of all
//! domains are looked at. (`CloudKitty` asks once for each project; here it is two questions.)

use std::collections::BTreeSet;

use rated_plugin::access::form;
use rated_plugin::{Batches, Call, Component, Error, Fetcher, Host, HttpResponse, Level, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::answer;
use crate::keystone::Session;
use crate::settings::settings;

/// Most projects in one answer.
const PROJECTS_MAX: usize = if cfg!(test) { 1000 } else { 1_000_000 };
/// Most pages of a list.
const PAGES_MAX: usize = 10_000;

settings! {
    /// The configuration of the fetcher.
    ProjectsSettings {
        rating_role: Option<String>,
        #[serde(default)]
        ignore_rating_role: bool,
        #[serde(default)]
        ignore_disabled_tenants: bool,
    }
}

/// Finds projects by asking Keystone.
#[derive(Debug)]
pub struct KeystoneProjects {
    host: Host,
    session: Session,
    /// `None` = every project.
    role: Option<String>,
    ignore_disabled: bool,
}

impl Component for KeystoneProjects {
    const NAME: &'static str = "keystone";
    const SUMMARY: &'static str = "Takes the projects in which its user has a role as scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample-keystone.toml");
    type Config = ProjectsSettings;

    fn create(config: ProjectsSettings, host: Host) -> Result<KeystoneProjects> {
        let role = config.rating_role.clone().unwrap_or_else(|| "rating".to_owned());
        if role.is_empty() {
            return Err(Error::invalid_config(
                "`rating_role`: must not be empty\n\
                 (hint: with `ignore_rating_role` every project is a scope)",
            ));
        }
        Ok(KeystoneProjects {
            host,
            session: config.common().session(host)?,
            role: (!config.ignore_rating_role).then_some(role),
            ignore_disabled: config.ignore_disabled_tenants,
        })
    }

    fn check(&self, call: &Call) -> Result<()> {
        match &self.role {
            Some(role) => self.projects_with(call, role).map(drop),
            None => self.session.token(call).map(drop),
        }
    }
}

impl Fetcher for KeystoneProjects {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        let with_role = match &self.role {
            Some(role) => Some(self.projects_with(call, role)?),
            None => None,
        };
        let mut scopes = BTreeSet::new();
        self.list(call, "/v3/projects", "projects", |project: Project| {
            let is_wanted = with_role.as_ref().is_none_or(|ids| ids.contains(&project.id));
            if is_wanted && (project.enabled || !self.ignore_disabled) {
                scopes.insert(project.id);
            }
        })?;
        if let Some(role) = self.role.as_ref().filter(|_| scopes.is_empty()) {
            let message =
                format!("The user has the role `{role}` in no project: nobody is billed.");
            self.host.log(Level::Warn, &message);
        }
        Ok(Batches::scopes(scopes))
    }
}

impl KeystoneProjects {
    fn projects_with(&self, call: &Call, role: &str) -> Result<BTreeSet<String>> {
        let token = self.session.token(call)?;
        let fields = [("user.id", token.user_id.as_str()), ("include_names", "true")];
        let path = format!("/v3/role_assignments?{}", form(&fields));
        let mut ids = BTreeSet::new();
        self.list(call, &path, "role_assignments", |assignment: Assignment| {
            if let Some(project) = assignment.scope.project
                && assignment.scope.inherited_to.is_none()
                && assignment.role.name == role
            {
                ids.insert(project.id);
            }
        })?;
        Ok(ids)
    }

    /// All pages of a list.
    fn list<T: DeserializeOwned>(
        &self,
        call: &Call,
        first: &str,
        name: &str,
        mut each: impl FnMut(T),
    ) -> Result<()> {
        let located = |error| self.session.placed(error);
        let mut path = first.to_owned();
        let mut count = 0;
        for _ in 0..PAGES_MAX {
            let response = self.session.get(call, &path)?;
            let page = Page::read(&response, name).map_err(located)?;
            count += page.items.len();
            if count > PROJECTS_MAX {
                let message = format!("`{name}`: must be at most {PROJECTS_MAX}");
                return Err(located(Error::bad_data(message)));
            }
            page.items.into_iter().for_each(&mut each);
            match page.next {
                None => return Ok(()),
                Some(next) => path = next_path(first, &next).map_err(located)?,
            }
        }
        Err(located(Error::bad_data(format!("`{name}`: must have at most {PAGES_MAX} pages"))))
    }
}

/// Of the address of a next page only the query is used: Keystone may name itself otherwise.
fn next_path(first: &str, next: &str) -> Result<String> {
    let (_, query) = next
        .split_once('?')
        .filter(|(_, query)| query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'))
        .ok_or_else(|| Error::bad_data("the link to the next page leads nowhere"))?;
    let path = first.split('?').next().unwrap_or_default();
    Ok(format!("{path}?{query}"))
}

struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T: DeserializeOwned> Page<T> {
    fn read(response: &HttpResponse, name: &str) -> Result<Page<T>> {
        #[derive(Deserialize)]
        struct Links {
            next: Option<String>,
        }
        let mut answer: serde_json::Map<String, serde_json::Value> = answer::json(response)?;
        if answer.get("truncated").and_then(serde_json::Value::as_bool) == Some(true) {
            return Err(Error::invalid_config(format!(
                "`{name}`: Keystone cuts its list short (hint: `list_limit` in its configuration)"
            )));
        }
        let mut part = |name: &str| answer.remove(name).unwrap_or_default();
        let items =
            serde_json::from_value(part(name)).map_err(|error| answer::unreadable(&error))?;
        let links: Option<Links> =
            serde_json::from_value(part("links")).map_err(|error| answer::unreadable(&error))?;
        Ok(Page { items, next: links.and_then(|links| links.next) })
    }
}

#[derive(Deserialize)]
struct Project {
    id: String,
    enabled: bool,
}

#[derive(Deserialize)]
struct Assignment {
    role: Role,
    scope: Scope,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct Scope {
    project: Option<Id>,
    #[serde(rename = "OS-INHERIT:inherited_to")]
    inherited_to: Option<String>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}
