//! Comma-separated values, as RFC 4180 has them: a header line, lines that end with CR LF, fields
//! in quotes where they need them.
//!
//! A spreadsheet may take a text that begins with `=` for a formula. Texts are written as they are
//! all the same: whoever reads them by program would get others.

use std::io::{self, Write};

/// Writes one line.
pub(crate) fn write_line<'f>(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = &'f str>,
) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if field.contains(['"', ',', '\r', '\n']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        let mut out = Vec::new();
        write_line(&mut out, ["a", "", "b c", "d,e", "say \"f\"", "g\nh", "-1.50"]).unwrap();

        let expected = "a,,b c,\"d,e\",\"say \"\"f\"\"\",\"g\nh\",-1.50\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
