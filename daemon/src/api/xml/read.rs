//! A body in XML becomes the JSON that would say the same, before any handler or module sees it.
//!
//! The root is the object, whatever its name is. An element with elements is an object; if all of
//! them are `<item>`, it is a list, or, if every item has a `<key>` and a `<value>`, an object with
//! these members. Every other element is a text: handlers take numbers and booleans as text too.
//! `nil="true"` is null. Document types and entities of the sender's own are refused.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use serde_json::{Map, Value};
use warp::http::{HeaderValue, StatusCode, header};

use super::write::is_element_name;
use crate::api::answer::JSON;
use crate::api::call::Call;
use crate::api::failure::Failure;

/// The only one: `application/xml` is refused by contract.
const MEDIA_TYPE: &str = "text/xml";

/// Deepest nesting of elements.
const DEPTH_MAX: usize = 64;

/// Most elements of a body.
const ELEMENTS_MAX: usize = 100_000;

/// Makes an XML body a JSON one; every other body stays as it is.
pub(crate) fn into_json(call: &mut Call, size_max: usize) -> Result<(), Failure> {
    if call.body.is_empty() || call.content_type() != MEDIA_TYPE {
        return Ok(());
    }
    let value = std::str::from_utf8(&call.body)
        .map_err(|error| XmlError::NotUtf8 { at: error.valid_up_to() })
        .and_then(read)
        .map_err(|error| {
            Failure::bad_request(format!("Request is not in valid XML format: {error}"))
        })?;
    let text = value.to_string();
    if text.len() > size_max {
        let text = format!("the body must be at most {size_max} bytes long when written as JSON");
        return Err(Failure::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, text });
    }
    call.body = text.into();
    call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    Ok(())
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum XmlError {
    #[error("byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("at byte {at}: {reason}")]
    Malformed { at: u64, reason: String },
    #[error("at byte {at}: {kind}")]
    Refused { at: u64, kind: Kind },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Kind {
    #[error("must be UTF-8, is said to be `{0}`")]
    Encoding(String),
    #[error("a document type is not accepted")]
    DocumentType,
    #[error("`&{0};` is unknown")]
    UnknownEntity(String),
    #[error("a character that no XML text may hold")]
    Character,
    #[error("`{0}` is no name of an element")]
    Name(String),
    #[error("elements must be nested at most {DEPTH_MAX} deep")]
    TooDeep,
    #[error("there must be at most {ELEMENTS_MAX} elements")]
    TooMany,
    #[error("text beside elements")]
    MixedText,
    #[error("`{0}` stands there twice")]
    Repeated(String),
    #[error("there must be one root element")]
    Root,
    #[error("`{0}` is not closed")]
    NotClosed(String),
}

pub(super) fn read(text: &str) -> Result<Value, XmlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| XmlError::Malformed {
            at: reader.error_position(),
            reason: error.to_string(),
        })?;
        let is_end = matches!(event, Event::Eof);
        document.take(event).map_err(|kind| XmlError::Refused { at, kind })?;
        if is_end {
            return document.end().map_err(|kind| XmlError::Refused { at, kind });
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Document {
    /// From the root down to where the reader is.
    open: Vec<Element>,
    root: Option<Value>,
    elements: usize,
}

struct Element {
    name: String,
    is_nil: bool,
    text: String,
    children: Vec<(String, Value)>,
}

impl Document {
    fn take(&mut self, event: Event<'_>) -> Result<(), Kind> {
        match event {
            Event::Start(start) => self.open(&start),
            Event::Empty(start) => {
                self.open(&start)?;
                self.close()
            }
            Event::End(_) => self.close(),
            Event::Text(text) => self.add_text(&text.xml10_content()),
            Event::CData(text) => self.add_text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let mut buffer = [0; 4];
                self.add_text(resolve(&reference, &mut buffer)?)
            }
            Event::DocType(_) => Err(Kind::DocumentType),
            Event::Decl(declaration) => check_encoding(&declaration),
            Event::PI(_) | Event::Comment(_) | Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), Kind> {
        let name = start.name().0;
        if !is_element_name(name) {
            return Err(Kind::Name(name.chars().take(64).collect()));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(Kind::Root);
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(Kind::TooMany);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Kind::TooDeep);
        }
        // Looking for attributes that stand there twice would take the square of their number.
        let mut attributes = start.attributes();
        let is_nil = attributes.with_checks(false).flatten().any(|attribute| {
            matches!(attribute.key.0, "nil" | "xsi:nil")
                && matches!(&*attribute.value, "true" | "1")
        });
        let (name, text) = (name.to_owned(), String::new());
        self.open.push(Element { name, is_nil, text, children: Vec::new() });
        Ok(())
    }

    fn add_text(&mut self, text: &str) -> Result<(), Kind> {
        let is_forbidden = |c: char| {
            (c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{7f}'))
                || matches!(c, '\u{fffe}' | '\u{ffff}')
        };
        if text.contains(is_forbidden) {
            return Err(Kind::Character);
        }
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if is_space(text) => {}
            None => return Err(Kind::Root),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Kind> {
        // The reader has checked that something is open; without that there is no root.
        let element = self.open.pop().ok_or(Kind::Root)?;
        let is_root = self.open.is_empty();
        let (name, value) = element.into_value(is_root)?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push((name, value)),
            None => self.root = Some(value),
        }
        Ok(())
    }

    fn end(self) -> Result<Value, Kind> {
        match self.open.into_iter().next() {
            Some(element) => Err(Kind::NotClosed(element.name)),
            None => self.root.ok_or(Kind::Root),
        }
    }
}

impl Element {
    fn into_value(self, is_root: bool) -> Result<(String, Value), Kind> {
        let Element { name, is_nil, text, children } = self;
        if !children.is_empty() && !is_space(&text) {
            return Err(Kind::MixedText);
        }
        let value = if is_nil {
            Value::Null
        } else if children.is_empty() && is_root && is_space(&text) {
            Value::Object(Map::new())
        } else if children.is_empty() {
            Value::String(text)
        } else if children.iter().all(|(name, _)| name == "item") {
            list_or_map(children.into_iter().map(|(_, value)| value).collect())?
        } else {
            object(children)?
        };
        Ok((name, value))
    }
}

fn object(children: impl IntoIterator<Item = (String, Value)>) -> Result<Value, Kind> {
    let mut members = Map::new();
    for (name, value) in children {
        if members.contains_key(&name) {
            return Err(Kind::Repeated(name));
        }
        members.insert(name, value);
    }
    Ok(Value::Object(members))
}

fn list_or_map(items: Vec<Value>) -> Result<Value, Kind> {
    if !items.iter().all(is_pair) {
        return Ok(Value::Array(items));
    }
    object(items.into_iter().filter_map(|mut item| {
        let name = item.get("key").and_then(Value::as_str)?.to_owned();
        Some((name, item.get_mut("value")?.take()))
    }))
}

fn is_pair(item: &Value) -> bool {
    let Value::Object(members) = item else { return false };
    members.len() == 2
        && members.contains_key("value")
        && members.get("key").is_some_and(Value::is_string)
}

/// The five entities that XML has by itself, and characters by number.
fn resolve<'a>(reference: &BytesRef<'_>, buffer: &'a mut [u8; 4]) -> Result<&'a str, Kind> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => Ok(character.encode_utf8(buffer)),
        Ok(None) => resolve_xml_entity(reference).ok_or_else(|| unknown(reference)),
        Err(_) => Err(unknown(reference)),
    }
}

fn unknown(reference: &str) -> Kind {
    Kind::UnknownEntity(reference.chars().take(64).collect())
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), Kind> {
    match declaration.encoding() {
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("us-ascii") => Ok(()),
        Some(Ok(name)) => Err(Kind::Encoding(name.chars().take(64).collect())),
        Some(Err(_)) | None => Ok(()),
    }
}

fn is_space(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, reason: &str) {
        let error = read(text).expect_err("it must be refused").to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn elements_become_members() {
        check(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- new -->\n<service_data>\n \
             <name>a &lt;b&gt; &#233;</name><cost>0.5</cost><text><![CDATA[<&>]]></text>\
             </service_data>\n",
            &json!({"name": "a <b> é", "cost": "0.5", "text": "<&>"}),
        );
        check("\u{feff}<x/>", &json!({}));
        check("<x>  </x>", &json!({}));
        check("<x><a/><b> </b></x>", &json!({"a": "", "b": " "}));
    }

    #[test]
    fn null_is_said_by_an_attribute() {
        let with_namespace = "<x xmlns:xsi=\"u\"><a xsi:nil=\"true\"/><b nil='1'>y</b></x>";
        check(with_namespace, &json!({"a": null, "b": null}));
        check("<x><a nil=\"false\">y</a><b other=\"true\">y</b></x>", &json!({"a": "y", "b": "y"}));
        check("<x nil=\"true\"/>", &Value::Null);
    }

    #[test]
    fn items_are_lists_and_pairs_are_maps() {
        check("<x><l><item>1</item><item/></l></x>", &json!({"l": ["1", ""]}));
        check(
            "<x><l><item><a>1</a></item><item><a>2</a></item></l></x>",
            &json!({"l": [{"a": "1"}, {"a": "2"}]}),
        );
        check(
            "<x><m><item><key>10 GiB</key><value>y</value></item></m></x>",
            &json!({"m": {"10 GiB": "y"}}),
        );
    }

    #[test]
    fn malformed_text_is_refused_with_its_place() {
        refused("", "one root element");
        refused("name", "one root element");
        refused("<a/><b/>", "at byte 4: there must be one root element");
        refused("<a><b></a>", "at byte 6");
        refused("<a><b>", "`a` is not closed");
        refused("</a>", "at byte 0");
        refused("<a>x<b/></a>", "text beside elements");
        refused("<a><b/><b/></a>", "`b` stands there twice");
        refused("<1/>", "`1` is no name");
        refused("<a>&#0;</a>", "`&#0;` is unknown");
        refused("<a>&#1;</a>", "a character that no XML text may hold");
        refused("<a>\u{1}</a>", "a character that no XML text may hold");
        refused("<?xml version='1.0' encoding='latin1'?><a/>", "said to be `latin1`");
    }

    #[test]
    fn document_types_and_entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        refused(bomb, "a document type is not accepted");
        refused("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "a document type is not accepted");
        refused("<a>&b;</a>", "`&b;` is unknown");
    }

    #[test]
    fn depth_and_number_are_limited() {
        let nested = |depth| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        refused(&nested(DEPTH_MAX + 1), "at most 64 deep");
        refused(&"<a>".repeat(300_000), "at most 64 deep");
        refused(&format!("<a>{}</a>", "<item/>".repeat(ELEMENTS_MAX)), "at most 100000 elements");
        let attributes: Vec<String> = (0..100_000).map(|index| format!("a{index}=''")).collect();
        let attributes = attributes.join(" ");
        assert!(read(&format!("<a {attributes}/>")).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "[<>/a!?\\[\\]&;#x'\" =\\-é\u{0}]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-h]{1,8}",
            text in "[^\u{0}-\u{1f}\u{7f}\u{fffe}\u{ffff}]{0,40}",
        ) {
            let value = json!({ name: text });
            prop_assert_eq!(read(&super::super::render("result", &value)), Ok(value));
        }
    }
}
