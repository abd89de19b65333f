//! How callers of the API are known: `api.auth` and the sections of its methods.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rated_plugin::access::{Secret, SecretSource};

use super::document::Value;
use super::problem::{ProblemKind, Refusal, nearest};
use super::reader::{Field, TableReader, did_you_mean};
use super::{
    Auth, AuthMethods, BasicConfig, KeystoneConfig, KeystoneDomain, KeystoneLogin, KeystoneName,
    Rights, TokenConfig, source,
};
use crate::usage::ScopeId;

const NONE: &str = "none";
const BASIC: &str = "basic";
const TOKEN: &str = "token";
const KEYSTONE: &str = "keystone";
const CHOICES: &[&str] = &[NONE, BASIC, TOKEN, KEYSTONE];

/// Most roles of one caller.
const ROLES_MAX: usize = 100;
/// Longest name of a role, bytes.
const ROLE_SIZE_MAX: usize = 255;

/// Takes `auth` and the tables `basic`, `token` and `keystone` out of `[api]`.
pub(super) fn read(section: &mut TableReader<'_>, folder: &Path) -> Auth {
    let place = section.place_of("auth");
    let words = read_words(section);
    let wanted = |method: &str| words.iter().any(|word| word == method);
    let mut methods = AuthMethods::default();
    for (method, key) in [(BASIC, "basic"), (TOKEN, "token"), (KEYSTONE, "keystone")] {
        let table = section.optional_table(key);
        match (wanted(method), table) {
            (true, Some(table)) if method == BASIC => methods.basic = read_basic(table, folder),
            (true, Some(table)) if method == TOKEN => methods.token = read_token(table, folder),
            (true, Some(table)) => methods.keystone = read_keystone(table, folder),
            (true, None) => {
                let hint = format!("`{method}` in `api.auth` needs this section");
                let name = section.name_of(key);
                section.fault(place.clone(), &name, ProblemKind::Missing, Some(hint));
            }
            (false, Some(table)) => {
                let kind = ProblemKind::Refused { reason: Refusal::MethodNotUsed };
                let hint = format!("such as `auth = [\"{method}\"]`");
                table.fault(table.place().clone(), &table.path(), kind, Some(hint));
            }
            (false, None) => {}
        }
    }
    if words.is_empty() || wanted(NONE) { Auth::None } else { Auth::Methods(Box::new(methods)) }
}

/// One word, or a list of them.
fn read_words(section: &mut TableReader<'_>) -> Vec<String> {
    let Some(list) = section.text_or_texts("auth") else { return Vec::new() };
    if list.value.is_empty() {
        section.refuse(&list, ProblemKind::Empty, None);
    }
    let mut words: Vec<String> = Vec::new();
    for field in list.value {
        if !CHOICES.contains(&field.value.as_str()) {
            let hint = nearest(&field.value, CHOICES.iter().copied()).map(did_you_mean);
            let kind = ProblemKind::NotOneOf { choices: CHOICES, got: field.value.clone() };
            section.refuse(&field, kind, hint);
        } else if words.contains(&field.value) {
            section.refuse(&field, ProblemKind::Repeated { name: field.value.clone() }, None);
        } else if !words.is_empty() && (field.value == NONE || words[0] == NONE) {
            let kind = ProblemKind::Refused { reason: Refusal::NoneNotAlone };
            section.refuse(&field, kind, None);
        }
        words.push(field.value);
    }
    words
}

fn read_basic(mut section: TableReader<'_>, folder: &Path) -> Option<BasicConfig> {
    let file = section.required_text("htpasswd_file");
    let mut users = BTreeMap::new();
    for (name, mut user) in section.table("users").into_tables() {
        users.insert(name, read_rights(&mut user));
        user.finish();
    }
    section.finish();
    Some(BasicConfig { htpasswd_file: source::resolve(folder, &file?.value), users })
}

/// `roles` and `scope`.
pub(super) fn read_rights(section: &mut TableReader<'_>) -> Rights {
    let mut roles = Vec::new();
    let list = section.texts("roles");
    if let Some(list) = &list
        && list.value.len() > ROLES_MAX
    {
        let kind = ProblemKind::TooMany { max: ROLES_MAX, got: list.value.len() };
        section.refuse(list, kind, None);
    }
    for field in list.into_iter().flat_map(|list| list.value) {
        let sound = !field.value.is_empty()
            && field.value.len() <= ROLE_SIZE_MAX
            && !field.value.chars().any(char::is_control);
        if !sound {
            let wanted = "a name of 1 to 255 bytes without control characters";
            let got = field.value.escape_debug().to_string();
            section.refuse(&field, ProblemKind::Malformed { wanted, got }, None);
        }
        roles.push(field.value);
    }
    let scope = section.text("scope").and_then(|field| {
        let scope = ScopeId::new(&field.value);
        scope.map_err(|error| section.refuse(&field, ProblemKind::ScopeId(error), None)).ok()
    });
    Rights { roles, scope }
}

fn read_token(mut section: TableReader<'_>, folder: &Path) -> Option<TokenConfig> {
    let file = section.required_text("file");
    section.finish();
    Some(TokenConfig { file: source::resolve(folder, &file?.value) })
}

fn read_keystone(mut section: TableReader<'_>, folder: &Path) -> Option<KeystoneConfig> {
    let url = section.required_text("url").and_then(|field| {
        let url = base_url(&field.value);
        if url.is_none() {
            // Its text may hold a password.
            let kind = ProblemKind::Refused { reason: Refusal::NoAddress };
            let hint = "such as `https://keystone.example:5000/v3`".to_owned();
            section.refuse(&field, kind, Some(hint));
        }
        url
    });
    let login = read_login(&mut section, folder);
    let ca_file = section.text("ca_file").map(|field| source::resolve(folder, &field.value));
    let hint = "`timeout_secs` is how long Keystone may take for an answer, in seconds";
    let timeout_secs = section.integer("timeout_secs", 1..=60, 10_u32, hint);
    let hint = "`cache_secs` is how long a token is believed without asking again, in seconds";
    let cache_secs = section.integer("cache_secs", 0..=3600, 300_u32, hint);
    let shown = section.text("www_authenticate_uri").filter(|field| {
        let sound = !field.value.is_empty()
            && field.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if !sound {
            let kind = ProblemKind::Refused { reason: Refusal::NoAddress };
            section.refuse(field, kind, None);
        }
        sound
    });
    section.finish();
    let (url, login) = (url?, login?);
    let www_authenticate_uri = shown.map_or_else(|| url.clone(), |field| field.value);
    Some(KeystoneConfig {
        url,
        login,
        ca_file,
        timeout: Duration::from_secs(timeout_secs.into()),
        cache: Duration::from_secs(cache_secs.into()),
        www_authenticate_uri,
    })
}

/// Without the version and a slash at its end.
fn base_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let sound = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/v3").unwrap_or(base).trim_end_matches('/');
    (sound && base.is_ascii() && !base.contains(['"', ' '])).then(|| base.to_owned())
}

/// The service user: by password, or by an application credential.
fn read_login(section: &mut TableReader<'_>, folder: &Path) -> Option<KeystoneLogin> {
    let keys = ["application_credential_secret", "application_credential_secret_file"];
    let credential = read_secret(section, keys, folder);
    if let Some(id) = section.text("application_credential_id") {
        for key in ["username", "user_id", "password", "password_file", "project_name"] {
            refuse(section, key, Refusal::ApplicationCredentialAlone);
        }
        refuse(section, "project_id", Refusal::ApplicationCredentialAlone);
        let secret = credential.or_else(|| missing(section, keys[0]))?;
        return Some(KeystoneLogin::ApplicationCredential { id: id.value, secret });
    }
    if credential.is_some() {
        missing::<()>(section, "application_credential_id");
    }
    let user = read_name(section, ["username", "user_id"], ["user_domain_name", "user_domain_id"]);
    let project_domain = ["project_domain_name", "project_domain_id"];
    let project = read_name(section, ["project_name", "project_id"], project_domain);
    let password = read_secret(section, ["password", "password_file"], folder);
    let password = password.or_else(|| missing(section, "password"));
    Some(KeystoneLogin::Password { user: user?, project: project?, password: password? })
}

fn refuse(section: &mut TableReader<'_>, key: &'static str, reason: Refusal) {
    if let Some(field) = section.text(key) {
        section.refuse(&field, ProblemKind::Refused { reason }, None);
    }
}

/// Notes it, unless there is a field of that name that was found wrong already.
fn missing<T>(section: &TableReader<'_>, key: &'static str) -> Option<T> {
    let name = section.name_of(key);
    if !section.has_fault(&name) {
        section.fault(section.place().clone(), &name, ProblemKind::Missing, None);
    }
    None
}

fn read_name(
    section: &mut TableReader<'_>,
    [name, id]: [&'static str; 2],
    [domain_name, domain_id]: [&'static str; 2],
) -> Option<KeystoneName> {
    let domain = match (section.text(domain_name), section.text(domain_id)) {
        (Some(_), Some(field)) => {
            let kind = ProblemKind::Refused { reason: Refusal::NameAndId };
            section.refuse(&field, kind, None);
            return None;
        }
        (None, Some(id)) => KeystoneDomain::Id(id.value),
        (Some(name), None) => KeystoneDomain::Name(name.value),
        (None, None) => KeystoneDomain::Name("Default".to_owned()),
    };
    match (section.text(name), section.text(id)) {
        (Some(_), Some(field)) => {
            let kind = ProblemKind::Refused { reason: Refusal::NameAndId };
            section.refuse(&field, kind, None);
            None
        }
        (None, Some(id)) => Some(KeystoneName::Id(id.value)),
        (Some(name), None) => Some(KeystoneName::Name { name: name.value, domain }),
        (None, None) => missing(section, name),
    }
}

/// A secret that stands in the configuration, in the environment, or in a file.
fn read_secret(
    section: &mut TableReader<'_>,
    [key, file_key]: [&'static str; 2],
    folder: &Path,
) -> Option<SecretSource> {
    let text = section.take(key, |value| match value {
        Value::Text(text) | Value::Variable(text) => Ok(Secret::new(text)),
        other => Err(super::reader::wrong_type("text", &other)),
    });
    let file: Option<Field<String>> = section.text(file_key);
    if let (Some(_), Some(field)) = (&text, &file) {
        section.refuse(field, ProblemKind::Refused { reason: Refusal::SecretTwice }, None);
        return None;
    }
    let place = match (&text, &file) {
        (Some(field), _) => (field.place.clone(), field.name.clone()),
        (None, Some(field)) => (field.place.clone(), field.name.clone()),
        (None, None) => return None,
    };
    let path = file.map(|field| source::resolve(folder, &field.value).display().to_string());
    let secret = text.map(|field| field.value);
    let source = SecretSource::of(key, secret.as_ref(), path.as_deref());
    let checked = source.and_then(|source| {
        source.as_ref().map_or(Ok(()), SecretSource::check)?;
        Ok(source)
    });
    checked
        .map_err(|error| {
            let kind = ProblemKind::UnusableSecret { reason: error.message };
            section.fault(place.0, &place.1, kind, None);
        })
        .ok()
        .flatten()
}
