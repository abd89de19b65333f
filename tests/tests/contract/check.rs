//! One section replayed against one daemon.

use rated_tests::Daemon;
use serde_json::Value;

use crate::callers::Callers;
use crate::expected::Order;
use crate::markup;
use crate::notes::{Difference, Differences, Step, Unshown};
use crate::placeholders::{Known, is_uuid};
use crate::record::{Answer, Body, Example, Section, TOKEN, body_of};
use crate::wire::{Received, ask};

/// What came out of a section.
#[derive(Debug, Default)]
pub struct Outcome {
    pub as_recorded: usize,
    /// Refused where the recorded server broke.
    pub refused: usize,
    pub by_the_table: usize,
    pub failures: Vec<String>,
}

#[derive(Debug)]
pub struct Replay<'a> {
    daemon: &'a Daemon,
    address: String,
    section: &'a Section,
    known: Known,
    callers: Option<&'a Callers>,
}

impl<'a> Replay<'a> {
    pub fn new(
        daemon: &'a Daemon,
        section: &'a Section,
        callers: Option<&'a Callers>,
    ) -> Replay<'a> {
        let address = daemon.url.trim_start_matches("http://").to_owned();
        Replay { daemon, address, section, known: Known::starting_now(), callers }
    }

    pub fn run(mut self, unshown: &Unshown, differences: &Differences) -> Outcome {
        let number = self.section.number;
        let mut outcome = Outcome::default();
        let steps: Vec<&Step> =
            unshown.step.iter().filter(|step| step.sections.contains(&number)).collect();
        for step in steps.iter().filter(|step| step.before.is_none()) {
            outcome.failures.extend(self.prepare(step).err());
        }
        for (index, example) in self.section.examples.iter().enumerate() {
            for step in steps.iter().filter(|step| step.is_before(example)) {
                outcome.failures.extend(self.prepare(step).err());
            }
            let mut example = example.clone();
            for header in &unshown.header {
                if header.section == number && header.title == example.title {
                    example.headers.retain(|(name, _)| *name != header.name);
                    example.headers.push((header.name.clone(), header.value.clone()));
                }
            }
            let mut differences = differences.difference.iter();
            let difference = differences.find(|entry| entry.is_for(self.section, index));
            if let Err(failure) = self.replay(&example, difference, &mut outcome) {
                let Example { line, title, body, .. } = &example;
                let request = example.request();
                outcome.failures.push(format!(
                    "{number}, line {line}: {title}\n  {request} {body}\n  {failure}"
                ));
            }
        }
        outcome
    }

    fn prepare(&mut self, step: &Step) -> Result<(), String> {
        let failure = |error: String| format!("{}: {} {error}", self.section.number, step.request);
        let request = self.known.fill(&step.request).map_err(failure)?;
        let body = self.known.fill(&step.body).map_err(failure)?;
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        let admin = self.callers.map(|callers| (TOKEN.to_owned(), callers.token("admin")));
        headers.extend(admin);
        let body = self.callers.map_or(body.clone(), |callers| callers.translate(&body));
        let received = ask(&self.address, &request, &headers, &body).map_err(failure)?;
        if received.status >= 400 {
            return Err(failure(format!("{}: {}", received.status, received.body)));
        }
        for (name, key) in &step.names {
            let answer: Value = serde_json::from_str(&received.body).unwrap_or_default();
            let value = answer[key].as_str().unwrap_or_default();
            self.known.names.insert(name.clone(), value.to_owned());
        }
        Ok(())
    }

    fn replay(
        &mut self,
        example: &Example,
        difference: Option<&Difference>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let request = self.known.fill(&example.request())?;
        let is_xml =
            |(name, value): &(String, String)| name == "Content-Type" && value.contains("xml");
        // `<name>` is a tag there.
        let body = if example.headers.iter().any(is_xml) {
            example.body.clone()
        } else {
            self.known.fill(&example.body)?
        };
        let mut headers = example.headers.clone();
        headers.retain(|(_, value)| value != "None");
        for (name, value) in &mut headers {
            if let Some(callers) = self.callers.filter(|_| name == TOKEN) {
                *value = callers.token(value);
            }
        }
        let received = ask(&self.address, &request, &headers, &body)
            .map_err(|error| format!("{error}\n{}", self.daemon.process.output()))?;
        let has_id = received
            .header("x-openstack-request-id")
            .is_some_and(|id| id.strip_prefix("req-").is_some_and(is_uuid));
        if !has_id && example.target != "/healthcheck" {
            return Err("no request id".to_owned());
        }

        let mut known = self.known.clone();
        let recorded = self.is_as_recorded(example, &received, &mut known);
        match (difference, recorded) {
            (Some(difference), Err(_)) => {
                self.is_by_the_table(example, difference, &received)?;
                outcome.by_the_table += 1;
            }
            (Some(_), Ok(())) => return Err("stands in the table and is as recorded".to_owned()),
            (None, _) if example.status == 500 => {
                is_refusal(example, &received, 400)?;
                outcome.refused += 1;
            }
            (None, recorded) => {
                recorded?;
                self.known = known;
                outcome.as_recorded += 1;
            }
        }
        Ok(())
    }

    fn is_as_recorded(
        &self,
        example: &Example,
        received: &Received,
        known: &mut Known,
    ) -> Result<(), String> {
        if received.status != example.status {
            let Received { status, body, .. } = received;
            return Err(format!("{status} instead of {}: {body}", example.status));
        }
        self.compare(example, &example.answer, received, known)
    }

    fn is_by_the_table(
        &mut self,
        example: &Example,
        difference: &Difference,
        received: &Received,
    ) -> Result<(), String> {
        let status = difference.status.unwrap_or(example.status);
        if received.status != status {
            let Received { status: found, body, .. } = received;
            return Err(format!("{found} instead of the table's {status}: {body}"));
        }
        let mut answer = Answer::default();
        if let Some(location) = &difference.location {
            answer.headers.push(("Location".to_owned(), location.clone()));
        }
        if let Some(text) = &difference.answer {
            answer.body = if text.is_empty() { Body::Empty } else { body_of(text) };
        } else if status >= 400 {
            is_refusal(example, received, status)?;
        }
        let mut known = self.known.clone();
        self.compare(example, &answer, received, &mut known)?;
        self.known = known;
        Ok(())
    }

    fn compare(
        &self,
        example: &Example,
        answer: &Answer,
        received: &Received,
        known: &mut Known,
    ) -> Result<(), String> {
        for (name, value) in &answer.headers {
            let found = received.header(name).ok_or_else(|| format!("no header {name}"))?;
            let expected = value.replace("http://HOST", &self.daemon.url);
            let is_same = match name.as_str() {
                "Allow" => words(found) == words(&expected),
                _ => known.compare(&expected, found, false).is_ok(),
            };
            if !is_same {
                return Err(format!("{name}: {found} instead of {expected}"));
            }
        }
        let error = match self.compare_body(example, &answer.body, &received.body, known) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        Err(format!("{error}\n  body: {}", received.body))
    }

    fn compare_body(
        &self,
        example: &Example,
        expected: &Body,
        found: &str,
        known: &mut Known,
    ) -> Result<(), String> {
        let same = |is_same: bool| if is_same { Ok(()) } else { Err("differs".to_owned()) };
        match expected {
            Body::Unknown => Ok(()),
            Body::Empty => same(found.is_empty()),
            Body::Html(text) => {
                let text = markup::squeeze(text);
                same(markup::text_of(found).contains(text.trim_end_matches(" [...]")))
            }
            Body::Xml(text) => same(markup::is_same_xml(text, found)),
            Body::Text(text) => same(markup::squeeze(text) == markup::squeeze(found)),
            Body::Identifiers(name, identifiers) => {
                let found: Value = serde_json::from_str(found).map_err(|e| e.to_string())?;
                compare_identifiers(identifiers, &found[name], known)
            }
            Body::Json(expected) => {
                let found = found.replace(&self.daemon.url, "http://HOST");
                let found = serde_json::from_str(&found).map_err(|error| error.to_string())?;
                let expected = match self.section.number {
                    IN_ANOTHER_ZONE => &expected.in_utc(),
                    _ => expected,
                };
                expected.compare(&found, order_of(example), known)
            }
        }
    }
}

/// The section that was recorded from a server in Paris.
const IN_ANOTHER_ZONE: u32 = 22;

/// What was recorded of usage and prices is sorted; the order of everything else was arbitrary.
fn order_of(example: &Example) -> Order {
    let sorted = ["/v2", "/v1/report", "/v1/storage"];
    let is_sorted = sorted.iter().any(|path| example.target.starts_with(path));
    if is_sorted { Order::Same } else { Order::Any }
}

fn compare_identifiers(
    identifiers: &[String],
    found: &Value,
    known: &mut Known,
) -> Result<(), String> {
    let found = found.as_array().ok_or("no list of that name")?;
    let mut left: Vec<&str> =
        found.iter().filter_map(|object| object.as_object()?.values().next()?.as_str()).collect();
    if left.len() != identifiers.len() {
        return Err(format!("{} objects instead of {}", left.len(), identifiers.len()));
    }
    // What has a name first: `<uuid>` fits everything.
    let (unnamed, named): (Vec<_>, Vec<_>) = identifiers.iter().partition(|one| *one == "<uuid>");
    for identifier in named.into_iter().chain(unnamed) {
        let place = left.iter().position(|id| known.compare(identifier, id, false).is_ok());
        left.remove(place.ok_or_else(|| format!("no {identifier}"))?);
    }
    Ok(())
}

/// An error in the form of its API, with a text.
fn is_refusal(example: &Example, received: &Received, status: u16) -> Result<(), String> {
    let Received { status: found, body, .. } = received;
    if *found != status {
        return Err(format!("{found} instead of {status}: {body}"));
    }
    let json: Value = serde_json::from_str(body).map_err(|_| format!("no JSON: {body}"))?;
    let text = match example.target.starts_with("/v1") {
        true if json["faultcode"] != "Client" => return Err(format!("no faultcode: {body}")),
        true => &json["faultstring"],
        false => &json["message"],
    };
    match text.as_str() {
        Some(text) if !text.is_empty() => Ok(()),
        _ => Err(format!("no text: {body}")),
    }
}

fn words(list: &str) -> Vec<&str> {
    let mut words: Vec<&str> = list.split(',').map(str::trim).collect();
    words.sort_unstable();
    words
}
