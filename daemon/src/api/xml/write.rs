use serde_json::Value;

use crate::api::answer::escape;

/// A document as v1 shows it to those who want XML: members are elements, list entries `<item>`.
pub(crate) fn render(root: &str, value: &Value) -> String {
    let mut text = String::new();
    write_element(&mut text, root, value);
    text
}

fn write_element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => write_tag(text, &["<", name, " nil=\"true\"/>"]),
        Value::Array(items) if items.is_empty() => write_tag(text, &["<", name, "/>"]),
        Value::Array(items) => {
            write_tag(text, &["<", name, ">"]);
            for item in items {
                write_element(text, "item", item);
            }
            write_tag(text, &["</", name, ">"]);
        }
        Value::Object(members) => {
            write_tag(text, &["<", name, ">"]);
            for (member, value) in members {
                write_member(text, member, value);
            }
            write_tag(text, &["</", name, ">"]);
        }
        Value::String(content) => write_text(text, name, content),
        Value::Bool(content) => write_text(text, name, if *content { "true" } else { "false" }),
        Value::Number(content) => write_text(text, name, &content.to_string()),
    }
}

/// A member whose name is no element name (an attribute such as `10 GiB`) becomes a key and a
/// value.
fn write_member(text: &mut String, member: &str, value: &Value) {
    if is_element_name(member) {
        write_element(text, member, value);
        return;
    }
    text.push_str("<item>");
    write_text(text, "key", member);
    write_element(text, "value", value);
    text.push_str("</item>");
}

fn write_text(text: &mut String, name: &str, content: &str) {
    write_tag(text, &["<", name, ">", &escape(content), "</", name, ">"]);
}

fn write_tag(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
}

pub(super) fn is_element_name(name: &str) -> bool {
    let mut characters = name.chars();
    let first = characters.next();
    first.is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &serde_json::Value, expected: &str) {
        assert_eq!(render("result", value), expected);
    }

    #[test]
    fn documents_become_elements() {
        check(&serde_json::json!("0"), "<result>0</result>");
        check(&serde_json::json!([]), "<result/>");
        check(&serde_json::json!(null), "<result nil=\"true\"/>");
        check(
            &serde_json::json!({"metadata": ["a<b"], "enabled": true}),
            "<result><metadata><item>a&lt;b</item></metadata><enabled>true</enabled></result>",
        );
        check(
            &serde_json::json!({"10 GiB": "x"}),
            "<result><item><key>10 GiB</key><value>x</value></item></result>",
        );
    }
}
