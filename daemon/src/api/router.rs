use futures_util::future::BoxFuture;
use warp::http::{Method, StatusCode};

use super::answer::Answer;
use super::call::{Call, path_segments};
use super::context::Context;
use super::failure::{Dialect, Failure};
use super::openapi::Describe;
use super::policy::Action;

pub(crate) type Handled<'a> = BoxFuture<'a, Result<Answer, Failure>>;
pub(crate) type Handler = for<'a> fn(&'a Context, &'a Call) -> Handled<'a>;

/// A class of paths and what may be done there.
#[derive(Debug)]
pub(crate) struct Route {
    /// `/v1/info/metrics/{id}`; `{*}` at the end takes any number of further parts. It is a label
    /// of the metrics too.
    pub(crate) pattern: &'static str,
    pub(crate) methods: &'static [Endpoint],
    /// For every other method.
    pub(crate) otherwise: StatusCode,
    pub(crate) body: BodyUse,
}

/// How a handler gets the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyUse {
    Whole {
        size_max: usize,
    },
    /// It takes the body itself, and says how large it may be.
    Stream,
}

/// One method of a path: what answers, and what the documentation says of it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) handler: Handler,
    pub(crate) access: Access,
    pub(crate) describe: Describe,
}

/// Who gets to the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody; who says who they are may see more.
    Open(&'static Action),
    /// Everybody, and nobody is asked who they are.
    Public,
    /// Whoever has said who they are.
    Known,
    /// Whoever has said who they are; the handler asks the policy about this, and who may not do it
    /// need not send a body.
    Asked(&'static Action),
    /// Whoever the policy allows it.
    Allowed(&'static Action),
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Found {
    /// A label for the metrics.
    pub(crate) pattern: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) captures: Vec<String>,
    pub(crate) body: BodyUse,
    pub(crate) target: Target,
}

#[derive(Debug)]
pub(crate) enum Target {
    Handler(Handler, Access),
    /// OPTIONS.
    Options {
        allow: String,
    },
    Refused {
        status: StatusCode,
        allow: Option<String>,
    },
}

/// The label of all paths that no route has.
const NO_PATTERN: &str = "none";

/// Finds the route of a path. A pure function: all of the routing is in the table.
pub(crate) fn find(routes: &'static [Route], method: &Method, path: &str) -> Found {
    let mut segments = path_segments(path);
    let dialect = dialect(segments.first().map(String::as_str));
    if dialect == Dialect::V1 && segments.get(1).is_some_and(|segment| segment == "billing") {
        "rating".clone_into(&mut segments[1]);
    }
    let nowhere = |status| Found {
        pattern: NO_PATTERN,
        dialect,
        captures: Vec::new(),
        body: BodyUse::Whole { size_max: 0 },
        target: Target::Refused { status, allow: None },
    };
    // v1 ignores a trailing slash, v2 knows no path that has one.
    if dialect == Dialect::V2 && path.len() > 1 && path.ends_with('/') {
        return nowhere(StatusCode::NOT_FOUND);
    }
    let matching = routes.iter().find_map(|route| Some((route, captures(route, &segments)?)));
    let Some((route, captures)) = matching else {
        return nowhere(match dialect {
            Dialect::V1 => StatusCode::METHOD_NOT_ALLOWED,
            Dialect::V2 => StatusCode::NOT_FOUND,
        });
    };
    Found {
        pattern: route.pattern,
        dialect,
        captures,
        body: route.body,
        target: target(route, dialect, method),
    }
}

/// The API that a route's pattern belongs to.
pub(crate) fn dialect_of(pattern: &str) -> Dialect {
    dialect(pattern.split('/').nth(1))
}

fn dialect(first: Option<&str>) -> Dialect {
    match first {
        Some("v1") => Dialect::V1,
        _ => Dialect::V2,
    }
}

fn target(route: &Route, dialect: Dialect, method: &Method) -> Target {
    let head = dialect == Dialect::V2 && method == Method::HEAD;
    let wanted = if head { &Method::GET } else { method };
    if let Some(endpoint) = route.methods.iter().find(|endpoint| endpoint.method == *wanted) {
        return Target::Handler(endpoint.handler, endpoint.access);
    }
    if method == Method::OPTIONS && !route.methods.is_empty() {
        return Target::Options { allow: allow(route) };
    }
    let says = dialect == Dialect::V2 && route.otherwise == StatusCode::METHOD_NOT_ALLOWED;
    Target::Refused { status: route.otherwise, allow: says.then(|| allow(route)) }
}

fn allow(route: &Route) -> String {
    let mut names: Vec<&str> =
        route.methods.iter().map(|endpoint| endpoint.method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

fn captures(route: &Route, segments: &[String]) -> Option<Vec<String>> {
    let mut captures = Vec::new();
    let mut rest = segments.iter();
    for part in route.pattern.split('/').filter(|part| !part.is_empty()) {
        if part == "{*}" {
            captures.extend(rest.cloned());
            return Some(captures);
        }
        let segment = rest.next()?;
        if part.starts_with('{') {
            captures.push(segment.clone());
        } else if part != segment {
            return None;
        }
    }
    rest.next().is_none().then_some(captures)
}
