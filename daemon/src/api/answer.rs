use bytes::Bytes;
use serde_json::{Value, json};
use warp::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::negotiate::{Accepts, Format};
use super::outgoing::Chunks;
use super::xml;

pub(crate) const JSON: &str = "application/json";

/// What a handler answers; it becomes bytes when the caller's wishes are known.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: AnswerBody,
}

#[derive(Debug)]
pub(crate) enum AnswerBody {
    Empty,
    /// A document; JSON or, on v1, XML.
    Document(Value),
    /// A v1 error: whose mistake, and what it is.
    Fault {
        code: &'static str,
        text: String,
    },
    /// A document that is JSON text already: it is large, or was made before.
    Json(Bytes),
    /// Bytes of a known type.
    Ready {
        content_type: String,
        bytes: Bytes,
    },
    /// Sent while it is made.
    Chunks {
        content_type: String,
        chunks: Chunks,
    },
}

/// What is sent after the head.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Bytes),
    Chunks(Chunks),
}

impl Answer {
    pub(crate) fn document(value: Value) -> Answer {
        Answer::with_status(StatusCode::OK, AnswerBody::Document(value))
    }

    pub(crate) fn empty(status: StatusCode) -> Answer {
        Answer::with_status(status, AnswerBody::Empty)
    }

    pub(crate) fn text(content_type: &str, text: impl Into<Bytes>) -> Answer {
        let body = AnswerBody::Ready { content_type: content_type.to_owned(), bytes: text.into() };
        Answer::with_status(StatusCode::OK, body)
    }

    pub(crate) fn with_status(status: StatusCode, body: AnswerBody) -> Answer {
        Answer { status, headers: Vec::new(), body }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// The bytes to send. Everything that knows JSON from XML is here and in [`xml`].
    pub(crate) fn into_response(self, format: Format) -> Response<Content> {
        let (content_type, bytes) = match self.body {
            AnswerBody::Chunks { content_type, chunks } => {
                let content_type = Some(content_type);
                return respond(self.status, self.headers, content_type, Content::Chunks(chunks));
            }
            AnswerBody::Empty => (None, Bytes::new()),
            AnswerBody::Ready { content_type, bytes } => (Some(content_type), bytes),
            AnswerBody::Json(text) if format == Format::Json => (Some(JSON.to_owned()), text),
            AnswerBody::Json(text) => {
                let value =
                    serde_json::from_slice(&text).expect("the text was made from a document");
                let (content_type, text) = render(&value, format);
                (Some(content_type), Bytes::from(text))
            }
            AnswerBody::Fault { code, text } => {
                let (content_type, text) = render_fault(code, &text, format);
                (Some(content_type), Bytes::from(text))
            }
            AnswerBody::Document(value) => {
                let (content_type, text) = render(&value, format);
                (Some(content_type), Bytes::from(text))
            }
        };
        respond(self.status, self.headers, content_type, Content::Whole(bytes))
    }
}

fn respond(
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    content_type: Option<String>,
    content: Content,
) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let content_type = content_type.map(|value| (header::CONTENT_TYPE, value));
    for (name, value) in headers.into_iter().chain(content_type) {
        // A value that no header may hold (a Host with odd bytes) is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn render(value: &Value, format: Format) -> (String, String) {
    match format {
        Format::Json => (JSON.to_owned(), value.to_string()),
        Format::Xml(media) => (format!("{media}; charset=UTF-8"), xml::render("result", value)),
    }
}

/// In XML it has a root of its own, and an empty element where everything else has `nil`.
fn render_fault(code: &str, text: &str, format: Format) -> (String, String) {
    match format {
        Format::Json => {
            let fault = json!({"faultcode": code, "faultstring": text, "debuginfo": null});
            (JSON.to_owned(), fault.to_string())
        }
        Format::Xml(media) => {
            let text = escape(text);
            let fault = format!(
                "<error><faultcode>{code}</faultcode><faultstring>{text}</faultstring>\
                 <debuginfo/></error>"
            );
            (format!("{media}; charset=UTF-8"), fault)
        }
    }
}

/// A page for people, as browsers get it from v1's router.
pub(crate) fn page(status: StatusCode, explanation: &str, accepts: &Accepts) -> AnswerBody {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    if accepts.html() {
        let explanation = escape(explanation);
        let html = format!(
            "<html>\n <head>\n  <title>{code} {title}</title>\n </head>\n <body>\n  \
             <h1>{code} {title}</h1>\n  {explanation} <br /><br />\n </body>\n</html>"
        );
        return AnswerBody::Ready {
            content_type: "text/html; charset=UTF-8".to_owned(),
            bytes: html.into(),
        };
    }
    let text = format!("{code} {title}\n\n{explanation}\n");
    AnswerBody::Ready { content_type: "text/plain; charset=UTF-8".to_owned(), bytes: text.into() }
}

/// Text for an HTML or XML element. Control characters have no form there and become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // It would be read as the end of a line.
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(character),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}
