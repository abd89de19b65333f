//! Reads recorded requests and answers from Markdown and asks them again.
//!
//! Two forms are understood: a fenced block (request, `--> status  type`, answer) and a table row
//! (`| request | status | answer |`). `[...]` at the end of an answer cuts it; `<word>` in it
//! stands for any text.

use serde_json::Value;

use super::setup::{Api, text};

/// A request with the answer that it must get.
#[derive(Debug, Default)]
struct Example {
    line: usize,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    /// Parts of the answer: `Name: value`, or a body.
    answers: Vec<String>,
    /// Is the body known to be empty?
    empty: bool,
}

/// Asks everything in order, of one API.
pub(super) async fn replay(api: &Api, name: &str, markdown: &str) {
    let examples = read(markdown);
    assert!(!examples.is_empty(), "{name}: nothing to ask");
    let mut failures = Vec::new();
    for example in &examples {
        if let Err(failure) = check(api, example).await {
            let Example { line, method, target, .. } = example;
            failures.push(format!("{name}:{line}: {method} {target}\n  {failure}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        examples.len(),
        failures.join("\n")
    );
}

async fn check(api: &Api, example: &Example) -> Result<(), String> {
    let headers: Vec<(&str, &str)> =
        example.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let response = api.ask(&example.method, &example.target, &headers, &example.body).await;
    let (status, body) = (response.status().as_u16(), text(&response));
    if status != example.status {
        return Err(format!("status {status}, not {}: {body}", example.status));
    }
    if !response.headers().contains_key("x-openstack-request-id") {
        return Err("no request id".to_owned());
    }
    let body = if example.method == "HEAD" { String::new() } else { body };
    if example.empty && !body.is_empty() {
        return Err(format!("the body is not empty: {body}"));
    }
    for answer in &example.answers {
        if let Some((name, value)) = header_of(answer) {
            let found = response.headers().get(&name).and_then(|found| found.to_str().ok());
            let found = found.ok_or_else(|| format!("no header {name}"))?;
            if !same_header(&name, found, &value) {
                return Err(format!("{name}: {found}, not {value}"));
            }
        } else if !same_body(answer, &body) {
            return Err(format!("body {body}\n  not  {answer}"));
        }
    }
    Ok(())
}

fn same_header(name: &str, found: &str, expected: &str) -> bool {
    let sorted = |list: &str| {
        let mut words: Vec<String> = list.split(',').map(|word| word.trim().to_owned()).collect();
        words.sort();
        words
    };
    if name.eq_ignore_ascii_case("allow") {
        return sorted(found) == sorted(expected);
    }
    matches(expected, found)
}

fn same_body(expected: &str, found: &str) -> bool {
    if let Some(page) = expected.strip_prefix("HTML: ") {
        return squeeze(&without_tags(found)).contains(squeeze(page).trim_end_matches(" [...]"));
    }
    match (serde_json::from_str::<Value>(expected), serde_json::from_str::<Value>(found)) {
        (Ok(expected), Ok(found)) => same_value(&expected, &found),
        _ => match expected.trim_end().strip_suffix("[...]") {
            Some(begin) => dense(found).starts_with(&dense(begin)),
            None => dense(expected) == dense(found) || squeeze(expected) == squeeze(found),
        },
    }
}

fn same_value(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, value)| {
                    found.get(name).is_some_and(|found| same_value(value, found))
                })
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| same_value(expected, found))
        }
        (Value::String(expected), Value::String(found)) => matches(expected, found),
        // A number is its text: 69.0 is not 69.
        (expected, found) => expected == found,
    }
}

/// `<word>` stands for any text.
fn matches(expected: &str, found: &str) -> bool {
    match (expected.find('<'), expected.find('>')) {
        (Some(open), Some(close)) if open < close && !expected.contains("<class") => {
            let (before, after) = (&expected[..open], &expected[close + 1..]);
            found.len() >= before.len() + after.len()
                && found.starts_with(before)
                && found.ends_with(after)
        }
        _ => expected == found,
    }
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

fn without_tags(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, rest)| rest));
        text.push(' ');
    }
    text
}

fn header_of(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(": ")?;
    let sound = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && name != "HTML";
    sound.then(|| (name.to_owned(), value.trim_matches('`').to_owned()))
}

// ---- reading ------------------------------------------------------------------------------------

fn read(markdown: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut block: Option<(usize, Vec<&str>)> = None;
    for (index, line) in markdown.lines().enumerate() {
        if line == "```" {
            match block.take() {
                None => block = Some((index + 2, Vec::new())),
                Some((line, lines)) => examples.extend(read_block(line, &lines)),
            }
        } else if let Some((_, lines)) = &mut block {
            lines.push(line);
        } else if line.starts_with("| `") {
            examples.extend(read_row(index + 1, line));
        }
    }
    examples.into_iter().map(with_defaults).collect()
}

fn read_block(line: usize, lines: &[&str]) -> Option<Example> {
    let arrow = lines.iter().position(|line| line.starts_with("--> "))?;
    let (request, answer) = lines.split_at(arrow);
    let mut example = request_of(line, request[0])?;
    let mut rest = request[1..].iter().peekable();
    while let Some(header) = rest.peek().and_then(|line| header_of(line)) {
        example.headers.push(header);
        rest.next();
    }
    example.body = rest.copied().collect::<Vec<_>>().join("\n");
    let mut words = answer[0].trim_start_matches("--> ").split("  ");
    example.status = words.next()?.trim().parse().ok()?;
    let kind = words.next().unwrap_or_default();
    example.empty = answer[0].contains("(empty body)");
    if kind.contains('/') {
        example.answers.push(format!("Content-Type: {kind}"));
    }
    let mut rest = answer[1..].iter().peekable();
    while let Some(header) = rest.next_if(|line| header_of(line).is_some()) {
        example.answers.push((*header).to_owned());
    }
    let body = rest.copied().collect::<Vec<_>>().join("\n");
    if !body.is_empty() {
        example.answers.push(body);
    }
    Some(example)
}

fn read_row(line: usize, row: &str) -> Option<Example> {
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let [request, status, answer] = cells[..] else { return None };
    let mut pieces = request.split("<br>").filter_map(|piece| piece.strip_prefix('`'));
    let mut example = request_of(line, pieces.next()?.trim_end_matches('`'))?;
    for piece in pieces {
        let piece = piece.trim_end_matches('`');
        match header_of(piece) {
            Some(header) => example.headers.push(header),
            None => piece.clone_into(&mut example.body),
        }
    }
    example.status = status.parse().ok()?;
    example.empty = answer.ends_with("(empty)");
    for piece in answer.split("<br>") {
        let piece = piece.trim();
        if piece.starts_with('`') || header_of(piece).is_some() || piece.starts_with("HTML: ") {
            example.answers.push(piece.trim_matches('`').to_owned());
        } else if let Some(kind) = piece.strip_prefix('(').and_then(|kind| kind.strip_suffix(')'))
            && kind.contains('/')
        {
            example.answers.push(format!("Content-Type: {kind}"));
        }
    }
    Some(example)
}

fn request_of(line: usize, text: &str) -> Option<Example> {
    let (method, target) = text.split_once(' ')?;
    target.starts_with('/').then(|| Example {
        line,
        method: method.to_owned(),
        target: target.to_owned(),
        ..Example::default()
    })
}

/// What every request carries unless it says otherwise.
fn with_defaults(mut example: Example) -> Example {
    let has = |example: &Example, name: &str| {
        example.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !has(&example, "accept") {
        example.headers.push(("Accept".to_owned(), "application/json".to_owned()));
    }
    example.headers.retain(|(name, value)| name != "Accept" || value != "None");
    if !example.body.is_empty() && !has(&example, "content-type") {
        example.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    // A defect of the recorded server is a refusal here, with a text of our own.
    if example.status == 500 {
        example.status = 400;
        example.answers.clear();
    }
    example
}
