//! Values as Python prints them: they stand in the contract's error texts.

use std::fmt::Write as _;

use serde_json::Value;

/// `repr()` of a decoded JSON value.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => repr_text(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", repr_text(name), repr(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

/// `str()` of a decoded JSON value.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `str()` of a value that is to be an attribute; a number with a point or an exponent is a double
/// in Python.
pub(crate) fn attribute(value: &Value) -> String {
    let Value::Number(number) = value else { return text(value) };
    let written = number.to_string();
    match written.parse::<f64>() {
        Ok(double) if written.contains(['.', 'e', 'E']) => repr_double(double),
        _ if written == "-0" => "0".to_owned(),
        _ => written,
    }
}

/// The shortest digits that mean this double; an exponent below -4 and from 16 on.
fn repr_double(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `repr()` of a text: in single quotes, or in double ones when only single ones are inside.
pub(crate) fn repr_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let width = if u32::from(c) < 0x100 { 2 } else { 4 };
                let mark = if width == 2 { 'x' } else { 'u' };
                write!(out, "\\{mark}{:0width$x}", u32::from(c))
                    .expect("writing to a string does not fail");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The name of a value's type: `<class 'int'>`.
pub(crate) fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "<class 'NoneType'>",
        Value::Bool(_) => "<class 'bool'>",
        Value::Number(number) if number.is_i64() || number.is_u64() => "<class 'int'>",
        Value::Number(_) => "<class 'float'>",
        Value::String(_) => "<class 'str'>",
        Value::Array(_) => "<class 'list'>",
        Value::Object(_) => "<class 'dict'>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_what_str_makes_of_them() {
        for (json, expected) in [
            ("1", "1"),
            ("1.0", "1.0"),
            ("1.50", "1.5"),
            ("-0", "0"),
            ("1e3", "1000.0"),
            ("1e16", "1e+16"),
            ("123456789012345680.0", "1.2345678901234568e+17"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e-7", "1e-07"),
            ("1e400", "inf"),
            ("123456789012345678901", "123456789012345678901"),
            ("true", "True"),
            ("null", "None"),
            ("[1, \"a\"]", "[1, 'a']"),
            ("\"a\"", "a"),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(attribute(&value), expected, "{json}");
        }
    }

    #[test]
    fn values_look_as_in_python() {
        let value = serde_json::json!({"a": [1, 2.5, null, true], "it's": "\"q\" \\ \u{7}"});
        assert_eq!(repr(&value), r#"{'a': [1, 2.5, None, True], "it's": '"q" \\ \x07'}"#);
        assert_eq!(repr_text("it's \"so\""), r#"'it\'s "so"'"#);
    }
}
