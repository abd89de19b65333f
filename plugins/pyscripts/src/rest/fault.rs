//! What a caller did wrong, in the words that clients know.

use rated_plugin::{Error, Response, Result, Status};
use serde_json::json;

#[derive(Debug)]
pub(super) enum Fault {
    /// The caller's mistake.
    Client { status: u16, text: String },
    /// No such path or method.
    Routing,
    /// The daemon's word: the store failed.
    Daemon(Error),
}

impl Fault {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Fault {
        Fault::Client { status, text: text.into() }
    }

    pub(super) fn bad(text: impl Into<String>) -> Fault {
        Fault::new(400, text)
    }

    /// An attribute or argument whose value will not do.
    pub(super) fn invalid(name: &str, value: &str, reason: &str) -> Fault {
        Fault::bad(format!("Invalid input for field/attribute {name}. Value: '{value}'. {reason}"))
    }

    pub(super) fn missing(name: &str) -> Fault {
        Fault::invalid(name, "None", "Mandatory field missing.")
    }

    pub(super) fn no_route() -> Fault {
        Fault::Routing
    }

    pub(super) fn into_response(self) -> Result<Response> {
        let (status, text) = match self {
            Fault::Client { status, text } => (status, text),
            Fault::Routing => {
                let body = json!({"code": 405, "title": "Method Not Allowed", "description": ""});
                return Ok(Response::json(405, &body));
            }
            Fault::Daemon(error) if error.status == Status::Conflict => (409, error.message),
            Fault::Daemon(error) => return Err(error),
        };
        let body = json!({"faultcode": "Client", "faultstring": text, "debuginfo": null});
        Ok(Response::json(status, &body))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Daemon(error)
    }
}

/// There is no such script; the id is what the caller sent.
pub(super) fn no_script(id: &str) -> Fault {
    Fault::new(404, format!("No such script: None (UUID: {id})"))
}
