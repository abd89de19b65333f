//! Keystone's API as the tests use it: whatever is not answered as expected fails the test.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{ADMIN, ADMIN_PASSWORD, Answer, REGION, send_with};

/// Asks one server; changes are made as its administrator. Copies ask the same one.
#[derive(Debug, Clone)]
pub struct KeystoneApi {
    /// With the version: `http://127.0.0.1:5000/v3`.
    pub url: String,
    /// The administrator's, and until when it is used again.
    admin_token: Arc<Mutex<Option<(Instant, String)>>>,
}

/// A user in the domain `Default`.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub name: String,
    pub password: String,
}

#[derive(Debug, Clone)]
pub struct ApplicationCredential {
    pub id: String,
    pub secret: String,
}

#[derive(Debug)]
struct Issued {
    token: String,
    lifetime: Duration,
}

/// What a token or a role is good for.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// By its id.
    Project(&'a str),
    /// By its id.
    Domain(&'a str),
    System,
    /// Only tokens have this: it says who somebody is.
    Nothing,
}

impl KeystoneApi {
    pub(crate) fn new(url: String) -> KeystoneApi {
        KeystoneApi { url, admin_token: Arc::default() }
    }

    pub fn create_domain(&self, name: &str) -> String {
        self.create("domains", "domain", &json!({"name": name}))
    }

    /// In the domain `Default`. Answers the id, as all the others do.
    pub fn create_project(&self, name: &str) -> String {
        self.create_project_in("default", name)
    }

    pub fn create_project_in(&self, domain: &str, name: &str) -> String {
        self.create("projects", "project", &json!({"name": name, "domain_id": domain}))
    }

    /// Of a project in the domain `Default`.
    pub fn project_id(&self, name: &str) -> String {
        let path = format!("/projects?domain_id=default&name={name}");
        let answer = self.ask(&Method::GET, &path, None).expect(200);
        answer["projects"][0]["id"].as_str().expect("a project of that name").to_owned()
    }

    /// A disabled one is no longer found by anybody's token.
    pub fn set_project_enabled(&self, project: &str, enabled: bool) {
        let body = json!({"project": {"enabled": enabled}});
        self.ask(&Method::PATCH, &format!("/projects/{project}"), Some(&body)).expect(200);
    }

    pub fn create_user(&self, name: &str, password: &str) -> User {
        let body = json!({"name": name, "password": password, "domain_id": "default"});
        let id = self.create("users", "user", &body);
        User { id, name: name.to_owned(), password: password.to_owned() }
    }

    pub fn create_role(&self, name: &str) -> String {
        self.create("roles", "role", &json!({"name": name}))
    }

    /// Gives a user a role, which is made when it is not there.
    pub fn assign(&self, user: &User, role: &str, target: Target<'_>) {
        let role = self.role_id(role).unwrap_or_else(|| self.create_role(role));
        self.ask(&Method::PUT, &assignment(user, &role, target), None).expect(204);
    }

    pub fn unassign(&self, user: &User, role: &str, target: Target<'_>) {
        let role = self.role_id(role).expect("a role that was assigned");
        self.ask(&Method::DELETE, &assignment(user, &role, target), None).expect(204);
    }

    /// Made by the user, with all roles that it has on the project.
    pub fn create_application_credential(
        &self,
        user: &User,
        project: &str,
        name: &str,
    ) -> ApplicationCredential {
        let token = self.token(user, Target::Project(project));
        let path = format!("/users/{}/application_credentials", user.id);
        let body = json!({"application_credential": {"name": name}});
        let answer = self.ask_as(&token, &Method::POST, &path, Some(&body)).expect(201);
        let text = |field: &str| {
            let value = answer["application_credential"][field].as_str();
            value.expect("a text").to_owned()
        };
        ApplicationCredential { id: text("id"), secret: text("secret") }
    }

    /// A service with three equal endpoints in [`REGION`]. Answers the service's id.
    pub fn add_service(&self, kind: &str, name: &str, url: &str) -> String {
        let service = self.create("services", "service", &json!({"type": kind, "name": name}));
        for interface in ["public", "internal", "admin"] {
            self.add_endpoint(&service, REGION, interface, url);
        }
        service
    }

    pub fn create_region(&self, id: &str) {
        self.create("regions", "region", &json!({"id": id}));
    }

    /// Another endpoint of a service.
    pub fn add_endpoint(&self, service: &str, region: &str, interface: &str, url: &str) {
        let body = json!({
            "service_id": service, "region_id": region, "interface": interface, "url": url
        });
        self.create("endpoints", "endpoint", &body);
    }

    /// A new one for the administrator and its own project.
    pub fn admin_token(&self) -> String {
        self.issue_for_admin().token
    }

    /// One that has at least half of its life before it.
    pub(crate) fn recent_admin_token(&self) -> String {
        let mut kept = self.admin_token.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((until, token)) if Instant::now() < *until => token.clone(),
            _ => {
                let start = Instant::now();
                let Issued { token, lifetime } = self.issue_for_admin();
                *kept = Some((start + lifetime / 2, token.clone()));
                token
            }
        }
    }

    fn issue_for_admin(&self) -> Issued {
        let admin =
            User { id: String::new(), name: ADMIN.to_owned(), password: ADMIN_PASSWORD.to_owned() };
        let scope = json!({"project": {"name": ADMIN, "domain": {"id": "default"}}});
        self.issue(&password_method(&admin), Some(scope)).expect("the admin's password")
    }

    pub fn token(&self, user: &User, target: Target<'_>) -> String {
        let issued = self.try_token(user, target);
        issued.unwrap_or_else(|answer| panic!("no token for {}: {}", user.name, answer.text))
    }

    /// The same, with what Keystone says when it refuses.
    pub fn try_token(&self, user: &User, target: Target<'_>) -> Result<String, Answer> {
        self.issue(&password_method(user), scope_of(target)).map(|issued| issued.token)
    }

    pub fn application_token(&self, credential: &ApplicationCredential) -> String {
        let method = json!({
            "methods": ["application_credential"],
            "application_credential": {"id": credential.id, "secret": credential.secret},
        });
        let issued = self.issue(&method, None);
        issued.unwrap_or_else(|answer| panic!("no token for a credential: {}", answer.text)).token
    }

    /// What is known of a token: its field `token`, or nothing when it is no longer good.
    pub fn validate(&self, token: &str) -> Option<Value> {
        let headers = [("X-Auth-Token", &*self.recent_admin_token()), ("X-Subject-Token", token)];
        let answer = self.send(&Method::GET, "/auth/tokens", &headers, None);
        (answer.status != 404).then(|| answer.expect(200)["token"].clone())
    }

    pub fn revoke(&self, token: &str) {
        let headers = [("X-Auth-Token", &*self.recent_admin_token()), ("X-Subject-Token", token)];
        self.send(&Method::DELETE, "/auth/tokens", &headers, None).expect(204);
    }

    /// Anything else, as the administrator; the path stands behind `/v3`.
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&self.recent_admin_token(), method, path, body)
    }

    pub fn ask_as(&self, token: &str, method: &Method, path: &str, body: Option<&Value>) -> Answer {
        self.send(method, path, &[("X-Auth-Token", token)], body)
    }

    fn role_id(&self, name: &str) -> Option<String> {
        let answer = self.ask(&Method::GET, &format!("/roles?name={name}"), None).expect(200);
        answer["roles"][0]["id"].as_str().map(str::to_owned)
    }

    fn create(&self, list: &str, name: &str, body: &Value) -> String {
        let answer = self.ask(&Method::POST, &format!("/{list}"), Some(&json!({ name: body })));
        let answer = answer.expect(201);
        answer[name]["id"].as_str().expect("an id").to_owned()
    }

    fn issue(&self, identity: &Value, scope: Option<Value>) -> Result<Issued, Answer> {
        let mut body = json!({"auth": {"identity": identity}});
        if let Some(scope) = scope {
            body["auth"]["scope"] = scope;
        }
        let answer = self.send(&Method::POST, "/auth/tokens", &[], Some(&body));
        if answer.status != 201 {
            return Err(answer);
        }
        let token = answer.header("x-subject-token").expect("every token is named in a header");
        let body = answer.expect(201);
        let time = |field: &str| -> DateTime<Utc> {
            let text = body["token"][field].as_str().expect("a text");
            text.parse().expect("an ISO 8601 date")
        };
        let lifetime = time("expires_at") - time("issued_at");
        let lifetime = lifetime.to_std().expect("a token ends after its begin");
        Ok(Issued { token: token.to_owned(), lifetime })
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        send_with(method, &format!("{}{path}", self.url), headers, body)
            .unwrap_or_else(|error| panic!("{method} {path} of Keystone: {error}"))
    }
}

fn assignment(user: &User, role: &str, target: Target<'_>) -> String {
    let place = match target {
        Target::Project(id) => format!("projects/{id}"),
        Target::Domain(id) => format!("domains/{id}"),
        Target::System => "system".to_owned(),
        Target::Nothing => panic!("a role is for something"),
    };
    format!("/{place}/users/{}/roles/{role}", user.id)
}

fn password_method(user: &User) -> Value {
    json!({
        "methods": ["password"],
        "password": {"user": {
            "name": user.name, "domain": {"id": "default"}, "password": user.password
        }},
    })
}

fn scope_of(target: Target<'_>) -> Option<Value> {
    match target {
        Target::Project(id) => Some(json!({"project": {"id": id}})),
        Target::Domain(id) => Some(json!({"domain": {"id": id}})),
        Target::System => Some(json!({"system": {"all": true}})),
        Target::Nothing => None,
    }
}
