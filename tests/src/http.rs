//! A plain HTTP client that shows what was answered.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::header::HeaderValue;
use reqwest::{Method, redirect};
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    /// All headers in the order of the answer, their names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    /// The first header with that name, written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| {
            panic!("not JSON ({error}), status {}: {}", self.status, self.text)
        })
    }

    /// The body of an answer that must have this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
}

/// One request; no redirect is followed. An error is a connection that failed.
pub fn send(method: &Method, url: &str, body: Option<&Value>) -> Result<Answer, String> {
    send_with(method, url, &[], body)
}

/// The same with headers, such as a token.
pub fn send_with(
    method: &Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer, String> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        // Another test of the same process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("a client without special needs")
    });
    let mut request = client.request(method.clone(), url).header("Accept", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json").body(body.to_string());
    }
    let answer = request.send().map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let text_of = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text_of(value)))
        .collect();
    let location = answer.headers().get("location").map(text_of);
    let text = answer.text().map_err(|error| error.to_string())?;
    Ok(Answer { status, location, headers, text })
}

/// A GET that must reach a server.
pub fn get(url: &str) -> Answer {
    send(&Method::GET, url, None).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}
