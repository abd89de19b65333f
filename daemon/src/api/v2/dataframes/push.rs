use std::io::{self, Read};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderName, StatusCode};

use super::json::{Json, JsonError};
use super::problem::BODY_SHOWN_SIZE_MAX;
use super::read::{Reading, read_body};
use crate::api::answer::{Answer, AnswerBody, JSON};
use crate::api::body::{self, BodyLimits, BodyReader};
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::failure::{Failure, chain};
use crate::api::policy;
use crate::api::v2::schema::{UNREADABLE, no_json};
use crate::fault::{Step, passed};
use crate::ledger::{Ledger, LedgerError, Push, PushKey, PushOutcome, RatedSlice};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key, bytes.
pub(super) const KEY_SIZE_MAX: usize = 255;

/// How long a caller may take for all of the body.
const TIME_MAX: Duration = Duration::from_mins(10);

/// Stores all points of the body, or none.
pub(crate) async fn push(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let order = Order {
        key: key(call)?,
        is_json: call.content_type() == JSON,
        scope_key: context.config.collect.scope_key.clone(),
        at: context.clock.now(),
        author: call.caller.user_id().to_owned(),
        sight: call.sight.clone(),
    };
    let limits = BodyLimits {
        size_max: context.config.api.body_size_max,
        longest_pause: context.config.api.body_timeout,
        time_max: TIME_MAX,
    };
    let job = move |ledger: &dyn Ledger, body: &mut BodyReader| order.carry_out(ledger, body);
    match body::receive(context, call, limits, job).await? {
        PushOutcome::Stored { .. } | PushOutcome::Known => {
            let nothing = AnswerBody::Ready { content_type: JSON.to_owned(), bytes: "".into() };
            Ok(Answer::with_status(StatusCode::NO_CONTENT, nothing))
        }
        PushOutcome::KeyTaken => Err(Failure::Refused {
            status: StatusCode::CONFLICT,
            text: "the Idempotency-Key was used before, with another body".to_owned(),
        }),
    }
}

/// What tells a repeated push from a new one, if the caller says so.
fn key(call: &Call) -> Result<Option<String>, Failure> {
    let mut keys = call.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=KEY_SIZE_MAX).contains(&key.len()));
    match (key, keys.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Failure::bad_request(format!(
            "an Idempotency-Key must be one text of 1 to {KEY_SIZE_MAX} ASCII characters"
        ))),
    }
}

/// What is known of a push before its body is.
struct Order {
    key: Option<String>,
    is_json: bool,
    scope_key: String,
    at: DateTime<Utc>,
    author: String,
    /// Whose rows may be pushed.
    sight: Sight,
}

impl Order {
    fn carry_out(self, ledger: &dyn Ledger, body: &mut BodyReader) -> Result<PushOutcome, Failure> {
        if !self.is_json {
            let size = body.read(&mut [0]).map_err(|_| broken_off())?;
            return Err(if size == 0 { Failure::bad_request(UNREADABLE) } else { no_json() });
        }
        let mut body = Observed::new(body, self.key.as_deref());
        let slices = read(&mut body, &self.scope_key)?;
        let scopes = slices.iter().flat_map(|slice| &slice.scopes);
        if scopes.into_iter().any(|scope| !self.sight.covers(scope.id.as_str())) {
            return Err(Failure::Forbidden(&policy::ADD_DATAFRAMES));
        }
        if slices.is_empty() && self.key.is_none() {
            return Ok(PushOutcome::Stored { rows: 0 });
        }
        let digest = body.digest.map(|digest| digest.finalize().into());
        let push = Push {
            slices,
            scope_key: self.scope_key,
            key: self.key.zip(digest).map(|(key, digest)| PushKey { key, digest }),
            at: self.at,
            author: self.author,
        };
        passed(Step::PushRead);
        ledger.push(push).map_err(|error| match error {
            // A limit of the ledger's own.
            LedgerError::Shape { .. } => Failure::bad_request(chain(&error)),
            error => error.into(),
        })
    }
}

fn read(body: &mut Observed<'_>, scope_key: &str) -> Result<Vec<RatedSlice>, Failure> {
    let mut reading = Reading::new(scope_key);
    match read_body(&mut Json::new(body), &mut reading) {
        Ok(()) => {}
        Err(JsonError::NoJson) => return Err(Failure::bad_request(UNREADABLE)),
        Err(JsonError::BrokenOff(_)) => return Err(broken_off()),
    }
    if let Some(problem) = reading.problem {
        return Err(problem.into_failure(body.whole()));
    }
    if reading.frames == Some(0) {
        return Err(Failure::bad_request("Parameter dataframes must not be empty."));
    }
    let Reading { slices, mut texts, .. } = reading;
    Ok(slices.finish(&mut texts))
}

/// Whoever feeds the reader knows better why.
fn broken_off() -> Failure {
    Failure::bad_request("the body ended before its end")
}

/// A body that is being read, and what is to be known of it afterwards.
struct Observed<'b> {
    body: &'b mut BodyReader,
    /// With a key only: what tells this body from another one.
    digest: Option<Sha256>,
    /// Its begin.
    shown: Vec<u8>,
    size: usize,
}

impl Observed<'_> {
    fn new<'b>(body: &'b mut BodyReader, key: Option<&str>) -> Observed<'b> {
        let digest = key.map(|_| Sha256::new());
        Observed { body, digest, shown: Vec::new(), size: 0 }
    }

    /// `None` when it is too long to be shown.
    fn whole(&self) -> Option<&[u8]> {
        (self.size <= BODY_SHOWN_SIZE_MAX).then_some(self.shown.as_slice())
    }
}

impl Read for Observed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.body.read(buffer)?;
        let read = &buffer[..size];
        if let Some(digest) = &mut self.digest {
            digest.update(read);
        }
        self.size = self.size.saturating_add(size);
        let room = BODY_SHOWN_SIZE_MAX.saturating_sub(self.shown.len());
        self.shown.extend_from_slice(&read[..size.min(room)]);
        Ok(size)
    }
}
