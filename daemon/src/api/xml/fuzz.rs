//! Any bytes as a document.

use serde_json::Value;

use super::read::read;
use super::render;
use super::write::is_element_name;

/// What is read is read again when it is written.
pub(crate) fn document(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = read(text) else { return };
    if can_be_written(&value) {
        let written = render("result", &value);
        assert_eq!(read(&written).as_ref(), Ok(&value), "{written}");
    }
}

/// A member that is named like an item, or beside one whose name is no element's, is written in a
/// way that means something else: clients have always read it so.
fn can_be_written(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .all(|(name, value)| is_element_name(name) && name != "item" && can_be_written(value)),
        Value::Array(items) => items.iter().all(can_be_written),
        _ => true,
    }
}

/// A body of ours.
pub(crate) fn is_well_formed(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("what we write is UTF-8");
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Eof) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}: {text}"),
        }
    }
}
