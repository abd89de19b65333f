//! The list, read from its files.

use std::path::Path;

use rated_pyscripts::Wall;

/// One script of the list.
pub(crate) struct Case {
    pub(crate) topic: String,
    pub(crate) name: String,
    pub(crate) tries: String,
    pub(crate) text: String,
    /// What may be heard of it, one of these.
    pub(crate) outcome: Vec<String>,
    /// The same where namespaces stand alone; `None` where they are not made against that.
    without_filter: Option<Vec<String>>,
}

impl Case {
    /// What is to be heard of it; `None` = not tried.
    pub(crate) fn expected(&self, left_out: &[Wall]) -> Option<&[String]> {
        if left_out.contains(&Wall::Filter) {
            return self.without_filter.as_deref();
        }
        Some(&self.outcome)
    }
}

/// All scripts, in the order of the files' names.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile");
    let mut found = Vec::new();
    for topic in super::TOPICS {
        let text = std::fs::read_to_string(folder.join(format!("{topic}.py"))).unwrap();
        found.extend(text.split("### ").skip(1).map(|section| case(topic, section)));
    }
    found
}

/// ```text
/// name: what it does
/// #=> what becomes of it, or something else
/// #namespaces=> what becomes of it with namespaces alone
/// the script
/// ```
fn case(topic: &str, section: &str) -> Case {
    let (head, mut text) = section.split_once('\n').expect("a section has lines");
    let (name, tries) = head.split_once(": ").expect("a section has a name and a purpose");
    let mut line = |mark: &str| {
        let rest = text.strip_prefix(mark)?;
        let (line, rest) = rest.split_once('\n')?;
        text = rest;
        Some(line.split(" or ").map(str::to_owned).collect::<Vec<_>>())
    };
    let outcome = line("#=> ").unwrap_or_else(|| panic!("{name} has no outcome"));
    let without_filter = match line("#namespaces=> ") {
        Some(told) if told == ["not tried"] => None,
        Some(told) => Some(told),
        None => Some(outcome.clone()),
    };
    Case {
        topic: topic.to_owned(),
        name: name.to_owned(),
        tries: tries.to_owned(),
        text: text.trim_end().to_owned(),
        outcome,
        without_filter,
    }
}
