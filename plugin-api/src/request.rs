//! What the host asks, and what it is answered over REST.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The rules to prepare: those in force at `at`, as they were known at `revision` of the instance's
/// keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The begin of the period that will be rated.
    pub at: DateTime<Utc>,
    /// Pass it to [`crate::Host::kv_scan`] and [`crate::Host::kv_get`].
    pub revision: u64,
}

/// A metric's definition, as in `metrics.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricDefinition {
    /// As the source calls it.
    pub name: String,
    /// The metric's type: in frames, reports and hashmap services.
    pub alt_name: String,
    /// A label for people.
    pub unit: String,
    /// Attributes kept and groupable, without the scope key.
    #[serde(default)]
    pub groupby: Vec<String>,
    /// Attributes kept, not groupable.
    #[serde(default)]
    pub metadata: Vec<String>,
    /// The collector's own arguments.
    #[serde(default)]
    pub extra_args: serde_json::Map<String, serde_json::Value>,
}

impl MetricDefinition {
    /// A metric without attributes, whose type is its name.
    pub fn new(name: &str) -> MetricDefinition {
        MetricDefinition {
            name: name.to_owned(),
            alt_name: name.to_owned(),
            unit: String::new(),
            groupby: Vec::new(),
            metadata: Vec::new(),
            extra_args: serde_json::Map::new(),
        }
    }

    /// With these groupable attributes.
    #[must_use]
    pub fn with_groupby<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.groupby = names.into_iter().map(Into::into).collect();
        self
    }

    /// With these other attributes.
    #[must_use]
    pub fn with_metadata<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.metadata = names.into_iter().map(Into::into).collect();
        self
    }
}

/// One metric of one period, half-open, for many scopes.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectRequest {
    /// What to measure, and by which attributes.
    pub metric: MetricDefinition,
    /// The attribute that names the scope.
    pub scope_key: String,
    /// Empty = every scope.
    pub scopes: Vec<String>,
    /// The period's begin, inclusive.
    pub begin: DateTime<Utc>,
    /// The period's end, exclusive.
    pub end: DateTime<Utc>,
}

/// Why rows are rated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// A period that goes into the ledger.
    Period = 0,
    /// Somebody asks what something would cost.
    Quote = 1,
    /// An audit rates again what is in the ledger.
    Replay = 2,
}

impl Purpose {
    /// The purpose of a number from the other side.
    pub fn from_raw(raw: u32) -> Option<Purpose> {
        match raw {
            0 => Some(Purpose::Period),
            1 => Some(Purpose::Quote),
            2 => Some(Purpose::Replay),
            _ => None,
        }
    }
}

/// What the rows of a batch have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRequest {
    /// Why.
    pub purpose: Purpose,
    /// The metric type.
    pub metric: String,
    /// The period's begin, inclusive.
    pub begin: DateTime<Utc>,
    /// The period's end, exclusive.
    pub end: DateTime<Utc>,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Method {
    /// Reads.
    Get = 1,
    /// Makes.
    Post = 2,
    /// Replaces.
    Put = 3,
    /// Removes.
    Delete = 4,
    /// Changes in part.
    Patch = 5,
}

impl Method {
    /// The method of a number from the other side.
    pub fn from_raw(raw: u32) -> Option<Method> {
        use Method::{Delete, Get, Patch, Post, Put};
        [Get, Post, Put, Delete, Patch].into_iter().find(|method| *method as u32 == raw)
    }
}

/// Who calls over REST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Principal {
    /// `unknown` when nobody is asked to log in.
    pub user_id: String,
    /// The scope (project, tenant) the caller belongs to.
    pub scope_id: Option<String>,
    /// What the caller may do, as the login says.
    #[serde(default)]
    pub roles: Vec<String>,
    /// May the caller see and change what is not the scope's own?
    #[serde(default)]
    pub is_admin: bool,
}

/// A REST call to a rating module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// Below the module's name, percent-decoded: `/mappings/<id>`. No trailing slash.
    pub path: String,
    /// Still percent-encoded; see [`Request::query_pairs`].
    pub query: String,
    /// The `Content-Type` header; may be empty.
    pub content_type: String,
    /// At most 1 MiB.
    pub body: Vec<u8>,
    /// Who calls; never a token.
    pub principal: Principal,
}

impl Request {
    /// As an administrator would send it, for tests.
    pub fn new(method: Method, path: &str, body: impl Into<Vec<u8>>) -> Request {
        Request {
            method,
            path: path.to_owned(),
            query: String::new(),
            content_type: "application/json".to_owned(),
            body: body.into(),
            principal: Principal {
                user_id: "unknown".to_owned(),
                scope_id: None,
                roles: vec!["admin".to_owned()],
                is_admin: true,
            },
        }
    }

    /// [`Request::new`] with `GET`.
    pub fn get(path: &str) -> Request {
        Request::new(Method::Get, path, "")
    }

    /// [`Request::new`] with `POST`.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new(Method::Post, path, body)
    }

    /// [`Request::new`] with `PUT`.
    pub fn put(path: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new(Method::Put, path, body)
    }

    /// [`Request::new`] with `DELETE`.
    pub fn delete(path: &str) -> Request {
        Request::new(Method::Delete, path, "")
    }

    /// The query's names and values, percent-decoded, in order; `+` is a blank, a name alone has an
    /// empty value.
    ///
    /// ```
    /// use rated_plugin::Request;
    ///
    /// let request = Request { query: "name=a%20b&all".to_owned(), ..Request::get("/prices") };
    /// assert_eq!(request.query_value("name").as_deref(), Some("a b"));
    /// assert_eq!(request.query_pairs().len(), 2);
    /// ```
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        self.query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decoded(name), percent_decoded(value))
            })
            .collect()
    }

    /// The first value of that name in the query.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query_pairs().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

/// What is no escape stays as it is; bytes that are not UTF-8 are replaced.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = (byte == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(match (escaped, byte) {
            (Some(escaped), _) => escaped,
            (None, b'+') => b' ',
            (None, byte) => byte,
        });
        index += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status, 200 to 599.
    pub status: u16,
    /// The `Content-Type` header; empty = none.
    pub content_type: String,
    /// `Location`, relative to the module: `/mappings/<id>`.
    pub location: Option<String>,
    /// What the caller gets.
    pub body: Vec<u8>,
}

impl Response {
    /// A JSON body.
    ///
    /// ```
    /// use rated_plugin::Response;
    ///
    /// let made = Response::json(201, &serde_json::json!({ "id": 7 })).with_location("/prices/7");
    /// assert_eq!(made.body, br#"{"id":7}"#);
    /// ```
    pub fn json(status: u16, body: &serde_json::Value) -> Response {
        Response {
            status,
            content_type: "application/json".to_owned(),
            location: None,
            body: body.to_string().into_bytes(),
        }
    }
    /// No body.
    pub fn empty(status: u16) -> Response {
        Response { status, content_type: String::new(), location: None, body: Vec::new() }
    }
    /// 404 without a body.
    pub fn not_found() -> Response {
        Response::empty(404)
    }
    /// With a `Location` header, relative to the module.
    #[must_use]
    pub fn with_location(mut self, location: impl Into<String>) -> Response {
        self.location = Some(location.into());
        self
    }
}

/// How the host sends an [`HttpRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpOptions {
    /// The whole exchange, milliseconds; the call's deadline holds as well.
    pub timeout_ms: Option<u64>,
    /// Largest body accepted, bytes after decompression; a longer one is `BadData`.
    pub body_size_max: Option<u64>,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<String>,
    /// PEM file of the client certificate.
    pub cert_file: Option<String>,
    /// PEM file of the client certificate's key.
    pub key_file: Option<String>,
}

/// A request the host sends for a plugin: no runtime, no TLS stack of its own needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// What is to be done.
    pub method: Method,
    /// Absolute.
    pub url: String,
    /// Names in any case.
    pub headers: BTreeMap<String, String>,
    /// Empty = none.
    pub body: Vec<u8>,
    /// Limits and keys.
    pub options: HttpOptions,
}

impl HttpRequest {
    /// A `GET` without headers.
    pub fn get(url: &str) -> HttpRequest {
        HttpRequest {
            method: Method::Get,
            url: url.to_owned(),
            headers: BTreeMap::new(),
            body: Vec::new(),
            options: HttpOptions::default(),
        }
    }
}

/// The answer to an [`HttpRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Any HTTP status.
    pub status: u16,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Decompressed.
    pub body: Vec<u8>,
}

/// One change of the instance's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Any text; a prefix of it can be scanned for.
    pub key: String,
    /// `None` removes the key.
    pub value: Option<Vec<u8>>,
}

impl Edit {
    /// Sets a key.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Edit {
        Edit { key: key.into(), value: Some(value.into()) }
    }

    /// Removes a key.
    pub fn remove(key: impl Into<String>) -> Edit {
        Edit { key: key.into(), value: None }
    }
}
