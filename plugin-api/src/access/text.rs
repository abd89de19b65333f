//! Texts as servers get them, and as they come back.

use std::fmt::Write as _;

/// Longest piece of somebody else's text in one of our messages, characters.
const EXCERPT_CHARS_MAX: usize = 300;

/// Names and values as `application/x-www-form-urlencoded`, for a body or for the query of an
/// address. Every byte arrives as it is.
///
/// ```
/// use rated_plugin::access::form;
///
/// assert_eq!(form(&[("query", "a = b"), ("limit", "10")]), "query=a%20%3D%20b&limit=10");
/// ```
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        push_encoded(&mut text, name);
        text.push('=');
        push_encoded(&mut text, value);
    }
    text
}

fn push_encoded(text: &mut String, field: &str) {
    for byte in field.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
}

/// Somebody else's text as a piece of a message: on one line, without control characters, at most
/// 300 characters.
///
/// ```
/// use rated_plugin::access::excerpt;
///
/// assert_eq!(excerpt("<h1>Bad\n\tGateway</h1>"), "<h1>Bad Gateway</h1>");
/// ```
pub fn excerpt(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.retain(|character| !character.is_control());
    match words.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_every_byte() {
        let fields = [("query", "a{b=~\"c|d\"} + é"), ("match[]", "x y&z")];

        assert_eq!(
            form(&fields),
            "query=a%7Bb%3D~%22c%7Cd%22%7D%20%2B%20%C3%A9&match%5B%5D=x%20y%26z"
        );
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(excerpt(&"x".repeat(400)).chars().count(), EXCERPT_CHARS_MAX + 1);
    }
}
