//! Requests, and who they are from.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Metrics, plain, seconds, short_durations};

/// How a caller says who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// Nothing was said, or more than one thing.
    None,
    Basic,
    Token,
    Keystone,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationOutcome {
    Known,
    Missing,
    Refused,
    /// It could not be checked.
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Debug)]
pub(super) struct Requests {
    ended: Family<RequestLabels, Counter>,
    duration: Family<RouteLabels, Histogram>,
    authentications: Family<AuthenticationLabels, Counter>,
}

impl Requests {
    pub(super) fn register(to: &mut Registry) -> Requests {
        let durations = Family::new_with_constructor(short_durations as fn() -> Histogram);
        let duration = "Duration of requests by route";
        let authentications = "Callers by how they say who they are, and by outcome";
        Requests {
            ended: plain(to, "http_requests", "Requests by route and status"),
            duration: seconds(to, "http_request_duration", duration, durations),
            authentications: plain(to, "authentications", authentications),
        }
    }
}

impl Metrics {
    /// `route` is a class of paths without anything that a caller chose: `/v1/info/metrics/{id}`.
    pub fn request_ended(&self, route: &'static str, status: u16, duration: Duration) {
        self.requests.ended.get_or_create(&RequestLabels { route, status }).inc();
        self.requests
            .duration
            .get_or_create(&RouteLabels { route })
            .observe(duration.as_secs_f64());
    }

    pub fn authentication_ended(
        &self,
        method: AuthenticationMethod,
        outcome: AuthenticationOutcome,
    ) {
        let labels = AuthenticationLabels { method: method.label(), outcome: outcome.label() };
        self.requests.authentications.get_or_create(&labels).inc();
    }
}

impl AuthenticationMethod {
    pub fn label(self) -> &'static str {
        match self {
            AuthenticationMethod::None => "none",
            AuthenticationMethod::Basic => "basic",
            AuthenticationMethod::Token => "token",
            AuthenticationMethod::Keystone => "keystone",
        }
    }
}

impl AuthenticationOutcome {
    fn label(self) -> &'static str {
        match self {
            AuthenticationOutcome::Known => "known",
            AuthenticationOutcome::Missing => "missing",
            AuthenticationOutcome::Refused => "refused",
            AuthenticationOutcome::Unavailable => "unavailable",
        }
    }
}
