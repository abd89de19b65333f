//! The running daemon, asked over its REST API.
//!
//! It never guesses: whatever is not an answer of the API is an error that says who said what.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::{Environment, UsageError, credentials};
use crate::config::Config;

/// Where the daemon listens when nothing else is said.
const URL_DEFAULT: &str = "http://127.0.0.1:8889";
/// The variable that says where it listens.
const URL_VARIABLE: &str = "RATED_URL";
/// The variable that names the authorities to trust.
const CA_FILE_VARIABLE: &str = "RATED_CA_FILE";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one answer as a whole; a reset of many scopes takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// For an answer in lines as a whole: an audit of years takes its time.
const LINES_TIMEOUT: Duration = Duration::from_hours(7 * 24);
const LATE: &str = "no answer in time";
/// Largest answer that is read, bytes.
const ANSWER_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Characters of an answer that is not ours, shown in an error.
const QUOTE_CHARACTERS_MAX: usize = 200;

/// What version 2 says of a list without entries.
const NOTHING_FOUND: &str = "No resource found";

/// Entries asked for at once.
const PAGE_SIZE: usize = 1000;

/// Version 2 answers numbers as the decimals they are when it is asked to.
pub(super) const EXACT_JSON: &str = "application/json; decimal=string";

/// Which daemon to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// Address of the daemon's API [env: `RATED_URL`] [default: `http://127.0.0.1:8889`]
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// PEM file with the authorities to trust instead of the system's [env: `RATED_CA_FILE`]
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

impl Server {
    /// What an argument of another name says.
    pub(super) fn at(url: Option<String>) -> Server {
        Server { url, ca_file: None }
    }

    /// Does somebody say where the daemon listens?
    pub(super) fn is_given(&self, environment: &Environment) -> bool {
        let is_set = |(name, value): &(String, String)| name == URL_VARIABLE && !value.is_empty();
        self.url.is_some() || environment.iter().any(is_set)
    }

    /// The daemon of that configuration, unless somebody says another one; `None` = nobody does,
    /// and it listens on a port that only the system knows.
    pub(super) fn client_for(
        &self,
        config: &Config,
        environment: &Environment,
    ) -> Result<Option<Client>, ClientError> {
        if self.is_given(environment) {
            return self.client(environment).map(Some);
        }
        let listen = config.api.listen;
        if listen.port() == 0 {
            return Ok(None);
        }
        let scheme = if config.api.tls.is_some() { "https" } else { "http" };
        let host = match listen.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let url = Some(format!("{scheme}://{host}:{}", listen.port()));
        let server = Server { url, ca_file: self.ca_file.clone() };
        server.client(environment).map(Some)
    }

    /// Who asks stands in the environment.
    pub(super) fn client(&self, environment: &Environment) -> Result<Client, ClientError> {
        let variable = |wanted: &str| {
            let found =
                environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let url = self.url.as_deref().or(variable(URL_VARIABLE)).unwrap_or(URL_DEFAULT);
        let ca_file = self.ca_file.as_deref().or(variable(CA_FILE_VARIABLE).map(Path::new));
        let headers = credentials::headers(environment).map_err(ClientError::Credentials)?;
        Client::new(url, headers, ca_file)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("`{url}` is no address\n(hint: such as `{URL_DEFAULT}`)")]
    Address {
        url: String,
        #[source]
        error: UsageError,
    },
    #[error("cannot say who asks")]
    Credentials(#[source] UsageError),
    #[error("cannot read `{}`\n(hint: `--ca-file` or {CA_FILE_VARIABLE} names it)", path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(
        "`{}` holds no certificates\n(hint: `--ca-file` or {CA_FILE_VARIABLE} names it)",
        path.display()
    )]
    NoCertificates { path: PathBuf },
    #[error("cannot set up a connection")]
    Setup(#[source] Box<dyn Error + Send + Sync>),
    #[error(
        "nobody answers at `{url}`: {reason}\n(hint: does `rated serve` run there? `--url` or \
         {URL_VARIABLE} says where to ask)"
    )]
    Unreachable { url: String, reason: String },
    #[error("`{url}` broke its answer off: {reason}")]
    BrokenOff { url: String, reason: String },
    #[error("the answer of `{url}` is longer than {ANSWER_SIZE_MAX} bytes")]
    TooLong { url: String },
    #[error("{text} (answer {status} to {method} {path}){}", hint(*status))]
    Refused { status: u16, text: String, method: Method, path: String },
    #[error("`{url}` does not answer as the API of rated does: `{quote}`")]
    Strange { url: String, quote: String },
}

impl ClientError {
    /// Is it an answer of that status?
    pub(super) fn is_status(&self, wanted: StatusCode) -> bool {
        matches!(self, ClientError::Refused { status, .. } if *status == wanted.as_u16())
    }

    /// Version 2 answers a list of nothing with 404, as it does where there is no list.
    fn is_nothing_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: 404, text, .. }
            if text.starts_with(NOTHING_FOUND))
    }

    pub(super) fn is_usage(&self) -> bool {
        matches!(self, ClientError::Address { .. } | ClientError::Credentials(_))
    }
}

/// Names and values of a query.
pub(super) type Query<'a> = [(&'a str, String)];

/// Asks one daemon, one question at a time.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    base: Url,
    /// Who answers instead of the network.
    #[cfg(any(test, fuzzing))]
    recorded: Option<std::rc::Rc<super::fuzz::Recorded>>,
}

impl Client {
    /// `headers` go with every request.
    pub(super) fn new(
        url: &str,
        headers: HeaderMap,
        ca_file: Option<&Path>,
    ) -> Result<Client, ClientError> {
        let base = Url::parse(url)
            .ok()
            .filter(|base| matches!(base.scheme(), "http" | "https") && base.has_host());
        let base = base.ok_or_else(|| ClientError::Address {
            url: url.to_owned(),
            error: UsageError("it must begin with `http://` or `https://`".to_owned()),
        })?;
        // An error says that the program has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .default_headers(headers)
            .user_agent(concat!("rated/", env!("CARGO_PKG_VERSION")));
        // The certificates of the system are read only when there is something to encrypt.
        let builder = match ca_file {
            _ if base.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
            Some(path) => builder.tls_certs_only(certificates(path)?),
        };
        let http = builder.build().map_err(|error| ClientError::Setup(error.into()))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClientError::Setup(error.into()))?;
        Ok(Client {
            http,
            runtime,
            base,
            #[cfg(any(test, fuzzing))]
            recorded: None,
        })
    }

    /// One that is answered by what somebody has written down.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of_recorded(url: &str, recorded: &std::rc::Rc<super::fuzz::Recorded>) -> Client {
        let client = Client::new(url, HeaderMap::new(), None).expect("an address of a test");
        Client { recorded: Some(std::rc::Rc::clone(recorded)), ..client }
    }

    /// The address that is asked, without a slash at its end.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) fn get(&self, path: &[&str], query: &Query<'_>) -> Result<Value, ClientError> {
        self.call(Method::GET, path, query, None)
    }

    /// The same where 503 is an answer too, when it has what `is_answer` looks for.
    pub(super) fn get_ready_or_not(
        &self,
        path: &[&str],
        is_answer: &dyn Fn(&Value) -> bool,
    ) -> Result<Value, ClientError> {
        let url = self.url(path, &[]);
        let request = self.http.get(url.clone()).header(ACCEPT, EXACT_JSON);
        let (status, bytes) = self.exchange(request)?;
        let is_known = status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE;
        match serde_json::from_slice(&bytes) {
            Ok(answer) if is_known && is_answer(&answer) => Ok(answer),
            _ if status.is_success() => Err(self.strange(&String::from_utf8_lossy(&bytes))),
            _ => Err(self.refused((status, bytes.as_slice()), Method::GET, &url)),
        }
    }

    /// An answer without body is null.
    pub(super) fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &Query<'_>,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let url = self.url(path, query);
        let request = self.http.request(method.clone(), url.clone()).header(ACCEPT, EXACT_JSON);
        let request = match body {
            None => request,
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string()),
        };
        let (status, bytes) = self.exchange(request)?;
        // A change in version 1 is answered with a redirect to itself.
        let is_change = status == StatusCode::FOUND && method == Method::PUT;
        if status.is_success() || is_change {
            if bytes.trim_ascii().is_empty() {
                return Ok(Value::Null);
            }
            let strange = |_| self.strange(&String::from_utf8_lossy(&bytes));
            return serde_json::from_slice(&bytes).map_err(strange);
        }
        Err(self.refused((status, bytes.as_slice()), method, &url))
    }

    /// An answer that is no document.
    pub(super) fn bytes(&self, path: &[&str], query: &Query<'_>) -> Result<Vec<u8>, ClientError> {
        let url = self.url(path, query);
        let request = self.http.request(Method::GET, url.clone());
        let (status, bytes) = self.exchange(request)?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(self.refused((status, &bytes), Method::GET, &url))
    }

    /// An answer in lines of JSON, given to `visit` as they come until it breaks. It takes as long
    /// as it takes, but no pause of it may be longer than a whole answer.
    pub(super) fn lines(
        &self,
        path: &[&str],
        query: &Query<'_>,
        visit: &mut dyn FnMut(&Value) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let url = self.url(path, query);
        let request = self.http.get(url.clone()).header(ACCEPT, "application/x-ndjson, */*;q=0.1");
        let request = request.timeout(LINES_TIMEOUT);
        self.runtime.block_on(async {
            let mut answer = self.begun(request).await?;
            if answer.status() != StatusCode::OK {
                let status = answer.status();
                let mut bytes = Vec::new();
                while let Some(chunk) = self.next_chunk(&mut answer).await? {
                    bytes.extend_from_slice(&chunk);
                    self.check_size(&bytes)?;
                }
                return Err(self.refused((status, bytes.as_slice()), Method::GET, &url));
            }
            let mut rest: Vec<u8> = Vec::new();
            while let Some(chunk) = self.next_chunk(&mut answer).await? {
                rest.extend_from_slice(&chunk);
                self.check_size(&rest)?;
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let strange = |_| self.strange(&String::from_utf8_lossy(&line));
                    let line = serde_json::from_slice(&line).map_err(strange)?;
                    if visit(&line).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// One request and the whole answer to it.
    fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), ClientError> {
        #[cfg(any(test, fuzzing))]
        if let Some(recorded) = &self.recorded {
            return Ok(recorded.answer(&request.build().expect("its parts are sound")));
        }
        self.runtime.block_on(send(request, self.address()))
    }

    async fn begun(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        let url = self.address().to_owned();
        match sent {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ClientError::Unreachable { url, reason: innermost(&error) }),
            Err(_) => Err(ClientError::Unreachable { url, reason: LATE.to_owned() }),
        }
    }

    async fn next_chunk(&self, answer: &mut Response) -> Result<Option<Bytes>, ClientError> {
        let url = self.address().to_owned();
        match tokio::time::timeout(ANSWER_TIMEOUT, answer.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(ClientError::BrokenOff { url, reason: innermost(&error) }),
            Err(_) => Err(ClientError::BrokenOff { url, reason: LATE.to_owned() }),
        }
    }

    fn check_size(&self, bytes: &[u8]) -> Result<(), ClientError> {
        if bytes.len() > ANSWER_SIZE_MAX {
            return Err(ClientError::TooLong { url: self.address().to_owned() });
        }
        Ok(())
    }

    fn refused(
        &self,
        (status, body): (StatusCode, &[u8]),
        method: Method,
        url: &Url,
    ) -> ClientError {
        let text = serde_json::from_slice(body).ok().as_ref().and_then(explanation);
        let text = text.unwrap_or_else(|| format!("`{}` refuses", self.address()));
        let path = url.path().to_owned();
        ClientError::Refused { status: status.as_u16(), text, method, path }
    }

    /// All pages of a list that has a limit and an offset; `members` names the list.
    pub(super) fn get_all(
        &self,
        path: &[&str],
        query: &Query<'_>,
        members: &str,
    ) -> Result<Value, ClientError> {
        let mut whole = Value::Null;
        let mut count = 0;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE_SIZE.to_string()));
            query.push(("offset", count.to_string()));
            let mut page = match self.get(path, &query) {
                Err(error) if error.is_nothing_found() => json!({members: []}),
                answer => answer?,
            };
            let Some(Value::Array(entries)) = page.get_mut(members) else {
                return Err(self.strange(&page.to_string()));
            };
            let entries = std::mem::take(entries);
            let page_count = entries.len();
            count += page_count;
            if whole.is_null() {
                whole = page;
            }
            if let Some(Value::Array(all)) = whole.get_mut(members) {
                if page_count >= PAGE_SIZE && all.ends_with(&entries) {
                    // It knows no offset: so it would go on for ever.
                    return Err(self.strange(&Value::from(entries).to_string()));
                }
                all.extend(entries);
            }
            if page_count < PAGE_SIZE {
                return Ok(whole);
            }
        }
    }

    /// A list that must be in an answer.
    pub(super) fn list<'a>(
        &self,
        answer: &'a Value,
        name: &str,
    ) -> Result<&'a [Value], ClientError> {
        let list = answer.get(name).and_then(Value::as_array);
        list.map(Vec::as_slice).ok_or_else(|| self.strange(&answer.to_string()))
    }

    pub(super) fn strange(&self, answer: &str) -> ClientError {
        let quote = answer.chars().take(QUOTE_CHARACTERS_MAX).collect();
        ClientError::Strange { url: self.address().to_owned(), quote }
    }

    fn url(&self, path: &[&str], query: &Query<'_>) -> Url {
        let mut url = self.base.clone();
        {
            let mut segments = url.path_segments_mut().expect("http addresses have paths");
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let own = || path.to_owned();
    let pem = std::fs::read(path).map_err(|error| ClientError::CaFile { path: own(), error })?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(ClientError::NoCertificates { path: own() });
    }
    Ok(certificates)
}

/// What those can do who were not let in.
fn hint(status: u16) -> String {
    match status {
        401 => format!("\n(hint: {})", credentials::HINT),
        403 => "\n(hint: somebody else may; the daemon's policy says who)".to_owned(),
        _ => String::new(),
    }
}

/// Sends a request and reads the whole answer, within the limit.
async fn send(
    request: reqwest::RequestBuilder,
    address: &str,
) -> Result<(StatusCode, Vec<u8>), ClientError> {
    let url = address.to_owned();
    let mut response = request.send().await.map_err(|error| {
        let reason = innermost(&error);
        ClientError::Unreachable { url: url.clone(), reason }
    })?;
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            let reason = innermost(&error);
            ClientError::BrokenOff { url: url.clone(), reason }
        })?;
        let Some(chunk) = chunk else { return Ok((response.status(), bytes)) };
        if bytes.len() + chunk.len() > ANSWER_SIZE_MAX {
            return Err(ClientError::TooLong { url });
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// The last cause says most: `Connection refused`.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return LATE.to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an error body of either version says.
fn explanation(body: &Value) -> Option<String> {
    let body = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
    let texts = ["message", "faultstring", "description", "title"];
    let mut found = texts.iter().filter_map(|name| body.get(name)?.as_str());
    found.find(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::cli::fuzz::Recorded;

    fn server(url: Option<&str>) -> Server {
        Server::at(url.map(str::to_owned))
    }

    #[test]
    fn the_argument_wins_over_the_variable() {
        let environment = [("RATED_URL".to_owned(), "http://variable:1/".to_owned())];

        let of = |url, environment: &Environment| {
            server(url).client(environment).unwrap().address().to_owned()
        };

        assert_eq!(of(None, &[]), "http://127.0.0.1:8889");
        assert_eq!(of(None, &environment), "http://variable:1");
        assert_eq!(of(Some("http://argument:2/rated"), &environment), "http://argument:2/rated");
    }

    #[test]
    fn an_address_must_be_one() {
        for url in ["127.0.0.1:8889", "ftp://host", "http://", "", "localhost"] {
            let error = server(Some(url)).client(&[]).unwrap_err();
            assert!(error.is_usage(), "{url}");
        }
    }

    #[test]
    fn paths_and_queries_are_encoded() {
        let client = Client::new("http://host/below/", HeaderMap::new(), None).unwrap();

        let url = client.url(&["v2", "a/b c"], &[("filters", "type:a&b".to_owned())]);

        assert_eq!(url.as_str(), "http://host/below/v2/a%2Fb%20c?filters=type%3Aa%26b");
    }

    #[test]
    fn a_list_ends_that_is_the_same_on_every_page() {
        let page = |from: usize, count: usize| {
            json!({"results": (from..from + count).collect::<Vec<_>>()}).to_string()
        };
        let list = |pages: &[String]| {
            let recorded = Recorded::of(pages.join("\0").as_bytes());
            Client::of_recorded("http://host", &Rc::new(recorded)).get_all(&[], &[], "results")
        };

        let whole = list(&[page(0, PAGE_SIZE), page(PAGE_SIZE, PAGE_SIZE), page(0, 0)]);
        assert_eq!(whole.unwrap()["results"].as_array().unwrap().len(), 2 * PAGE_SIZE);
        for count in [PAGE_SIZE, PAGE_SIZE + 1] {
            let same = [page(0, count), page(0, count), page(0, count)];
            assert!(matches!(list(&same), Err(ClientError::Strange { .. })));
        }
    }

    #[test]
    fn a_refusal_is_explained_in_the_words_of_the_api() {
        let check = |body: Value, text: &str| assert_eq!(explanation(&body).as_deref(), Some(text));

        check(json!({"message": "no"}), "no");
        check(json!({"faultcode": "Client", "faultstring": "never", "debuginfo": null}), "never");
        check(json!({"title": "Not Found", "description": ""}), "Not Found");
        check(json!({"error": {"code": 401, "title": "Unauthorized", "message": "who?"}}), "who?");
        assert_eq!(explanation(&json!({})), None);
    }
}
