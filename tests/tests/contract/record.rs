//! The recorded requests and answers, as REST.md shows them.
//!
//! Three forms are read: a fenced block (request, `--> status  type`, answer) under its title, a
//! row of a table `| request | status | answer |`, and a row of a table `| request | CALLER … |`
//! whose cells are a status and an answer. Nothing of these forms is skipped: what cannot be read
//! stops the test.

use crate::expected::Expected;

/// The header that says who calls.
pub const TOKEN: &str = "X-Auth-Token";

/// A numbered section of the file.
#[derive(Debug)]
pub struct Section {
    pub number: u32,
    pub title: String,
    pub examples: Vec<Example>,
}

/// A request and the answer that was recorded.
#[derive(Debug, Clone)]
pub struct Example {
    pub line: usize,
    /// Of a block; a row has none, unless it is about callers: then who calls.
    pub title: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub status: u16,
    pub answer: Answer,
}

/// What was recorded of an answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Not shown.
    #[default]
    Unknown,
    Empty,
    Json(Expected),
    /// The list under a name holds the objects with these identifiers.
    Identifiers(String, Vec<String>),
    /// The text of a page.
    Html(String),
    Xml(String),
    Text(String),
}

impl Example {
    pub fn request(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// All sections, in order.
pub fn read(markdown: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut title = "";
    let mut block: Option<(usize, Vec<&str>)> = None;
    let mut is_table = false;
    let mut callers: Vec<&str> = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        let number = index + 1;
        if line == "# Part 2: what python-cloudkittyclient 6.2 sends" {
            break;
        }
        if line == "```" {
            match block.take() {
                None => block = Some((number + 1, Vec::new())),
                Some((line, lines)) => {
                    let section = sections.last_mut().expect("blocks stand in sections");
                    section.examples.push(read_block(line, title, &lines));
                }
            }
            continue;
        }
        if let Some((_, lines)) = &mut block {
            lines.push(line);
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            sections.extend(read_heading(heading));
        } else if let Some(text) = line.strip_prefix("**") {
            title = text.split("**").next().expect("a part before the end");
        } else if line == "| request | status | answer |" {
            is_table = true;
        } else if let Some(names) = line.strip_prefix("| request | ").filter(|_| !is_table) {
            callers = names.trim_matches([' ', '|']).split(" | ").collect();
        } else if !line.starts_with('|') {
            is_table = false;
            callers.clear();
        } else if is_table && !line.starts_with("|---") {
            let section = sections.last_mut().expect("tables stand in sections");
            section.examples.push(read_row(number, line));
        } else if !callers.is_empty() && !line.starts_with("|---") {
            let section = sections.last_mut().expect("tables stand in sections");
            section.examples.extend(read_row_of_callers(number, line, &callers));
        }
    }
    sections
}

fn read_heading(heading: &str) -> Option<Section> {
    let (number, title) = heading.split_once(". ")?;
    let number = number.parse().ok()?;
    Some(Section { number, title: title.to_owned(), examples: Vec::new() })
}

fn read_block(line: usize, title: &str, lines: &[&str]) -> Example {
    let arrow = lines.iter().position(|line| line.starts_with("--> "));
    let (request, answer) =
        lines.split_at(arrow.unwrap_or_else(|| panic!("line {line}: no answer")));
    let mut example = start(line, title, request[0]);
    let mut rest = request[1..].iter().copied().peekable();
    while let Some(header) = rest.peek().and_then(|line| header_of(line)) {
        example.headers.push(header);
        rest.next();
    }
    example.body = rest.collect::<Vec<_>>().join("\n");

    let mut words = answer[0].trim_start_matches("--> ").split("  ");
    let status = words.next().unwrap_or_default().trim();
    example.status = status.parse().unwrap_or_else(|_| panic!("line {line}: no status: {status}"));
    let mut is_empty = false;
    for word in words {
        if word == "(empty body)" {
            is_empty = true;
        } else if word.contains('/') {
            example.answer.headers.push(("Content-Type".to_owned(), word.to_owned()));
        }
    }
    let mut rest = answer[1..].iter().copied().peekable();
    while let Some(header) = rest.peek().and_then(|line| header_of(line)) {
        example.answer.headers.push(header);
        rest.next();
    }
    let body = rest.collect::<Vec<_>>().join("\n");
    example.answer.body = if is_empty { Body::Empty } else { body_of(&body) };
    with_defaults(example)
}

fn read_row(line: usize, row: &str) -> Example {
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let [request, status, answer] = cells[..] else {
        panic!("line {line}: {} cells instead of three", cells.len())
    };
    let mut example = read_request(line, "", request);
    example.status = status.parse().unwrap_or_else(|_| panic!("line {line}: no status: {status}"));
    example.answer = answer_of(answer);
    with_defaults(example)
}

/// One request for each caller, who stands in its token header.
fn read_row_of_callers(line: usize, row: &str, callers: &[&str]) -> Vec<Example> {
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let (request, cells) = cells.split_first().expect("a row has cells");
    assert_eq!(cells.len(), callers.len(), "line {line}: a cell for each caller");
    let read = |(caller, cell): (&&str, &&str)| {
        let mut example = read_request(line, caller, request);
        example.headers.push((TOKEN.to_owned(), (*caller).to_owned()));
        let (status, answer) = cell.split_once(' ').unwrap_or((cell, ""));
        example.status = status.parse().unwrap_or_else(|_| panic!("line {line}: {cell}"));
        example.answer = answer_of(answer);
        with_defaults(example)
    };
    callers.iter().zip(cells).map(read).collect()
}

/// The first cell of a row.
fn read_request(line: usize, title: &str, cell: &str) -> Example {
    let mut pieces = cell.split("<br>").filter(|piece| piece.starts_with('`'));
    let first = pieces.next().unwrap_or_else(|| panic!("line {line}: no request"));
    let mut example = start(line, title, first.trim_matches('`'));
    for piece in pieces {
        let piece = piece.trim_matches('`');
        match header_of(piece) {
            Some(header) => example.headers.push(header),
            None => piece.clone_into(&mut example.body),
        }
    }
    example
}

/// The third cell of a row.
pub fn answer_of(cell: &str) -> Answer {
    let mut answer = Answer::default();
    for piece in cell.split("<br>").map(str::trim) {
        if piece == "(empty)" {
            answer.body = Body::Empty;
        } else if let Some(kind) = piece.strip_prefix('(').and_then(|kind| kind.strip_suffix(')')) {
            answer.headers.push(("Content-Type".to_owned(), kind.to_owned()));
        } else if let Some((name, value)) = header_of(piece) {
            answer.headers.push((name, value.trim_matches('`').to_owned()));
        } else {
            answer.body = body_of(piece.trim_matches('`'));
        }
    }
    answer
}

/// What the shown text of a body stands for.
pub fn body_of(text: &str) -> Body {
    if let Some(page) = text.strip_prefix("HTML: ") {
        return Body::Html(page.to_owned());
    }
    if text.starts_with("<html>") {
        return Body::Html(crate::markup::text_of(text));
    }
    if let Some((name, list)) = identifiers(text) {
        return Body::Identifiers(name, list);
    }
    if let Some(expected) = Expected::parse(text) {
        return Body::Json(expected);
    }
    match text {
        "" => Body::Unknown,
        _ if text.starts_with('<') => Body::Xml(text.to_owned()),
        _ => Body::Text(text.to_owned()),
    }
}

fn identifiers(text: &str) -> Option<(String, Vec<String>)> {
    let (name, list) = text.split_once(": [")?;
    let list = list.strip_suffix(']')?;
    let is_name = name.chars().all(|c| c.is_ascii_lowercase());
    let list: Vec<String> =
        list.split(", ").filter(|item| !item.is_empty()).map(str::to_owned).collect();
    let are_identifiers = list.iter().all(|item| item.starts_with('<') && item.ends_with('>'));
    (is_name && are_identifiers).then(|| (name.to_owned(), list))
}

fn header_of(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(": ")?;
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && name != "HTML";
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

fn start(line: usize, title: &str, request: &str) -> Example {
    let (method, target) =
        request.split_once(' ').unwrap_or_else(|| panic!("line {line}: no request: {request}"));
    let is_method = method.chars().all(|c| c.is_ascii_uppercase());
    assert!(is_method && target.starts_with('/'), "line {line}: no request: {request}");
    Example {
        line,
        title: title.to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: String::new(),
        status: 0,
        answer: Answer::default(),
    }
}

/// What every request carries unless it says otherwise.
fn with_defaults(mut example: Example) -> Example {
    let has = |example: &Example, name: &str| {
        example.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !has(&example, "accept") {
        example.headers.push(("Accept".to_owned(), "application/json".to_owned()));
    }
    if !example.body.is_empty() && !has(&example, "content-type") {
        example.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    example
}
