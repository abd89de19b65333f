//! What the replay must know and the record does not say: `unshown.toml` and `differences.toml`.

use serde::Deserialize;

use crate::record::{Example, Section};

/// Before each of its titles, in these sections, something was done that the record does not show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unshown {
    #[serde(default)]
    pub step: Vec<Step>,
    #[serde(default)]
    pub header: Vec<Header>,
}

/// A request that must succeed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub sections: Vec<u32>,
    /// A title or a row's request; at the begin of the section when there is none.
    pub before: Option<String>,
    pub request: String,
    #[serde(default)]
    pub body: String,
    /// Placeholder -> key of the answer.
    #[serde(default)]
    pub names: std::collections::BTreeMap<String, String>,
}

/// A header of a recorded request; `None` takes it away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub section: u32,
    pub title: String,
    pub name: String,
    pub value: String,
}

/// Where this daemon answers otherwise, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    pub skip: Vec<Skip>,
    pub difference: Vec<Difference>,
}

/// A section that is not replayed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    pub section: u32,
    pub reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    pub section: u32,
    /// Of a block.
    pub title: Option<String>,
    /// Of a row, or of a block whose title is not the only one.
    pub request: Option<String>,
    /// Title of the block before, where neither is enough.
    pub after: Option<String>,
    /// As recorded, when there is none.
    pub status: Option<u16>,
    pub location: Option<String>,
    /// In the forms of the record. When there is none, an error has the body of its API and
    /// anything else any body.
    pub answer: Option<String>,
    /// Words that REST.md begins with and that ask for it.
    pub rule: String,
    /// What the rule means here.
    pub because: Option<String>,
}

impl Difference {
    pub fn is_for(&self, section: &Section, index: usize) -> bool {
        let example = &section.examples[index];
        let before = index.checked_sub(1).map(|index| &section.examples[index].title);
        self.section == section.number
            && self.title.as_deref().unwrap_or_default() == example.title
            && self.request.as_ref().is_none_or(|request| *request == example.request())
            && self.after.as_ref().is_none_or(|after| before == Some(after))
    }

    pub fn name(&self) -> String {
        let parts = [self.title.as_deref(), self.request.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Which request, and why.
    pub fn reason(&self) -> String {
        let because = self.because.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{}\n      {}{because}", self.name(), self.rule)
    }
}

impl Step {
    pub fn is_before(&self, example: &Example) -> bool {
        let before = self.before.as_deref();
        before.is_some_and(|before| before == example.title || before == example.request())
    }
}

/// Everything that names what is not there, or cannot be relied on.
pub fn mistakes(head: &str, sections: &[Section], notes: &(Unshown, Differences)) -> Vec<String> {
    let (unshown, differences) = notes;
    let count = |number: u32, is_it: &dyn Fn(&Section, usize) -> bool| {
        let section = sections.iter().find(|section| section.number == number);
        let matching = |section: &Section| {
            (0..section.examples.len()).filter(|index| is_it(section, *index)).count()
        };
        section.map_or(0, matching)
    };
    let mut mistakes = Vec::new();
    let head = crate::markup::squeeze(head);
    for difference in &differences.difference {
        let name = format!("section {}, {}", difference.section, difference.name());
        match count(difference.section, &|section, index| difference.is_for(section, index)) {
            1 => {}
            found => mistakes.push(format!("{name}: means {found} requests")),
        }
        if differences.skip.iter().any(|skip| skip.section == difference.section) {
            mistakes.push(format!("{name}: the section is not replayed"));
        }
        if !head.contains(&difference.rule) {
            mistakes.push(format!("{name}: the head does not say `{}`", difference.rule));
        }
    }
    for step in unshown.step.iter().filter(|step| step.before.is_some()) {
        for section in &step.sections {
            match count(*section, &|section, index| step.is_before(&section.examples[index])) {
                1 => {}
                found => mistakes.push(format!("{step:?}: stands before {found} requests")),
            }
        }
    }
    for header in &unshown.header {
        if count(header.section, &|section, index| section.examples[index].title == header.title)
            != 1
        {
            mistakes.push(format!("{header:?}: not one request"));
        }
    }
    mistakes
}
