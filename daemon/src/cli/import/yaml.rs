//! A YAML file as a tree of texts that know their lines.
//!
//! Values stay the text they were written as, so that no digit is lost. Aliases are followed,
//! within limits; merge keys and several documents are not understood and refused.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most values, those that aliases stand for counted each time.
const NODES_MAX: usize = 200_000;

/// A value and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Yaml,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    /// Not quoted: may be a number, `true`, nothing.
    Plain(String),
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text, whatever it could mean; nothing for lists and maps.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Plain(text) | Yaml::Quoted(text) => Some(text),
            Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Yaml::Plain(text)
            if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }
}

/// Why a text is not understood, and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Where lines begin: the parser counts some lines twice, and no character.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let mut begins = vec![0];
        let mut characters = (1..).zip(text.chars()).peekable();
        while let Some((next, character)) = characters.next() {
            let is_pair = character == '\r' && characters.peek().is_some_and(|(_, c)| *c == '\n');
            if matches!(character, '\n' | '\r') && !is_pair {
                begins.push(next);
            }
        }
        Lines(begins)
    }

    /// Counted from 1.
    fn at(&self, place: &Marker) -> usize {
        self.0.partition_point(|begin| *begin <= place.index())
    }
}

/// The one document of a text; a text without one is null.
pub(super) fn parse(text: &str) -> Result<Node, YamlError> {
    let parser = Parser::new_from_str(text);
    let lines = Lines::of(text);
    let mut reader = Reader { parser, lines, anchors: HashMap::new(), nodes: 0 };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => {
                let nothing = Node { line: 1, value: Yaml::Plain(String::new()) };
                return Ok(document.unwrap_or(nothing));
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => return Err(reader.error(span, "a second document")),
            event => document = Some(reader.node(event, span, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines: Lines,
    /// What aliases may stand for.
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let line = self.lines.at(error.marker());
                Err(YamlError { line, reason: error.info().to_owned() })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn error(&self, span: Span, reason: impl Into<String>) -> YamlError {
        YamlError { line: self.lines.at(&span.start), reason: reason.into() }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        if depth > DEPTH_MAX {
            return Err(self.error(span, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.count(span, 1)?;
        let line = self.lines.at(&span.start);
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let text = text.into_owned();
                let is_plain = style == ScalarStyle::Plain;
                (anchor, if is_plain { Yaml::Plain(text) } else { Yaml::Quoted(text) })
            }
            Event::SequenceStart(anchor, _) => (anchor, Yaml::List(self.list(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Yaml::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| self.error(span, "an alias for nothing before it"))?;
                self.count(span, size(&node))?;
                return Ok(Node { line, ..node });
            }
            _ => return Err(self.error(span, "an end without a begin")),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, YamlError> {
        let mut map: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(map);
            }
            let key = self.node(event, span, depth + 1)?;
            let Some(text) = key.text() else {
                return Err(self.error(span, "a key that is no text"));
            };
            if key.value == Yaml::Plain("<<".to_owned()) {
                return Err(self.error(span, "a merge key (`<<`): write out what it stands for"));
            }
            if map.iter().any(|(known, _)| known.text() == Some(text)) {
                return Err(self.error(span, format!("`{text}` is set twice")));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            map.push((key, value));
        }
    }

    fn count(&mut self, span: Span, nodes: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(self.error(span, format!("more than {NODES_MAX} values")));
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Yaml::Plain(_) | Yaml::Quoted(_) => 1,
        Yaml::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Yaml::Map(map) => 1 + map.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, line: usize, reason: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.line == line && error.reason.contains(reason), "{error:?}");
    }

    #[test]
    fn values_are_the_texts_they_were_written_as() {
        let node = parse("# head\na: 1.10\nb: ['x', 0x1F]\n").unwrap();

        let Yaml::Map(map) = node.value else { panic!("a map") };
        assert_eq!(map[0].1, Node { line: 2, value: Yaml::Plain("1.10".to_owned()) });
        let Yaml::List(list) = &map[1].1.value else { panic!("a list") };
        assert_eq!(list[0].value, Yaml::Quoted("x".to_owned()));
        assert_eq!(list[1].text(), Some("0x1F"));
    }

    #[test]
    fn an_alias_stands_for_what_it_names() {
        let node = parse("a: &x [1, 2]\nb: *x\n").unwrap();

        let Yaml::Map(map) = node.value else { panic!("a map") };
        assert_eq!(map[0].1.value, map[1].1.value);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        refused("a: 1\na: 2\n", 2, "set twice");
        refused("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge key");
        refused("a: [1\n", 2, "");
        refused("a: |\n  x\n  y\nb: 1\nb: 2\n", 5, "set twice");
        refused("a: 1\r\nb: 1\rb: 2\r\n", 3, "set twice");
        refused("--- 1\n--- 2\n", 2, "second document");
        refused(&"[".repeat(100), 1, "nested deeper");
        assert!(parse("").unwrap().is_null());
    }

    #[test]
    fn aliases_of_aliases_are_limited() {
        let mut text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for index in 1..10 {
            let before = index - 1;
            let list = vec![format!("*a{before}"); 10].join(", ");
            let line = format!("a{index}: &a{index} [{list}]\n");
            text += &line;
        }

        assert!(parse(&text).unwrap_err().reason.contains("more than"));
    }
}
