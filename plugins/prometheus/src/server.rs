//! Requests to the API of a Prometheus server.
//!
//! Works with every server that speaks this API: it asks for nothing but instant queries and the
//! values of a label. A server that asks to be left alone for a while (429 or 503 with
//! `Retry-After`) is: a short time is waited for within the call, a long one fails this call and
//! all that come before its end.

use rated_plugin::access::{Access, Pause, form};
use rated_plugin::{Call, Error, Host, HttpRequest, HttpResponse, Level, Method, Result, Status};
use serde::de::Deserializer;

use crate::answer::{self, DataReader};

/// How often a request is sent again after the time that the server has asked for.
const RETRIES_MAX: u32 = 2;

/// A server and the way there.
#[derive(Debug)]
pub(crate) struct Prometheus {
    host: Host,
    access: Access,
    pause: Pause,
}

impl Prometheus {
    pub(crate) fn new(host: Host, access: Access) -> Prometheus {
        Prometheus { host, access, pause: Pause::new() }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// An instant query, sent as a form because a list of many scopes is too long for an address.
    pub(crate) fn query(
        &self,
        call: &Call,
        text: &str,
        time: Option<&str>,
    ) -> Result<HttpResponse> {
        let timeout = format!("{}s", self.access.timeout_secs());
        let mut fields = vec![("query", text), ("timeout", &timeout)];
        fields.extend(time.map(|time| ("time", time)));
        let mut headers = self.access.headers()?;
        headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
        self.send(
            call,
            &HttpRequest {
                method: Method::Post,
                url: self.access.url("/api/v1/query"),
                headers,
                body: form(&fields).into_bytes(),
                options: self.access.options().clone(),
            },
        )
    }

    /// The values a label has in the series that `selector` finds between two times.
    pub(crate) fn label_values(
        &self,
        call: &Call,
        label: &str,
        fields: &[(&str, &str)],
    ) -> Result<HttpResponse> {
        let path = format!("/api/v1/label/{label}/values?{}", form(fields));
        self.send(
            call,
            &HttpRequest {
                method: Method::Get,
                url: self.access.url(&path),
                headers: self.access.headers()?,
                body: Vec::new(),
                options: self.access.options().clone(),
            },
        )
    }

    /// Reads the answer's data, logs its warnings.
    pub(crate) fn read<'de>(
        &self,
        response: &'de HttpResponse,
        reader: &mut impl DataReader<'de>,
    ) -> Result<()> {
        for warning in answer::read(response, reader)? {
            self.host.log(Level::Warn, &format!("Prometheus warns: {warning}"));
        }
        Ok(())
    }

    /// Does it answer, and may we ask? The cheapest query, known to every compatible server.
    pub(crate) fn check(&self, call: &Call) -> Result<()> {
        let response = self.query(call, "vector(1)", None).map_err(|error| self.place(error))?;
        self.read(&response, &mut AnyData).map_err(|error| self.place(error))
    }

    /// The error with the address in front.
    pub(crate) fn place(&self, mut error: Error) -> Error {
        error.message = format!("`{}`: {}", self.access.url(""), error.message);
        error
    }

    fn send(&self, call: &Call, request: &HttpRequest) -> Result<HttpResponse> {
        self.pause.wait(&self.host, call)?;
        let mut retries = 0;
        loop {
            let response = self.host.http(call, request).map_err(|error| {
                // An answer that is too long may fit when fewer scopes are asked for.
                let split = error.split || error.status == Status::BadData;
                Error { split, ..error }
            })?;
            let wanted = self.pause.heed(&self.host, &response);
            if wanted.is_none() || retries == RETRIES_MAX {
                return Ok(response);
            }
            match self.pause.wait(&self.host, call) {
                Err(error) if error.status == Status::Cancelled => return Err(error),
                Err(_) => return Ok(response),
                Ok(()) => retries += 1,
            }
        }
    }
}

struct AnyData;

impl<'de> DataReader<'de> for AnyData {
    fn read<D: Deserializer<'de>>(&mut self, data: D) -> Result<(), D::Error> {
        data.deserialize_ignored_any(serde::de::IgnoredAny).map(|_| ())
    }

    fn take_error(&mut self) -> Option<Error> {
        None
    }
}
