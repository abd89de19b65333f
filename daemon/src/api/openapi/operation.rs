use serde_json::{Value, json};
use warp::http::StatusCode;

use super::input::{Input, object};
use crate::api::failure::Dialect;

/// The function that describes a handler.
pub(crate) type Describe = fn() -> Operation;

/// What may be done at a path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    /// Of the path where the route's pattern has a part of that name, else of the query.
    pub(super) inputs: Vec<Input>,
    /// Headers that the handler reads.
    pub(super) headers: Vec<Input>,
    pub(super) body: Option<RequestBody>,
    pub(super) conditions: Conditions,
    pub(super) answers: Vec<Reply>,
    /// Modules describe what they serve below the route's path.
    pub(super) is_of_modules: bool,
}

/// What a caller may say about the state that a request is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    None,
    /// A tag of what the caller has already: `If-None-Match`.
    Read,
    /// A tag of what shall be changed: `If-Match`.
    Change,
}

#[derive(Debug)]
pub(super) struct RequestBody {
    pub(super) is_required: bool,
    /// Media types with their schemas.
    pub(super) contents: Vec<(&'static str, Value)>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) content: Content,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

#[derive(Debug)]
pub(super) enum Content {
    Empty,
    /// A document, in the forms that the API version offers.
    Document(Value),
    /// An error as the API version shows it.
    Error,
    /// What the router says where nothing is.
    NoRoute,
    /// Media types with their schemas.
    Ready(Vec<(&'static str, Value)>),
}

impl Operation {
    pub(crate) fn new(summary: &'static str) -> Operation {
        Operation {
            summary,
            text: "",
            inputs: Vec::new(),
            headers: Vec::new(),
            body: None,
            conditions: Conditions::None,
            answers: Vec::new(),
            is_of_modules: false,
        }
    }

    /// Described by the modules that serve it.
    pub(crate) fn of_modules() -> Operation {
        Operation { is_of_modules: true, ..Operation::new("") }
    }

    /// More than the summary says; Markdown.
    #[must_use]
    pub(crate) fn says(self, text: &'static str) -> Operation {
        Operation { text, ..self }
    }

    #[must_use]
    pub(crate) fn inputs(mut self, inputs: &[Input]) -> Operation {
        self.inputs.extend_from_slice(inputs);
        self
    }

    #[must_use]
    pub(crate) fn reads_header(mut self, header: Input) -> Operation {
        self.headers.push(header);
        self
    }

    /// A JSON object with none but these members; it must be sent.
    #[must_use]
    pub(crate) fn body(self, members: &[Input]) -> Operation {
        self.content("application/json", object(members))
    }

    /// One more form of the body, which must be sent.
    #[must_use]
    pub(crate) fn content(mut self, media: &'static str, schema: Value) -> Operation {
        let body = self.body.get_or_insert(RequestBody { is_required: true, contents: Vec::new() });
        body.contents.push((media, schema));
        self
    }

    /// Documents carry a tag, and a caller who has one is told so.
    #[must_use]
    pub(crate) fn tagged(self) -> Operation {
        Operation { conditions: Conditions::Read, ..self }
    }

    /// A change is made only while the tag that the caller knows is right.
    #[must_use]
    pub(crate) fn conditional(self) -> Operation {
        Operation { conditions: Conditions::Change, ..self }
    }

    /// Answers with a document: JSON, on v1 XML as well.
    #[must_use]
    pub(crate) fn answers(self, status: u16, text: &str, schema: Value) -> Operation {
        self.reply(status, text, Content::Document(schema))
    }

    /// Answers with figures: JSON, or CSV for those who ask for it.
    #[must_use]
    pub(crate) fn answers_figures(self, status: u16, text: &str, schema: Value) -> Operation {
        let forms = vec![(JSON, schema), ("text/csv", self::text())];
        self.reply(status, text, Content::Ready(forms))
    }

    /// Answers without a body.
    #[must_use]
    pub(crate) fn answers_empty(self, status: u16, text: &str) -> Operation {
        self.reply(status, text, Content::Empty)
    }

    /// Answers with something of these media types.
    #[must_use]
    pub(crate) fn answers_with(
        self,
        status: u16,
        text: &str,
        forms: Vec<(&'static str, Value)>,
    ) -> Operation {
        self.reply(status, text, Content::Ready(forms))
    }

    /// Refuses, in the words of the API version. What every route may say need not be told.
    #[must_use]
    pub(crate) fn refuses(self, status: u16, text: &str) -> Operation {
        self.reply(status, text, Content::Error)
    }

    /// Refuses as the router does.
    #[must_use]
    pub(crate) fn refuses_as_router(self, status: u16, text: &str) -> Operation {
        self.reply(status, text, Content::NoRoute)
    }

    /// The answer that was described last carries this header.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, text: &'static str) -> Operation {
        let answer = self.answers.last_mut().expect("an answer is described before its headers");
        answer.headers.push((name, text));
        self
    }

    fn reply(mut self, status: u16, text: &str, content: Content) -> Operation {
        let status = StatusCode::from_u16(status).expect("a description names real statuses");
        self.answers.push(Reply { status, text: text.to_owned(), content, headers: Vec::new() });
        self
    }
}

/// Marks a schema that has a place of its own in the document.
pub(super) const NAME: &str = "x-rated-name";
pub(super) const SCHEMA: &str = "x-rated-schema";

/// A schema that several descriptions share: it stands in the document once, under its name.
pub(crate) fn named(name: &str, schema: &Value) -> Value {
    json!({NAME: name, SCHEMA: schema})
}

impl Reply {
    /// The media types of the answer with their schemas.
    pub(super) fn contents(&self, dialect: Dialect) -> Vec<(&'static str, Value)> {
        match (&self.content, dialect) {
            (Content::Empty, _) => Vec::new(),
            (Content::Ready(forms), _) => forms.clone(),
            (Content::Document(schema), Dialect::V1) => with_xml(schema.clone()),
            (Content::Document(schema), Dialect::V2) => vec![(JSON, schema.clone())],
            (Content::Error, Dialect::V1) => with_xml(fault()),
            (Content::Error, Dialect::V2) => vec![(JSON, message())],
            (Content::NoRoute, Dialect::V1) => no_route(),
            (Content::NoRoute, Dialect::V2) => vec![("text/html", text())],
        }
    }
}

const JSON: &str = "application/json";

/// The same document as XML has elements for members and `item` for the entries of a list.
fn with_xml(schema: Value) -> Vec<(&'static str, Value)> {
    vec![(JSON, schema), ("application/xml", Value::Null), ("text/xml", Value::Null)]
}

pub(super) fn text() -> Value {
    json!({"type": "string"})
}

fn fault() -> Value {
    let schema = json!({
        "type": "object",
        "description": "What v1 says when it refuses.",
        "properties": {
            "faultcode": {"type": "string", "enum": ["Client", "Server"]},
            "faultstring": {"type": "string", "description": "what is wrong, for people"},
            "debuginfo": {"type": "null"},
        },
        "required": ["faultcode", "faultstring", "debuginfo"],
        "additionalProperties": false,
    });
    named("V1Fault", &schema)
}

fn no_route() -> Vec<(&'static str, Value)> {
    let schema = json!({
        "type": "object",
        "description": "What v1 says where nothing is.",
        "properties": {
            "code": {"type": "integer"},
            "title": {"type": "string"},
            "description": {"type": "string"},
        },
        "required": ["code", "title", "description"],
        "additionalProperties": false,
    });
    vec![(JSON, named("V1NoRoute", &schema)), ("text/html", text()), ("text/plain", text())]
}

fn message() -> Value {
    let schema = json!({
        "type": "object",
        "description": "What v2 says when it refuses.",
        "properties": {"message": {"type": "string", "description": "what is wrong, for people"}},
        "required": ["message"],
        "additionalProperties": false,
    });
    named("V2Message", &schema)
}
