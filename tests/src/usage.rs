//! Usage of a known size whose every value can be worked out again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use crate::{Exact, now};

/// Hourly usage of many scopes:
/// `metric_<m>{project_id="scope-<s>", id="r-<s>-<r>", flavor="f<0..8>", zone="z<0..3>"}`.
///
/// Every resource has two samples in each hour, the larger of which is the hour's quantity; each
/// seventh hour of each fifth scope has none.
#[derive(Debug, Clone, Copy)]
pub struct DataSet {
    pub metrics: usize,
    pub scopes: usize,
    pub resources: usize,
    pub hours: usize,
    /// The begin of the first hour.
    pub begin: DateTime<Utc>,
}

/// One resource of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub metric: usize,
    pub scope: usize,
    pub resource: usize,
    pub hour: usize,
}

impl DataSet {
    /// The last hour ends four hours before this one, so that every period is due at once.
    pub fn ending_lately(metrics: usize, scopes: usize, resources: usize, hours: usize) -> DataSet {
        let this_hour = now()
            .with_minute(0)
            .and_then(|time| time.with_second(0))
            .and_then(|time| time.with_nanosecond(0))
            .expect("every hour has a begin");
        let back = i64::try_from(hours + 4).expect("a small number");
        DataSet { metrics, scopes, resources, hours, begin: this_hour - TimeDelta::hours(back) }
    }

    pub fn end(&self) -> DateTime<Utc> {
        self.hour(self.hours)
    }

    pub fn hour(&self, hour: usize) -> DateTime<Utc> {
        self.begin + TimeDelta::hours(i64::try_from(hour).expect("a small number"))
    }

    pub fn metric_name(metric: usize) -> String {
        format!("metric_{metric}")
    }

    pub fn scope_id(scope: usize) -> String {
        format!("scope-{scope:03}")
    }

    pub fn flavor(point: Point) -> usize {
        (point.scope * 3 + point.resource) % 8
    }

    pub fn zone(point: Point) -> usize {
        (point.scope + point.resource * 5) % 3
    }

    /// All points that have a quantity.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let DataSet { metrics, scopes, resources, hours, .. } = *self;
        let all = metrics * scopes * resources * hours;
        (0..all)
            .map(move |index| Point {
                hour: index % hours,
                resource: index / hours % resources,
                scope: index / hours / resources % scopes,
                metric: index / hours / resources / scopes,
            })
            .filter(|point| !is_gap(*point))
    }

    /// The hour's two samples, the larger of which is its quantity.
    pub fn sample_texts(point: Point) -> [String; 2] {
        samples(point).map(ten_thousandths)
    }

    /// The hour's quantity as a decimal text: at most 999.9999, some of them zero.
    pub fn quantity(point: Point) -> String {
        let [low, high] = samples(point);
        ten_thousandths(low.max(high))
    }

    /// The history in the `OpenMetrics` text format.
    pub fn open_metrics(&self) -> String {
        let mut families: BTreeMap<usize, String> = BTreeMap::new();
        for point in self.points() {
            let text = families.entry(point.metric).or_insert_with(|| {
                format!("# TYPE {} gauge\n", DataSet::metric_name(point.metric))
            });
            let begin = self.hour(point.hour).timestamp();
            for (sample, minute) in DataSet::sample_texts(point).into_iter().zip([13, 47]) {
                writeln!(
                    text,
                    "{}{{project_id=\"{}\",id=\"r-{}-{}\",flavor=\"f{}\",zone=\"z{}\"}} {} {}",
                    DataSet::metric_name(point.metric),
                    DataSet::scope_id(point.scope),
                    point.scope,
                    point.resource,
                    DataSet::flavor(point),
                    DataSet::zone(point),
                    sample,
                    begin + minute * 60,
                )
                .expect("writing to a string");
            }
        }
        families.into_values().collect::<String>() + "# EOF\n"
    }

    /// The definitions for `metrics.toml`.
    pub fn metrics_toml(&self) -> String {
        let definition = |metric| {
            format!(
                "[[metric]]\nname = \"{}\"\nunit = \"unit\"\ngroupby = [\"id\"]\n\
                 metadata = [\"flavor\", \"zone\"]\n\
                 [metric.extra_args]\naggregation_method = \"max\"\n",
                DataSet::metric_name(metric)
            )
        };
        (0..self.metrics).map(definition).collect::<Vec<_>>().join("\n")
    }

    /// What all quantities of some points add up to.
    pub fn total_quantity(points: impl Iterator<Item = Point>) -> Exact {
        points.map(|point| Exact::parse(&DataSet::quantity(point))).sum()
    }
}

fn is_gap(point: Point) -> bool {
    point.scope % 5 == 4 && point.hour % 7 == 6
}

/// Two numbers below 10^7 that look random and depend on nothing but the point.
fn samples(point: Point) -> [u64; 2] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for part in [point.metric, point.scope, point.resource, point.hour] {
        state = (state ^ part as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 29;
    }
    if state.is_multiple_of(23) {
        return [0, 0];
    }
    [(state >> 8) % 10_000_000, (state >> 32) % 10_000_000]
}

fn ten_thousandths(number: u64) -> String {
    format!("{}.{:04}", number / 10_000, number % 10_000)
}
