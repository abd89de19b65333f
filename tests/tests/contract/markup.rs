//! XML and HTML, as far as they are compared.

/// Tags and texts in order, without the space between them; an empty element is its two tags.
pub fn events(xml: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut rest = xml.trim();
    if rest.starts_with("<?") {
        rest = rest.split_once("?>").map_or("", |(_, after)| after);
    }
    while !rest.is_empty() {
        let Some((text, tag)) = rest.split_once('<') else {
            events.push(rest.trim().to_owned());
            break;
        };
        if !text.trim().is_empty() {
            events.push(text.trim().to_owned());
        }
        let (tag, after) = tag.split_once('>').unwrap_or((tag, ""));
        match tag.strip_suffix('/') {
            Some(tag) => {
                let tag = tag.trim();
                let name = tag.split_whitespace().next().unwrap_or_default();
                events.extend([format!("<{tag}>"), format!("</{name}>")]);
            }
            None => events.push(format!("<{tag}>")),
        }
        rest = after;
    }
    events
}

/// Is an answer the recorded document, or does it begin like it where that is cut off?
pub fn is_same_xml(recorded: &str, found: &str) -> bool {
    let found = events(found);
    match recorded.trim_end().strip_suffix("[...]") {
        None => events(recorded) == found,
        Some(begin) => {
            let mut begin = events(begin);
            let last = begin.pop().unwrap_or_default();
            found.starts_with(&begin)
                && found.get(begin.len()).is_some_and(|found| found.starts_with(&last))
        }
    }
}

/// The words of a page.
pub fn text_of(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, rest)| rest));
        text.push(' ');
    }
    squeeze(&text)
}

/// One space where there was any.
pub fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_trees() {
        assert!(is_same_xml("<r>\n <a>1</a>\n <b/>\n</r>", "<r><a>1</a><b></b></r>"));
        assert!(is_same_xml("<result nil=\"true\"/>", "<result nil=\"true\" />"));
        assert!(!is_same_xml("<r><a>1</a></r>", "<r><a>2</a></r>"));
        assert!(!is_same_xml("<r><a/></r>", "<r><a/><a/></r>"));
        assert!(is_same_xml("<r><a>12 [...]", "<r><a>12345</a></r>"));
        assert!(!is_same_xml("<r><a>12 [...]", "<r><a>45</a></r>"));
    }
}
