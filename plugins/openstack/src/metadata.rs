//! The metadata of resources that have measures in a period.
//!
//! They are searched by their keys, a few hundred at a time, in pages. As in `CloudKitty` the
//! values are those that the resource has now, unless the metric asks for those at the end of the
//! period; and a measure whose resource ended more than one period before, or began more than one
//! after, is left out. (A metric without metadata is not looked up, and keeps such measures, there
//! and here.)
//!
//! A resource that is not found was deleted between two questions, or had another key by then. Its
//! history is asked next; if that is gone as well, the slice fails and is collected again: the
//! measures will then be gone too. (`CloudKitty` leaves such a measure out.)

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rated_plugin::access::{excerpt, form};
use rated_plugin::{Call, CollectRequest, Error, HttpResponse, Result};
use serde_json::{Map, Value, json};

use crate::answer;
use crate::arguments::{Arguments, MetadataRevision};
use crate::client::Gnocchi;
use crate::measures::attribute_text;
use crate::query::one_of;

/// Resources in one question.
const KEYS_MAX: usize = 500;
/// Resources that are asked for in one page; a server may give fewer.
const PAGE_SIZE: &str = "1000";
/// Most pages for one question.
const PAGES_MAX: usize = 10_000;

/// The metadata of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    /// In the order of the metric's definition.
    pub(crate) metadata: Vec<Box<str>>,
    /// It existed within a period of the one that is collected.
    pub(crate) is_near: bool,
}

/// Looks resources up for one request.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) gnocchi: &'a Gnocchi,
    pub(crate) call: &'a Call,
    pub(crate) request: &'a CollectRequest,
    pub(crate) arguments: &'a Arguments,
}

/// Which revisions are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revisions {
    Latest,
    /// All that began before the end of the period; the last one counts.
    History,
}

impl Lookup<'_> {
    /// The resources with these keys, all of them.
    pub(crate) fn resources(&self, keys: &[Box<str>]) -> Result<HashMap<Box<str>, Resource>> {
        let mut found = HashMap::with_capacity(keys.len());
        let first = match self.arguments.metadata_revision {
            MetadataRevision::Latest => Revisions::Latest,
            MetadataRevision::Period => Revisions::History,
        };
        for keys in keys.chunks(KEYS_MAX) {
            self.search(keys, first, &mut found)?;
        }
        let missing = |found: &HashMap<Box<str>, Resource>| -> Vec<Box<str>> {
            keys.iter().filter(|key| !found.contains_key(*key)).cloned().collect()
        };
        if first == Revisions::Latest {
            for keys in missing(&found).chunks(KEYS_MAX) {
                self.search(keys, Revisions::History, &mut found)?;
            }
        }
        match missing(&found).first() {
            None => Ok(found),
            Some(key) => Err(Error::unavailable(format!(
                "there are measures of the resource with `{}` = `{}`, but no such resource: it \
                 was deleted meanwhile",
                self.arguments.resource_key,
                excerpt(key)
            ))),
        }
    }

    fn search(
        &self,
        keys: &[Box<str>],
        revisions: Revisions,
        found: &mut HashMap<Box<str>, Resource>,
    ) -> Result<()> {
        let body = self.question(keys, revisions);
        let mut marker = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("{}{marker}", self.path(revisions));
            let response = self.gnocchi.post(self.call, &path, &body)?;
            let page: Vec<Map<String, Value>> =
                answer::json(&response).map_err(|error| self.placed(error))?;
            for resource in &page {
                let (key, resource) = self.read(resource)?;
                found.insert(key, resource);
            }
            match next_marker(&response) {
                Some(next) if !page.is_empty() && next != marker => marker = next,
                Some(_) => {
                    return Err(Error::unavailable("a page of resources leads nowhere"));
                }
                None => return Ok(()),
            }
        }
        Err(Error::bad_data(format!("must have at most {PAGES_MAX} pages of resources")))
    }

    fn path(&self, revisions: Revisions) -> String {
        let mut fields = vec![("limit", PAGE_SIZE)];
        match revisions {
            // Later ones win, if several resources share a key.
            Revisions::Latest => fields.push(("sort", "started_at:asc")),
            Revisions::History => {
                fields.extend([("history", "true"), ("sort", "revision_start:asc")]);
            }
        }
        // The list of a resource's metrics is much longer than what is needed.
        let own = ["id", "started_at", "ended_at", self.arguments.resource_key.as_str()];
        let metadata = self.request.metric.metadata.iter().map(String::as_str);
        fields.extend(own.into_iter().chain(metadata).map(|name| ("attrs", name)));
        format!("/v1/search/resource/{}?{}", self.arguments.resource_type, form(&fields))
    }

    fn question(&self, keys: &[Box<str>], revisions: Revisions) -> Value {
        let with_keys = one_of(&self.arguments.resource_key, keys);
        match revisions {
            Revisions::Latest => with_keys,
            Revisions::History => {
                let end = self.request.end.to_rfc3339();
                json!({"and": [with_keys, {"<": {"revision_start": end}}]})
            }
        }
    }

    fn read(&self, resource: &Map<String, Value>) -> Result<(Box<str>, Resource)> {
        let key = &self.arguments.resource_key;
        let bad = |what: String| {
            let id = resource.get("id").and_then(Value::as_str).unwrap_or("?");
            Error::bad_data(format!("resource `{}`: {what}", excerpt(id)))
        };
        let text = |name: &str, value: &Value| {
            attribute_text(value).ok_or_else(|| bad(format!("`{name}` is not one value")))
        };
        let value = resource.get(key).ok_or_else(|| bad(format!("no `{key}`")))?;
        let metadata = self.request.metric.metadata.iter().map(|name| match resource.get(name) {
            // As in CloudKitty: what the type does not have is the empty text.
            None => Ok(Box::from("")),
            Some(value) => text(name, value),
        });
        let metadata = metadata.collect::<Result<_>>()?;
        let time = |name: &str| match resource.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                let time = DateTime::parse_from_rfc3339(text);
                time.map(|time| Some(time.to_utc()))
                    .map_err(|_| bad(format!("`{name}`: `{}` is not a time", excerpt(text))))
            }
            Some(_) => Err(bad(format!("`{name}` is not a time"))),
        };
        let is_near = self.is_near(time("started_at")?, time("ended_at")?);
        Ok((text(key, value)?, Resource { metadata, is_near }))
    }

    fn is_near(&self, started: Option<DateTime<Utc>>, ended: Option<DateTime<Utc>>) -> bool {
        let period = self.request.end - self.request.begin;
        ended.is_none_or(|ended| ended >= self.request.begin - period)
            && started.is_none_or(|started| started <= self.request.end + period)
    }

    fn placed(&self, mut error: Error) -> Error {
        let resource_type = &self.arguments.resource_type;
        error.message = format!("resources of type `{resource_type}`: {}", error.message);
        self.gnocchi.placed(error)
    }
}

/// `&marker=…` of the next page, if there is one: `<http://…?…&marker=…>; rel="next"`.
///
/// Of the address nothing else is used: it may be one that only the inside of a cloud knows.
fn next_marker(response: &HttpResponse) -> Option<String> {
    let links = response.headers.get("link")?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once("marker=")?;
    let is_encoded =
        |character: char| character.is_ascii_alphanumeric() || "%-._~".contains(character);
    let marker: String = rest.chars().take_while(|character| is_encoded(*character)).collect();
    Some(format!("&marker={marker}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_marker_is_all_that_is_used_of_a_link() {
        let marker = |link: &str| {
            let headers = BTreeMap::from([("link".to_owned(), link.to_owned())]);
            next_marker(&HttpResponse { status: 200, headers, body: Vec::new() })
        };
        let link = "<http://inside:8041/v1/search/resource/instance?limit=7&marker=6c-9f%40-1\
                    &sort=started_at%3Aasc>; rel=\"next\"";

        assert_eq!(marker(link).as_deref(), Some("&marker=6c-9f%40-1"));
        assert_eq!(marker("<http://x?marker=a>; rel=\"prev\""), None);
        let bare = HttpResponse { status: 200, headers: BTreeMap::new(), body: Vec::new() };
        assert_eq!(next_marker(&bare), None);
    }
}
