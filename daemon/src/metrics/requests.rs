//! Requests, and who they are from.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use super::Metrics;

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
pub(super) struct AuthenticationLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    route: &'static str,
}

impl Metrics {
    pub(super) fn register_requests(&mut self) {
        self.plain("http_requests", "Requests by route and status", self.requests.clone());
        self.seconds(
            "http_request_duration",
            "Duration of requests by route",
            self.request_duration.clone(),
        );
        self.plain(
            "authentications",
            "Callers by how they say who they are, and by outcome",
            self.authentications.clone(),
        );
    }

    /// `route` is a class of paths without anything that a caller chose: `/v1/info/metrics/{id}`.
    pub fn request_ended(&self, route: &'static str, status: u16, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.request_duration.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
    }

    pub fn authentication_ended(
        &self,
        method: AuthenticationMethod,
        outcome: AuthenticationOutcome,
    ) {
        let labels = AuthenticationLabels { method: method.label(), outcome: outcome.label() };
        self.authentications.get_or_create(&labels).inc();
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
