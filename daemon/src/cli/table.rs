//! Tables for the terminal, and the same rows as CSV.
//!
//! Numbers are shown exactly as they are given, aligned at their points; nothing is ever cut or
//! wrapped. Control characters are shown as a replacement: a name never writes to the terminal.

/// Which side of a column its cells stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    /// To the right, the decimal points below each other.
    Number,
}

/// Is the reader's terminal one for colours?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
}

impl Style {
    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// The width of a column before and after the points of its numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Width {
    whole: usize,
    fraction: usize,
}

impl Table {
    pub(super) fn new<T: Into<String>>(columns: impl IntoIterator<Item = (T, Align)>) -> Table {
        let columns = columns.into_iter().map(|(name, align)| (name.into(), align));
        Table { columns: columns.collect(), rows: Vec::new() }
    }

    /// As many cells as there are columns.
    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// A line of titles, a line for each row.
    pub(super) fn render(&self, style: Style) -> String {
        let widths: Vec<Width> = (0..self.columns.len()).map(|index| self.width(index)).collect();
        let titles = self.columns.iter().zip(&widths).map(|((name, align), width)| {
            let padding = " ".repeat((width.whole + width.fraction) - name.chars().count());
            match align {
                Align::Left => format!("{name}{padding}"),
                Align::Number => format!("{padding}{name}"),
            }
        });
        let titles = titles.collect::<Vec<_>>().join("  ");
        let mut text = style.bold(titles.trim_end());
        text.push('\n');
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let cells: Vec<String> =
                cells.map(|((cell, (_, align)), width)| aligned(cell, *align, *width)).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// RFC 4180, with a line of titles.
    pub(super) fn to_csv(&self) -> String {
        let titles = self.columns.iter().map(|(name, _)| quoted(name));
        let mut text = titles.collect::<Vec<_>>().join(",");
        text.push_str("\r\n");
        for row in &self.rows {
            text.push_str(&row.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
            text.push_str("\r\n");
        }
        text
    }

    fn width(&self, index: usize) -> Width {
        let (name, align) = &self.columns[index];
        let mut width = Width::default();
        for row in &self.rows {
            let (whole, fraction) = parts(&row[index], *align);
            width.whole = width.whole.max(whole.chars().count());
            width.fraction = width.fraction.max(fraction.chars().count());
        }
        width.whole = width.whole.max(name.chars().count().saturating_sub(width.fraction));
        width
    }
}

/// What stands before the point of a number, and the rest.
fn parts(cell: &str, align: Align) -> (&str, &str) {
    match (align, cell.find('.')) {
        (Align::Number, Some(point)) => cell.split_at(point),
        _ => (cell, ""),
    }
}

fn aligned(cell: &str, align: Align, width: Width) -> String {
    let (whole, fraction) = parts(cell, align);
    let before = " ".repeat(width.whole - whole.chars().count());
    let after = " ".repeat(width.fraction - fraction.chars().count());
    match align {
        Align::Left => format!("{cell}{before}{after}"),
        Align::Number => format!("{before}{cell}{after}"),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

/// Without anything that a terminal would act on.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [("SCOPE", Align::Left), ("PRICE", Align::Number), ("UNIT", Align::Left)];
        let mut table = Table::new(columns);
        for row in [["a", "12.5", "s"], ["long name", "0.000125", "GiB"], ["b", "-1000", ""]] {
            table.push(row.map(str::to_owned));
        }
        table
    }

    #[test]
    fn numbers_stand_below_each_other_and_keep_their_digits() {
        let expected = "\
SCOPE             PRICE  UNIT
a             12.5       s
long name      0.000125  GiB
b          -1000
";
        assert_eq!(table().render(Style::Plain), expected);
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(table().render(Style::Coloured).starts_with("\x1b[1mSCOPE"));
        assert!(!table().render(Style::Plain).contains('\x1b'));
    }

    #[test]
    fn a_cell_with_a_comma_is_quoted_in_csv() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Number)]);
        table.push(["x, \"y\"".to_owned(), "1.50".to_owned()]);

        assert_eq!(table.to_csv(), "a,b\r\n\"x, \"\"y\"\"\",1.50\r\n");
    }

    #[test]
    fn a_name_does_not_write_to_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
