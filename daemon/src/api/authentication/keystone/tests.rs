use std::collections::VecDeque;

use rated_plugin::access::{Secret, SecretSource};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::clock::ManualClock;
use crate::config::{KeystoneDomain, KeystoneLogin, KeystoneName};

/// What a fake server says to a question about a token.
#[derive(Clone)]
enum Says {
    Json(u16, serde_json::Value),
    Text(u16, &'static str),
    Nothing,
}

/// A server that logs everybody in and answers about tokens what the test says.
struct Fake {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// One after the other; the last one stays.
    says: VecDeque<Says>,
    login_status: u16,
    logins: usize,
    /// The tokens that were asked with, and about.
    questions: Vec<(String, String)>,
}

impl Fake {
    async fn start(says: &[Says]) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says = says.iter().cloned().collect();
        let state = Arc::new(Mutex::new(State { says, login_status: 201, ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Fake { url, state }
    }

    fn keystone(&self, cache: Duration) -> Keystone {
        let clock: Arc<dyn Clock> =
            Arc::new(ManualClock::new("2026-06-01T00:00:00Z".parse().unwrap()));
        let named = |name: &str| KeystoneName::Name {
            name: name.to_owned(),
            domain: KeystoneDomain::Name("Default".to_owned()),
        };
        let password = Secret::new("hunter2");
        let password = SecretSource::of("password", Some(&password), None).unwrap().unwrap();
        let config = KeystoneConfig {
            url: self.url.clone(),
            login: KeystoneLogin::Password {
                user: named("rated"),
                project: named("service"),
                password,
            },
            ca_file: None,
            timeout: Duration::from_millis(500),
            cache,
            www_authenticate_uri: "http://public:5000".to_owned(),
        };
        Keystone::new(&config, &clock).unwrap()
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().questions.len()
    }
}

async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        request.extend_from_slice(&part[..count]);
    }
    let request = String::from_utf8(request).unwrap();
    let header = |name: &str| {
        let mut lines = request.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    let token = |expires: &str| json!({"token": {"expires_at": expires}});
    let (says, extra) = {
        let mut state = state.lock().unwrap();
        if request.starts_with("POST /v3/auth/tokens") {
            state.logins += 1;
            let extra = format!("x-subject-token: own-{}\r\n", state.logins);
            (Says::Json(state.login_status, token("2026-06-01T01:00:00.000000Z")), extra)
        } else {
            assert!(request.starts_with("GET /v3/auth/tokens"), "{request}");
            state.questions.push((header("x-auth-token"), header("x-subject-token")));
            let last = state.says.len() == 1;
            let says = if last { state.says[0].clone() } else { state.says.pop_front().unwrap() };
            (says, String::new())
        }
    };
    let (status, body) = match says {
        Says::Json(status, body) => (status, body.to_string()),
        Says::Text(status, body) => (status, body.to_owned()),
        Says::Nothing => std::future::pending().await,
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

fn valid() -> Says {
    Says::Json(
        200,
        json!({"token": {
            "methods": ["password"],
            "user": {"id": "u1", "name": "ada", "domain": {"id": "default"}},
            "project": {"id": "p1", "name": "blue", "domain": {"id": "default"}},
            "roles": [{"id": "r1", "name": "member"}, {"id": "r2", "name": "reader"}],
            "expires_at": "2026-06-01T01:00:00.000000Z",
            "issued_at": "2026-06-01T00:00:00.000000Z",
        }}),
    )
}

fn no(status: u16) -> Says {
    Says::Json(status, json!({"error": {"code": status, "title": "X", "message": "x"}}))
}

const CACHE: Duration = Duration::from_mins(5);

fn log(refusal: Result<Identity, Refusal>) -> String {
    match refusal {
        Err(Refusal::Unavailable(log)) => log,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_token_says_who_calls_and_is_asked_about_once() {
    let fake = Fake::start(&[valid()]).await;
    let keystone = fake.keystone(CACHE);

    let identity = keystone.caller(b"good").await.unwrap();
    let again = keystone.caller(b"good").await.unwrap();

    assert_eq!(identity, again);
    assert_eq!(identity.user_id, "u1");
    assert_eq!(identity.project_id.as_deref(), Some("p1"));
    assert_eq!(identity.roles, ["member", "reader"]);
    let questions = fake.state.lock().unwrap().questions.clone();
    assert_eq!(questions, [("own-1".to_owned(), "good".to_owned())]);
    assert_eq!(keystone.challenge(), "Keystone uri=\"http://public:5000\"");
}

#[tokio::test]
async fn a_burst_of_one_token_is_one_question() {
    let fake = Fake::start(&[valid()]).await;
    let keystone = fake.keystone(CACHE);

    let mut burst = JoinSet::new();
    for _ in 0..200 {
        let keystone = keystone.clone();
        burst.spawn(async move { keystone.caller(b"good").await.unwrap() });
    }

    assert_eq!(burst.join_all().await.len(), 200);
    assert_eq!(fake.asked(), 1);
    assert_eq!(fake.state.lock().unwrap().logins, 1);
    assert!(keystone.0.under_way.lock().unwrap().len() <= 1);
}

#[tokio::test]
async fn who_gives_up_takes_nobody_with_him() {
    let fake = Fake::start(&[valid()]).await;
    let keystone = fake.keystone(CACHE);
    let first = keystone.question([1; 32], HeaderValue::from_static("good"));
    let second = keystone.question([1; 32], HeaderValue::from_static("good"));

    assert!(tokio::time::timeout(Duration::ZERO, first).await.is_err());

    assert!(second.await.unwrap().is_some());
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn without_a_cache_every_request_is_a_question() {
    let fake = Fake::start(&[valid(), no(404)]).await;
    let keystone = fake.keystone(Duration::ZERO);

    keystone.caller(b"good").await.unwrap();

    assert!(matches!(keystone.caller(b"good").await, Err(Refusal::Wrong)), "revoked in between");
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_remembered() {
    let fake = Fake::start(&[no(404), valid()]).await;
    let keystone = fake.keystone(CACHE);

    for _ in 0..2 {
        assert!(matches!(keystone.caller(b"wrong").await, Err(Refusal::Wrong)));
    }

    keystone.caller(b"other").await.unwrap();
    assert_eq!(fake.asked(), 2);
    // What cannot be a token is no question at all.
    for token in [b"".as_slice(), b"two words", "é".as_bytes(), b"\x7f"] {
        assert!(matches!(keystone.caller(token).await, Err(Refusal::Wrong)));
    }
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn nonsense_is_never_a_yes_and_never_a_no() {
    for says in [
        Says::Text(404, "<h1>Not Found</h1>"),
        Says::Text(401, "<h1>Who are you?</h1>"),
        Says::Text(200, "<h1>Welcome</h1>"),
        Says::Text(200, ""),
        Says::Json(200, json!({"token": {"expires_at": "2026-06-01T01:00:00Z"}})),
        Says::Json(200, json!({"token": {"user": {"id": "u"}, "expires_at": "tomorrow"}})),
        Says::Json(404, json!({"message": "no such bucket"})),
        Says::Json(302, json!({})),
        no(400),
        no(403),
        no(500),
        no(503),
        Says::Nothing,
    ] {
        let fake = Fake::start(std::slice::from_ref(&says)).await;

        let refusal = fake.keystone(CACHE).caller(b"good").await;

        let log = log(refusal);
        assert!(log.starts_with("Keystone at `http://127.0.0.1:"), "{log}");
        assert!(!log.contains("good") && !log.contains("own-1"), "{log}");
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_whatever_keystone_says() {
    let Says::Json(_, mut body) = valid() else { unreachable!() };
    body["token"]["expires_at"] = json!("2026-05-31T23:59:59Z");
    let fake = Fake::start(&[Says::Json(200, body)]).await;

    let refusal = fake.keystone(CACHE).caller(b"good").await;

    assert!(matches!(refusal, Err(Refusal::Wrong)));
}

#[tokio::test]
async fn a_token_without_project_is_a_caller_without_one() {
    let Says::Json(_, mut body) = valid() else { unreachable!() };
    body["token"].as_object_mut().unwrap().remove("project");
    body["token"]["system"] = json!({"all": true});
    let fake = Fake::start(&[Says::Json(200, body)]).await;

    let identity = fake.keystone(CACHE).caller(b"good").await.unwrap();

    assert_eq!(identity.project_id, None);
}

#[tokio::test]
async fn an_administrator_of_a_domain_is_none_here() {
    let Says::Json(_, mut body) = valid() else { unreachable!() };
    let token = body["token"].as_object_mut().unwrap();
    token.remove("project");
    token.insert("domain".to_owned(), json!({"id": "d1", "name": "customer"}));
    token.insert("roles".to_owned(), json!([{"id": "r", "name": "admin"}]));
    let fake = Fake::start(&[Says::Json(200, body)]).await;

    let identity = fake.keystone(CACHE).caller(b"good").await.unwrap();

    assert_eq!((identity.project_id, identity.roles), (None, Vec::new()));
}

#[tokio::test]
async fn our_own_token_is_renewed_when_keystone_forgot_it() {
    let fake = Fake::start(&[no(401), valid()]).await;
    let keystone = fake.keystone(CACHE);

    keystone.caller(b"good").await.unwrap();

    let asked_with: Vec<String> =
        fake.state.lock().unwrap().questions.iter().map(|(own, _)| own.clone()).collect();
    assert_eq!(asked_with, ["own-1", "own-2"]);
    let never = Fake::start(&[no(401)]).await;
    let log = log(never.keystone(CACHE).caller(b"good").await);
    assert!(log.contains("refuses the new token of the service user"), "{log}");
    assert_eq!(never.asked(), 2);
}

#[tokio::test]
async fn a_wrong_service_password_is_tried_once_for_a_burst() {
    let fake = Fake::start(&[valid()]).await;
    fake.state.lock().unwrap().login_status = 401;
    let keystone = fake.keystone(CACHE);

    for token in [b"a", b"b", b"c"] {
        let log = log(keystone.caller(token).await);
        assert!(log.contains("refuses the service user"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }

    assert_eq!(fake.asked(), 0);
    assert_eq!(fake.state.lock().unwrap().logins, 1);
}

#[tokio::test]
async fn a_keystone_that_hangs_holds_only_so_many() {
    let fake = Fake::start(&[valid(), Says::Nothing]).await;
    let keystone = fake.keystone(CACHE);
    keystone.caller(b"known").await.unwrap();
    let mut waiting = JoinSet::new();
    for index in 0..WAITING_MAX {
        let keystone = keystone.clone();
        waiting
            .spawn(async move { keystone.caller(format!("t{index}").as_bytes()).await.is_err() });
    }
    while keystone.0.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }

    assert!(matches!(keystone.caller(b"one-more").await, Err(Refusal::Busy)));
    keystone.caller(b"known").await.unwrap();

    waiting.shutdown().await;
    assert!(fake.asked() <= 1 + QUESTIONS_MAX);
    assert_eq!(keystone.0.waiting.available_permits(), WAITING_MAX);
}

#[tokio::test]
async fn nobody_there_is_not_a_no() {
    let mut fake = Fake::start(&[valid()]).await;
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    fake.url = format!("http://{port}");

    let log = log(fake.keystone(CACHE).caller(b"good").await);

    assert!(log.contains("Connection refused"), "{log}");
}
