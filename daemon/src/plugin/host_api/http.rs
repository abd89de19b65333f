//! Requests that the daemon sends for plugins.
//!
//! Redirects are not followed and no proxy of the environment is used: a plugin reaches what its
//! configuration names. Errors say which server failed and why, never what stood in the URL's path,
//! query or user part.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

use rated_plugin::{Error, HttpOptions, HttpResponse, Result, Status};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Method, Request, Url};

use super::context::{HttpParts, Services};
use super::room::Share;
use crate::plugin::call::CallState;

/// Of a request that names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_hours(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest body of a request that names no limit, bytes.
const BODY_SIZE_DEFAULT: u64 = 64 * 1024 * 1024;
const BODY_SIZE_MAX: u64 = 1024 * 1024 * 1024;
/// Clients kept, one for each combination of TLS options.
const CLIENTS_MAX: usize = 64;
/// Connections kept open to one server.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// A request as a plugin gave it, copied.
#[derive(Debug)]
pub(super) struct Outgoing {
    request: Request,
    tls: Tls,
    timeout: Duration,
    body_size_max: u64,
    /// Scheme, host and port: all that an error may say.
    server: String,
}

/// What clients differ in. A file that was changed makes another client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Tls {
    /// `http`: needs no authorities, not even a machine that has some.
    Plain,
    Encrypted {
        ca: Option<PemFile>,
        client: Option<(PemFile, PemFile)>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PemFile {
    path: String,
    modified: Option<SystemTime>,
}

#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<Tls, Client>>);

pub(super) fn read(parts: &HttpParts<'_>) -> Result<Outgoing> {
    let HttpParts { method: number, url, headers, body, options } = *parts;
    let options: HttpOptions = parse_json(options, "options")?;
    let headers: BTreeMap<String, String> = parse_json(headers, "headers")?;
    let url: Url = url.parse().map_err(|error| {
        Error::invalid_request(format!("the URL of a request cannot be read: {error}"))
    })?;
    let server = url.origin().ascii_serialization();
    let tls = tls(&url, &options)?;
    let mut request = Request::new(method(number)?, url);
    *request.headers_mut() = header_map(&headers)?;
    if is_this_machine(request.url()) {
        // Nothing travels far: compressing would cost both sides more than it saves.
        let headers = request.headers_mut().entry(ACCEPT_ENCODING);
        headers.or_insert(HeaderValue::from_static("identity"));
    }
    if !body.is_empty() {
        *request.body_mut() = Some(body.to_vec().into());
    }
    let timeout = options.timeout_ms.map_or(TIMEOUT_DEFAULT, Duration::from_millis);
    Ok(Outgoing {
        request,
        tls,
        timeout: timeout.min(TIMEOUT_MAX),
        body_size_max: options.body_size_max.unwrap_or(BODY_SIZE_DEFAULT).min(BODY_SIZE_MAX),
        server,
    })
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn parse_json<T: serde::de::DeserializeOwned + Default>(json: &[u8], what: &str) -> Result<T> {
    if json.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(json).map_err(|error| {
        // Without the text at fault: headers hold secrets.
        let place = format!("line {} column {}", error.line(), error.column());
        Error::invalid_request(format!("the {what} of a request cannot be read at {place}"))
    })
}

fn method(number: u32) -> Result<Method> {
    Ok(match number {
        1 => Method::GET,
        2 => Method::POST,
        3 => Method::PUT,
        4 => Method::DELETE,
        5 => Method::PATCH,
        _ => return Err(Error::invalid_request(format!("the unknown method {number}"))),
    })
}

fn header_map(headers: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let unsound = || Error::invalid_request(format!("the header `{name}` cannot be sent"));
        let header: HeaderName = name.parse().map_err(|_| unsound())?;
        let mut value: HeaderValue = value.parse().map_err(|_| unsound())?;
        value.set_sensitive(true);
        map.append(header, value);
    }
    Ok(map)
}

fn tls(url: &Url, options: &HttpOptions) -> Result<Tls> {
    match url.scheme() {
        "http" => return Ok(Tls::Plain),
        "https" => {}
        other => {
            return Err(Error::invalid_request(format!("the scheme `{other}` cannot be used")));
        }
    }
    let client = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => Some((pem_file(cert), pem_file(key))),
        (None, None) => None,
        _ => {
            let message = "a client certificate needs both `cert_file` and `key_file`";
            return Err(Error::invalid_config(message));
        }
    };
    Ok(Tls::Encrypted { ca: options.ca_file.as_deref().map(pem_file), client })
}

fn pem_file(path: &str) -> PemFile {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    PemFile { path: path.to_owned(), modified }
}

impl Clients {
    fn get(&self, tls: &Tls) -> Result<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(tls) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let client = build(tls)?;
        clients.insert(tls.clone(), client.clone());
        Ok(client)
    }
}

fn build(tls: &Tls) -> Result<Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that the program has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .user_agent(concat!("rated/", env!("CARGO_PKG_VERSION")));
    match tls {
        Tls::Plain => builder = builder.tls_certs_only([]),
        Tls::Encrypted { ca, client } => {
            if let Some(ca) = ca {
                let certificates = Certificate::from_pem_bundle(&pem(ca)?).map_err(|_| {
                    let message = format!("`{}` holds no certificates", ca.path);
                    Error::invalid_config(message)
                })?;
                builder = builder.tls_certs_only(certificates);
            }
            if let Some((cert, key)) = client {
                let mut both = pem(cert)?;
                both.push(b'\n');
                both.extend(pem(key)?);
                let identity = Identity::from_pem(&both).map_err(|_| {
                    let message =
                        format!("`{}` and `{}` are no client certificate", cert.path, key.path);
                    Error::invalid_config(message)
                })?;
                builder = builder.identity(identity);
            }
        }
    }
    builder.build().map_err(|error| {
        Error::internal(format!("cannot set up TLS: {}", reason(&error.without_url())))
    })
}

fn pem(file: &PemFile) -> Result<Vec<u8>> {
    std::fs::read(Path::new(&file.path))
        .map_err(|error| Error::invalid_config(format!("cannot read `{}`: {error}", file.path)))
}

/// Sends and waits for the whole answer: at most for the request's own time and what is left of the
/// call's. The answer's body is no more than `share` can have.
pub(super) fn send(
    services: &Services,
    call: Option<&CallState>,
    (outgoing, share): (Outgoing, &mut Share),
) -> Result<HttpResponse> {
    if tokio::runtime::Handle::try_current().is_ok() {
        // Waiting would stop the daemon's own thread; only instances that end get here.
        return Err(Error::new(Status::Unsupported, "no request can be sent from this thread"));
    }
    let client = services.clients.get(&outgoing.tls)?;
    let left = call.and_then(CallState::time_left).unwrap_or(TIMEOUT_MAX);
    let timeout = outgoing.timeout.min(left);
    let server = outgoing.server.clone();
    services.lent.runtime.block_on(async move {
        let cancelled = async {
            match call {
                Some(call) => call.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = tokio::time::timeout(timeout, exchange(&client, outgoing, share)) => {
                answer.unwrap_or_else(|_| {
                    let message = format!("no answer from {server} within {timeout:.1?}");
                    Err(Error::new(Status::Timeout, message))
                })
            }
            () = cancelled => {
                Err(Error::new(Status::Cancelled, format!("the request to {server} was cancelled")))
            }
        }
    })
}

async fn exchange(client: &Client, outgoing: Outgoing, share: &mut Share) -> Result<HttpResponse> {
    let Outgoing { request, body_size_max, server, .. } = outgoing;
    let body_size_max = body_size_max.min(share.most());
    let failed = |doing: &str, error: reqwest::Error| {
        let message = format!("{doing} {server} failed: {}", reason(&error.without_url()));
        Error::unavailable(message)
    };
    let mut response =
        client.execute(request).await.map_err(|error| failed("the request to", error))?;
    let status = response.status().as_u16();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| failed("reading the answer of", error))?
    {
        if (body.len() + chunk.len()) as u64 > body_size_max {
            return Err(Error::bad_data(format!(
                "the answer of {server} is longer than {body_size_max} bytes"
            )));
        }
        if !share.grow(chunk.len()) {
            let most = share.most();
            return Err(Error::unavailable(format!(
                "the answers that are fetched at a time are longer than {most} bytes together, as \
                 much as the process may take"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body })
}

/// The innermost cause says most: "connection refused".
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
