//! The examples of the contract: blocks and rows of tables.

/// A request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) title: String,
    pub(crate) method: String,
    /// Path and query as in the contract.
    pub(crate) target: String,
    /// `Name: value`
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// JSON, or `mappings: [<m1>]`, or something else in words.
    pub(crate) answer: String,
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

/// All examples of a document, in its order.
pub(crate) fn read(document: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut title = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("**") {
            title = rest.split("**").next().unwrap_or_default().to_owned();
        } else if line == "```" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            examples.push(read_block(&title, &block));
        } else if line.starts_with("| `") {
            examples.push(read_row(line));
        }
    }
    examples
}

fn read_block(title: &str, block: &[&str]) -> Example {
    let arrow = block.iter().position(|line| line.starts_with("--> ")).expect("an answer");
    let (method, target) = block[0].split_once(' ').expect("a method and a target");
    let is_header =
        |line: &&&str| line.starts_with("Content-Type: ") || line.starts_with("Accept: ");
    let headers: Vec<String> =
        block[1..arrow].iter().filter(is_header).map(ToString::to_string).collect();
    let body = block[1 + headers.len()..arrow].join("\n");
    let answer = &block[arrow + 1..];
    let location = answer.first().and_then(|line| line.strip_prefix("Location: "));
    let skipped = usize::from(location.is_some());
    Example {
        title: title.to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body,
        status: block[arrow][4..7].parse().expect("a status"),
        location: location.map(str::to_owned),
        answer: answer[skipped..].join("\n"),
    }
}

fn read_row(line: &str) -> Example {
    let cells: Vec<&str> = line.split(" | ").collect();
    let request = cells[0].trim_start_matches("| ");
    let codes: Vec<&str> = request
        .split("<br>")
        .filter_map(|part| part.strip_prefix('`')?.strip_suffix('`'))
        .collect();
    let (method, target) = codes[0].split_once(' ').expect("a method and a target");
    assert!(METHODS.contains(&method), "{line}");
    let answer = cells[2].trim_end_matches(" |").trim_matches('`');
    Example {
        title: codes[0].to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: codes.get(1).copied().unwrap_or_default().to_owned(),
        status: cells[1].parse().expect("a status"),
        location: None,
        answer: if answer == "(empty)" { String::new() } else { answer.to_owned() },
    }
}
