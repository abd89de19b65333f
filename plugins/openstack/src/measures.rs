//! The groups of an answer, read one by one.
//!
//! A group is only taken when it is beyond doubt: its scope was asked for, it comes once, its
//! values are finite numbers. One group that is not fails the whole answer.
//!
//! Of several values of one group only the first counts, as in `CloudKitty`: of the longest
//! granularity the earliest. With `force_granularity` equal to the period there is only one.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rated_plugin::access::excerpt;
use rated_plugin::decimal::Precision;
use rated_plugin::{Call, CollectRequest, Decimal, Error, HttpResponse, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::answer;
use crate::query::Grouping;

/// Most groups in one answer; a slice that has more is asked for in parts. Tests reach it.
pub(crate) const GROUPS_MAX: usize = if cfg!(test) { 1000 } else { 1_000_000 };
/// Groups between two looks at whether the call is cancelled.
const GROUPS_PER_CHECK: usize = 4096;

/// What was measured in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// In the order of [`Grouping::attributes`].
    pub(crate) group: Vec<Box<str>>,
    /// The value that counts.
    pub(crate) first: Decimal,
    /// How many values there are, at least 1.
    pub(crate) count: usize,
}

/// The groups that have values.
pub(crate) fn read(
    call: &Call,
    request: &CollectRequest,
    grouping: &Grouping,
    response: &HttpResponse,
) -> Result<Vec<Measured>> {
    let mut groups = Groups {
        call,
        grouping,
        // Metadata are those of one resource.
        needs_key: !request.metric.metadata.is_empty(),
        scopes: request.scopes.iter().map(String::as_str).collect(),
        hashers: [RandomState::new(), RandomState::new()],
        seen: HashSet::new(),
        taken: Vec::new(),
        error: None,
    };
    let mut json = serde_json::Deserializer::from_str(answer::text(response)?);
    let parsed = json.deserialize_seq(&mut groups).and_then(|()| json.end());
    match (groups.error, parsed) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(answer::unreadable(&error)),
        (None, Ok(())) => Ok(groups.taken),
    }
}

/// An attribute as `CloudKitty`'s rules compare it: as Python writes it.
///
/// An object or a list is none.
pub(crate) fn attribute_text(value: &Value) -> Option<Box<str>> {
    Some(match value {
        Value::String(text) => text.as_str().into(),
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string().into(),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

struct Groups<'a> {
    call: &'a Call,
    grouping: &'a Grouping,
    needs_key: bool,
    /// Empty = every scope.
    scopes: HashSet<&'a str>,
    hashers: [RandomState; 2],
    seen: HashSet<u128>,
    taken: Vec<Measured>,
    error: Option<Error>,
}

/// One element of the answer.
#[derive(Deserialize)]
struct Group {
    group: Map<String, Value>,
    measures: Measures,
}

#[derive(Deserialize)]
struct Measures {
    measures: Aggregated,
}

#[derive(Deserialize)]
struct Aggregated {
    aggregated: Option<Vec<(IgnoredAny, IgnoredAny, Value)>>,
}

impl Groups<'_> {
    fn take(&mut self, group: &Group) -> Result<()> {
        if self.seen.len() == GROUPS_MAX {
            return Err(Error::split(format!("must have at most {GROUPS_MAX} groups at once")));
        }
        if self.seen.len().is_multiple_of(GROUPS_PER_CHECK) {
            self.call.check_cancelled()?;
        }
        let bad = |what: &str| {
            let group = excerpt(&Value::Object(group.group.clone()).to_string());
            Error::bad_data(format!("group `{group}`: {what}"))
        };
        let mut texts = Vec::with_capacity(self.grouping.attributes.len());
        for name in &self.grouping.attributes {
            let value = group.group.get(name).ok_or_else(|| bad(&format!("no `{name}`")))?;
            let text = attribute_text(value);
            texts.push(text.ok_or_else(|| bad(&format!("`{name}` is not one value")))?);
        }
        let key = &self.grouping.attributes[self.grouping.key];
        if self.needs_key && group.group.get(key).is_some_and(Value::is_null) {
            return Err(bad(&format!(
                "no resource has `{key}` = null (hint: `resource_key` must tell them apart)"
            )));
        }
        let scope = group.group.get(&self.grouping.attributes[0]).and_then(Value::as_str);
        let is_wanted = match scope {
            // What belongs to nobody was not asked for.
            None | Some("") if self.scopes.is_empty() => false,
            Some(_) if self.scopes.is_empty() => true,
            Some(scope) if self.scopes.contains(scope) => true,
            _ => return Err(bad("a scope that was not asked for")),
        };
        if !self.seen.insert(self.fingerprint(group)) {
            return Err(bad("came twice"));
        }
        let values = group.measures.measures.aggregated.as_ref().ok_or_else(|| {
            bad("no aggregate (hint: `custom_query` must aggregate, as in `(aggregate max …)`)")
        })?;
        // All of them, because one that is none puts the others in doubt.
        let numbers = values.iter().map(|(_, _, value)| match value {
            Value::Number(number) => Precision::ALL
                .quantity(&number.to_string())
                .map_err(|error| bad(&format!("`{number}` is {error}"))),
            other => Err(bad(&format!("`{}` is not a number", excerpt(&other.to_string())))),
        });
        let numbers = numbers.collect::<Result<Vec<Decimal>>>()?;
        if let Some(first) = numbers.first().copied().filter(|_| is_wanted) {
            self.taken.push(Measured { group: texts, first, count: numbers.len() });
        }
        Ok(())
    }

    /// 128 bits from two keyed hashes stand for the whole group: two different ones collide less
    /// often than memory fails, and then the answer is refused, not billed wrongly. Of the values
    /// themselves, because `null` and `"None"` are two groups.
    fn fingerprint(&self, group: &Group) -> u128 {
        let values: Vec<Option<&Value>> =
            self.grouping.attributes.iter().map(|name| group.group.get(name)).collect();
        let [first, second] = &self.hashers;
        u128::from(first.hash_one(&values)) << 64 | u128::from(second.hash_one(&values))
    }
}

impl<'de> Visitor<'de> for &mut Groups<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of groups")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(group) = list.next_element::<Group>()? {
            if let Err(error) = self.take(&group) {
                self.error = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
