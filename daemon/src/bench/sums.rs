//! What all points add up to, by group: integers, added one by one.

use chrono::{DateTime, SecondsFormat, Utc};

use super::cloud::{Cloud, Hour, Point};
use super::texts::Attribute;

/// Most groups, those without a point included; each takes 48 bytes.
const GROUPS_MAX: u64 = 1 << 24;

/// Points whose hour begins in a range, those with certain values, by groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotalsQuery {
    /// `time`, `project_id`, `type`, or an attribute other than `id`.
    pub group_by: Vec<String>,
    /// Names and values; all must match.
    pub filters: Vec<(String, String)>,
    pub begin: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TotalsError {
    #[error("there is no `{0}` to group or filter by")]
    Name(String),
    #[error("`{name}` is never `{value}`")]
    Value { name: String, value: String },
    #[error("{found} groups: must be at most {GROUPS_MAX}")]
    Groups { found: u64 },
}

/// Of a group: thousandths, billionths, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    pub qty: u128,
    pub price: u128,
    pub rows: u64,
}

/// The groups of a query.
#[derive(Debug)]
pub struct Totals<'a> {
    cloud: &'a Cloud,
    keys: Vec<Key>,
    /// At the place that the keys' numbers make.
    sums: Vec<Sums>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Time,
    Scope,
    Type,
    Attribute(Attribute),
}

impl Key {
    fn named(name: &str) -> Result<Key, TotalsError> {
        match name {
            "time" => Ok(Key::Time),
            Cloud::SCOPE_KEY => Ok(Key::Scope),
            "type" => Ok(Key::Type),
            _ => Attribute::named(name)
                .map(Key::Attribute)
                .ok_or_else(|| TotalsError::Name(name.to_owned())),
        }
    }

    fn count(self, cloud: &Cloud) -> u32 {
        match self {
            Key::Time => cloud.size().hours,
            Key::Scope => cloud.size().scopes,
            Key::Type => cloud.size().metrics,
            Key::Attribute(attribute) => attribute.count(),
        }
    }

    fn of(self, hour: Hour, point: &Point) -> u32 {
        match self {
            Key::Time => hour.hour,
            Key::Scope => point.scope,
            Key::Type => hour.metric,
            Key::Attribute(attribute) => attribute.of(point),
        }
    }

    fn text(self, cloud: &Cloud, value: u32) -> String {
        match self {
            Key::Time => cloud.period(value).begin().to_rfc3339_opts(SecondsFormat::Secs, true),
            Key::Scope => cloud.scopes()[value as usize].to_string(),
            Key::Type => Cloud::metric(value).alt_name,
            Key::Attribute(attribute) => attribute.text(value),
        }
    }
}

/// Adds up every point that the query takes.
pub fn totals<'a>(cloud: &'a Cloud, query: &TotalsQuery) -> Result<Totals<'a>, TotalsError> {
    let keys: Vec<Key> =
        query.group_by.iter().map(|name| Key::named(name)).collect::<Result<_, _>>()?;
    let filters = query.filters.iter().map(|(name, value)| {
        let key = Key::named(name)?;
        let number = (0..key.count(cloud)).find(|number| key.text(cloud, *number) == *value);
        let unknown = || TotalsError::Value { name: name.clone(), value: value.clone() };
        Ok((key, number.ok_or_else(unknown)?))
    });
    let filters: Vec<(Key, u32)> = filters.collect::<Result<_, _>>()?;
    let found = keys.iter().map(|key| u64::from(key.count(cloud)));
    let found = found.fold(1, u64::saturating_mul);
    if found > GROUPS_MAX {
        return Err(TotalsError::Groups { found });
    }
    let count = usize::try_from(found).expect("groups are limited");
    let mut totals = Totals { cloud, keys, sums: vec![Sums::default(); count] };
    let is_taken = |hour: &Hour| {
        let begin = cloud.period(hour.hour).begin();
        query.begin.is_none_or(|from| from <= begin) && query.end.is_none_or(|to| begin < to)
    };
    for hour in cloud.hours().filter(is_taken) {
        for row in cloud.rows(0..cloud.size().scopes) {
            let point = cloud.point(hour, row);
            if filters.iter().all(|(key, number)| key.of(hour, &point) == *number) {
                totals.add(hour, &point);
            }
        }
    }
    Ok(totals)
}

impl Totals<'_> {
    fn add(&mut self, hour: Hour, point: &Point) {
        let place = self.keys.iter().fold(0, |place, key| {
            place * key.count(self.cloud) as usize + key.of(hour, point) as usize
        });
        let sums = &mut self.sums[place];
        sums.qty += u128::from(point.qty);
        sums.price += u128::from(point.price);
        sums.rows += 1;
    }

    /// Those with a point: the keys' values in the order of the query, and the sums.
    pub fn groups(&self) -> impl Iterator<Item = (Vec<String>, Sums)> {
        let with_points = self.sums.iter().enumerate().filter(|(_, sums)| sums.rows > 0);
        with_points.map(|(place, sums)| {
            let mut rest = place;
            let value = |key: &Key| {
                let count = key.count(self.cloud) as usize;
                let value = u32::try_from(rest % count).expect("below a count of 32 bits");
                rest /= count;
                key.text(self.cloud, value)
            };
            let mut values: Vec<String> = self.keys.iter().rev().map(value).collect();
            values.reverse();
            (values, *sums)
        })
    }
}
