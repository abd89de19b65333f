use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};
use warp::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use warp::{Filter as _, Reply as _};

use super::answer::{Answer, Content};
use super::body::{BodyLimits, BrokenOff, Unread, read_whole};
use super::call::Call;
use super::caller::Sight;
use super::connections::{self, Limits, Port};
use super::context::Context;
use super::cors;
use super::failure::{Dialect, Failure};
use super::negotiate::{Accepts, Format};
use super::router::{self, Access, BodyUse, Found, Target};
use super::routes::ROUTES;
use super::v1::arguments;
use super::xml;

/// Most requests at once, waiting ones included.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;

/// How long connections get to end after the stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a changed file may stay unnoticed.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// Answers requests until `stop` resolves, then ends the ones under way.
///
/// Connections and requests have a number, heads and bodies a size and a time.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let room = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let limits = Limits {
        connections_max: context.config.api.connections_max,
        head_timeout: context.config.api.head_timeout,
    };
    let port = Port { listener, tls: context.tls.clone() };
    let files = watch_files(context.clone());
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let filter = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, path: warp::path::FullPath, query, headers, body| {
            let (context, room) = (context.clone(), Arc::clone(&room));
            let headers = hide_credentials(headers);
            let mut call = Call::new(method, path.as_str().to_owned(), query, headers);
            call.scheme = if context.tls.is_some() { "https" } else { "http" };
            async move {
                let place = room.try_acquire();
                let load = if place.is_ok() { Load::Usual } else { Load::Full };
                into_reply(answer(&context, load, call, body).await)
            }
        });
    let (stopped, mut is_stopped) = tokio::sync::watch::channel(false);
    let stop = async move {
        stop.await;
        // Nobody listens any more when the server has ended by itself.
        let _ = stopped.send(true);
    };
    let server =
        connections::run(port, limits, TowerToHyperService::new(warp::service(filter)), stop);
    let overtime = async move {
        if is_stopped.wait_for(|stopped| *stopped).await.is_ok() {
            tokio::time::sleep(STOP_TIMEOUT).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = server => {}
        () = overtime => warn!("Some connections did not end, they are cut."),
        () = files => {}
    }
}

/// What says who calls is shown by nobody who shows headers.
fn hide_credentials(mut headers: HeaderMap) -> HeaderMap {
    for (name, value) in &mut headers {
        let is_token = name.as_str().ends_with("-token");
        if is_token || name == header::AUTHORIZATION || name == header::COOKIE {
            value.set_sensitive(true);
        }
    }
    headers
}

/// Never ends.
async fn watch_files(context: Context) {
    loop {
        tokio::time::sleep(FILE_CHECK_INTERVAL).await;
        let context = context.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || context.reread_files()).await {
            error!(%error, "Files could not be looked at.");
        }
    }
}

fn into_reply(response: Response<Content>) -> warp::reply::Response {
    let (head, content) = response.into_parts();
    let mut reply = match content {
        Content::Whole(bytes) => Response::new(bytes).into_response(),
        Content::Chunks(chunks) => warp::reply::stream(chunks.into_stream()).into_response(),
    };
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    reply
}

/// Is there room for another request?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Usual,
    /// Only [`ALWAYS_ANSWERED`] is: whoever watches the daemon must not take it for dead.
    Full,
}

const ALWAYS_ANSWERED: &str = "/healthz";

/// Reads, routes, handles and counts one request.
pub(crate) async fn answer<B: Buf, E>(
    context: &Context,
    load: Load,
    mut call: Call,
    body: impl Stream<Item = Result<B, E>> + Send + 'static,
) -> Response<Content> {
    let begin = Instant::now();
    let request_id = format!("req-{}", uuid::Uuid::new_v4());
    let mut found = router::find(ROUTES, &call.method, &call.path);
    call.captures = std::mem::take(&mut found.captures);
    let accepts = Accepts::of(&call);
    let handled = if load == Load::Full && found.pattern != ALWAYS_ANSWERED {
        Err(Failure::busy())
    } else {
        handle(context, &mut call, &found, &accepts, body).await
    };
    let outcome = match handled {
        Ok(answer) => answer,
        Err(failure) => {
            log_failure(&failure, &call, &request_id);
            failure.into_answer(found.dialect, call.method.as_str(), &accepts)
        }
    };
    let format = match found.dialect {
        Dialect::V1 => accepts.format().unwrap_or(Format::Json),
        Dialect::V2 => Format::Json,
    };
    let mut response = outcome.into_response(format);
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&request_id).expect("made of letters, digits and dashes");
    headers.insert(REQUEST_ID, id);
    cors::allow_origin(&context.config.api, &call, headers);
    if found.dialect == Dialect::V1
        && !headers.get_all(header::VARY).iter().any(|it| it == "Accept")
    {
        headers.append(header::VARY, HeaderValue::from_static("Accept"));
    }
    let status = response.status().as_u16();
    context.metrics.request_ended(found.pattern, status, begin.elapsed());
    debug!(method = %call.method, path = call.path, status, request_id, "Request answered.");
    response
}

async fn handle<B: Buf, E>(
    context: &Context,
    call: &mut Call,
    found: &Found,
    accepts: &Accepts,
    body: impl Stream<Item = Result<B, E>> + Send + 'static,
) -> Result<Answer, Failure> {
    let (handler, access) = match &found.target {
        Target::Handler(handler, access) => {
            admit(context, call, *access).await?;
            (*handler, *access)
        }
        Target::Options { allow } => return Ok(options(context, call, found.dialect, allow)),
        Target::Refused { status, allow } => return refused(*status, allow.as_deref()),
    };
    if found.dialect == Dialect::V1 && accepts.format().is_none() {
        return Err(Failure::NotAcceptable);
    }
    let bytes = |part: Result<B, E>| match part {
        Ok(mut part) => Ok(part.copy_to_bytes(part.remaining())),
        Err(_) => Err(BrokenOff),
    };
    let body = body.map(bytes).boxed();
    match found.body {
        BodyUse::Whole { .. } if !is_body_wanted(context, call, access) => {}
        BodyUse::Whole { size_max } => {
            let limits = BodyLimits::whole(size_max, context.config.api.body_timeout);
            call.body = read_whole(&call.headers, body, limits).await?;
            if found.dialect == Dialect::V1 {
                xml::into_json(call, size_max)?;
                arguments::check_reserved(call)?;
            }
        }
        BodyUse::Stream => call.unread = Unread::new(body),
    }
    match AssertUnwindSafe(handler(context, call)).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(Failure::internal(format!("panic: {}", panic_text(&*panic)))),
    }
}

/// Finds out who calls and whether they may, before anything else of the request is looked at.
async fn admit(context: &Context, call: &mut Call, access: Access) -> Result<(), Failure> {
    if access == Access::Public {
        return Ok(());
    }
    let caller = context.authentication.caller(&call.headers).await?;
    let is_open = matches!(access, Access::Open(_));
    call.caller = match caller {
        Some(caller) => caller,
        None if is_open => return Ok(()),
        None => {
            let challenges = context.authentication.challenges();
            return Err(Failure::Unauthenticated { challenges });
        }
    };
    call.sight = match access {
        Access::Allowed(action) => context.policy.admit(&call.caller, action)?,
        // Not allowed to see more than everybody.
        Access::Open(action) => {
            context.policy.admit(&call.caller, action).unwrap_or(Sight::Nothing)
        }
        Access::Known | Access::Asked(_) | Access::Public => context.policy.sight(&call.caller),
    };
    Ok(())
}

/// A body is not read of those whom the handler will refuse.
fn is_body_wanted(context: &Context, call: &Call, access: Access) -> bool {
    match access {
        Access::Asked(action) => context.policy.admit(&call.caller, action).is_ok(),
        _ => true,
    }
}

fn options(context: &Context, call: &Call, dialect: Dialect, allow: &str) -> Answer {
    let answer = Answer::empty(StatusCode::OK);
    let answer = cors::preflight(&context.config.api, call, answer);
    match dialect {
        Dialect::V1 => answer,
        Dialect::V2 => answer.header(header::ALLOW, allow),
    }
}

/// A refusal that the router found; only v2 says what would be allowed.
fn refused(status: StatusCode, allow: Option<&str>) -> Result<Answer, Failure> {
    let Some(allow) = allow else { return Err(Failure::NoRoute(status)) };
    let accepts = Accepts::of_nobody();
    let answer = Failure::NoRoute(status).into_answer(Dialect::V2, "", &accepts);
    Ok(answer.header(header::ALLOW, allow))
}

fn log_failure(failure: &Failure, call: &Call, request_id: &str) {
    let Some(log) = failure.log_text() else { return };
    let (method, path) = (&call.method, call.path.as_str());
    if failure.status() == StatusCode::INTERNAL_SERVER_ERROR {
        error!(%method, path, request_id, error = log, "Request failed.");
    } else {
        warn!(%method, path, request_id, error = log, "Request could not be answered.");
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
