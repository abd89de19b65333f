use serde_json::{Map, Value, json};

/// What a caller may give: in the path, in the query, or as a member of a body.
///
/// A handler accepts the inputs that it lists, and the document shows the same list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    kind: Kind,
    text: &'static str,
    is_required: bool,
    takes_null: bool,
    default: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// Not empty, at most that many bytes.
    Name(usize),
    Date,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// One of these.
    Words(&'static [&'static str]),
    /// Texts with commas between them; the input may be given several times as well.
    List,
    /// Anything else, as JSON Schema.
    Schema(fn() -> Value),
}

impl Input {
    pub(crate) const fn new(name: &'static str, kind: Kind, text: &'static str) -> Input {
        Input { name, kind, text, is_required: false, takes_null: false, default: None }
    }

    pub(crate) const fn text(name: &'static str, text: &'static str) -> Input {
        Input::new(name, Kind::Text, text)
    }

    pub(crate) const fn date(name: &'static str, text: &'static str) -> Input {
        Input::new(name, Kind::Date, text)
    }

    pub(crate) const fn list(name: &'static str, text: &'static str) -> Input {
        Input::new(name, Kind::List, text)
    }

    pub(crate) const fn boolean(name: &'static str, text: &'static str) -> Input {
        Input::new(name, Kind::Boolean, text)
    }

    /// A whole number that is at least `min`.
    pub(crate) const fn integer(name: &'static str, min: i64, text: &'static str) -> Input {
        Input::new(name, Kind::Integer { min, max: i64::MAX }, text)
    }

    /// A text that is not empty.
    pub(crate) const fn name(name: &'static str, text: &'static str) -> Input {
        Input::new(name, Kind::Schema(not_empty), text)
    }

    #[must_use]
    pub(crate) const fn required(self) -> Input {
        Input { is_required: true, ..self }
    }

    /// Null is as good as leaving it out.
    #[must_use]
    pub(crate) const fn or_null(self) -> Input {
        Input { takes_null: true, ..self }
    }

    /// What counts when it is not given, as JSON.
    #[must_use]
    pub(crate) const fn default(self, json: &'static str) -> Input {
        Input { default: Some(json), ..self }
    }

    /// As a parameter of a path or a query.
    pub(super) fn parameter(&self, place: &str) -> Value {
        let mut parameter = json!({
            "name": self.name,
            "in": place,
            "required": place == "path" || self.is_required,
            "description": self.text,
            "schema": self.schema(),
        });
        if parameter["schema"]["type"] == "array" && place == "query" {
            parameter["style"] = json!("form");
            parameter["explode"] = json!(false);
        }
        parameter
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Name(max) => json!({"type": "string", "minLength": 1, "maxLength": max}),
            Kind::Date => json!({"type": "string", "format": "date-time"}),
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Integer { min, max } => {
                json!({"type": "integer", "minimum": min, "maximum": max})
            }
            Kind::Words(words) => json!({"type": "string", "enum": words}),
            Kind::List => json!({"type": "array", "items": {"type": "string"}}),
            Kind::Schema(schema) => schema(),
        };
        if let Some(kind) = schema.get_mut("type").filter(|_| self.takes_null) {
            *kind = json!([kind.take(), "null"]);
        }
        if let Some(default) = self.default {
            schema["default"] = serde_json::from_str(default).expect("a default is JSON");
        }
        schema
    }
}

fn not_empty() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// The schema of a body that has none but these members.
pub(crate) fn object(members: &[Input]) -> Value {
    let describe = |member: &Input| {
        let mut schema = member.schema();
        schema["description"] = json!(member.text);
        (member.name.to_owned(), schema)
    };
    let properties: Map<String, Value> = members.iter().map(describe).collect();
    let required = members.iter().filter(|member| member.is_required);
    let required: Vec<&str> = required.map(|member| member.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
