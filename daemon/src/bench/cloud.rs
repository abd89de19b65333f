//! Who used what in which hour, from a seed.

use std::ops::Range;

use chrono::{DateTime, Utc};

use super::prices;
use super::texts::Texts;
use crate::usage::{MetricId, Period, ScopeId};

const HOUR_SECS: i64 = 3600;

/// Most points of an hour and metric: they are one batch.
const SLICE_ROWS_MAX: u64 = 1 << 24;
/// Most hours: a thousand years.
const HOURS_MAX: u32 = 24 * 366 * 1000;
const METRICS_MAX: u32 = 1000;

pub(super) const REGIONS: u32 = 3;
pub(super) const FLAVORS: u32 = 20;
pub(super) const HOSTS: u32 = 64;
pub(super) const STATES: [&str; 2] = ["active", "paused"];

/// Keep ids and attributes apart from each other, and from zero.
const SCOPE_SALT: u64 = 0x7363_6F70_6500_0000;
const RESOURCE_SALT: u64 = 0x7265_736F_0000_0000;

/// One in so many resources changes its flavor, once in a week.
const RESIZED_ONE_IN: u64 = 16;
const RESIZED_EVERY_HOURS: u64 = 7 * 24;
/// One in so many moves to another host, once a day.
const MOVED_ONE_IN: u64 = 8;
const MOVED_EVERY_HOURS: u64 = 24;
/// One in so many is paused for a third of each day.
const PAUSED_ONE_IN: u64 = 16;
/// One in so many uses another quantity in each hour, by at most so many thousandths more or less.
const UNSTEADY_ONE_IN: u64 = 2;
const UNSTEADY_BY: u32 = 200;

/// How large the data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub scopes: u32,
    /// Points of a scope in an hour, over all metrics; a multiple of their number.
    pub resources: u32,
    pub metrics: u32,
    pub hours: u32,
    /// Begin of the first hour, a whole one.
    pub start: DateTime<Utc>,
    pub seed: u64,
}

impl Size {
    /// Of one metric and hour.
    pub(super) fn rows_per_scope(self) -> u32 {
        self.resources / self.metrics
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("there must be at least one scope, metric, resource and hour")]
    Nothing,
    #[error("{resources} resources of {metrics} metrics: must be so many times the metrics")]
    Uneven { resources: u32, metrics: u32 },
    #[error("{found} points of a metric and hour: must be at most {SLICE_ROWS_MAX}")]
    Rows { found: u64 },
    #[error("{found} metrics: must be at most {METRICS_MAX}")]
    Metrics { found: u32 },
    #[error("{found} hours: must be at most {HOURS_MAX}, and all of them dates")]
    Hours { found: u32 },
    #[error("{0} is no begin of an hour")]
    Start(DateTime<Utc>),
}

/// All that is known of every resource at any hour.
#[derive(Debug, Clone)]
pub struct Cloud {
    size: Size,
    scope_ids: Vec<ScopeId>,
    texts: Texts,
}

/// One hour of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hour {
    pub metric: u32,
    /// Counted from the first one.
    pub hour: u32,
}

/// One resource in one hour. Attributes are indices of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub scope: u32,
    pub region: u32,
    pub flavor: u32,
    pub host: u32,
    pub state: u32,
    /// Thousandths.
    pub qty: u32,
    /// Billionths.
    pub price: u64,
}

impl Point {
    pub const QTY_SCALE: u8 = 3;
    pub const PRICE_SCALE: u8 = 9;
}

impl Cloud {
    /// Of every metric.
    pub const UNIT: &str = "unit";
    /// The attribute that says whose a resource is.
    pub const SCOPE_KEY: &str = "project_id";

    pub fn new(size: Size) -> Result<Cloud, SizeError> {
        let Size { scopes, resources, metrics, hours, start, seed } = size;
        if [scopes, resources, metrics, hours].contains(&0) {
            return Err(SizeError::Nothing);
        }
        if metrics > METRICS_MAX {
            return Err(SizeError::Metrics { found: metrics });
        }
        if !resources.is_multiple_of(metrics) {
            return Err(SizeError::Uneven { resources, metrics });
        }
        let found = u64::from(scopes) * u64::from(resources / metrics);
        if found > SLICE_ROWS_MAX {
            return Err(SizeError::Rows { found });
        }
        let start_secs = start.timestamp();
        if start_secs.rem_euclid(HOUR_SECS) != 0 || start.timestamp_subsec_nanos() != 0 {
            return Err(SizeError::Start(start));
        }
        let end_secs = start_secs + i64::from(hours) * HOUR_SECS;
        if hours > HOURS_MAX || Period::from_secs(start_secs, end_secs).is_none() {
            return Err(SizeError::Hours { found: hours });
        }
        let id = |scope: u32| {
            let bits = mix(SCOPE_SALT ^ seed ^ u64::from(scope));
            let id = format!("{bits:016x}{:016x}", mix(!bits));
            ScopeId::new(&id).expect("32 digits are a scope id")
        };
        let scope_ids: Vec<ScopeId> = (0..scopes).map(id).collect();
        let texts = Texts::new(size, &scope_ids);
        Ok(Cloud { size, scope_ids, texts })
    }

    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    pub fn size(&self) -> Size {
        self.size
    }

    pub fn points(&self) -> u64 {
        let Size { scopes, resources, hours, .. } = self.size;
        u64::from(scopes) * u64::from(resources) * u64::from(hours)
    }

    pub fn metrics(&self) -> Vec<MetricId> {
        (0..self.size.metrics).map(Cloud::metric).collect()
    }

    pub fn metric(metric: u32) -> MetricId {
        MetricId { name: format!("metric_{metric}"), alt_name: format!("type_{metric}") }
    }

    /// In the order of their numbers.
    pub fn scopes(&self) -> &[ScopeId] {
        &self.scope_ids
    }

    pub fn period(&self, hour: u32) -> Period {
        let begin_secs = self.size.start.timestamp() + i64::from(hour) * HOUR_SECS;
        Period::from_secs(begin_secs, begin_secs + HOUR_SECS).expect("checked by Cloud::new")
    }

    /// All of one hour before the next, in it one metric after the other.
    pub fn hours(&self) -> impl Iterator<Item = Hour> {
        let Size { metrics, hours, .. } = self.size;
        (0..hours).flat_map(move |hour| (0..metrics).map(move |metric| Hour { metric, hour }))
    }

    fn rows_per_scope(&self) -> u32 {
        self.size.rows_per_scope()
    }

    pub(super) fn rows_per_slice(&self) -> u32 {
        self.size.scopes * self.rows_per_scope()
    }

    /// Numbers of the rows of some scopes in a slice, scope by scope.
    pub(super) fn rows(&self, scopes: Range<u32>) -> Range<u32> {
        assert!(scopes.end <= self.size.scopes, "scope {} of {}", scopes.end, self.size.scopes);
        scopes.start * self.rows_per_scope()..scopes.end * self.rows_per_scope()
    }

    /// One resource in one hour; `row` as in [`Cloud::rows`].
    pub(super) fn point(&self, Hour { metric, hour }: Hour, row: u32) -> Point {
        let bits = resource_bits(self.size.seed, metric, row);
        let hour = u64::from(hour);
        // What happens from time to time does so to each resource at another hour.
        let phase = bits >> 40;
        let is_one_in = |salt: u64, one_in: u64| mix(bits ^ salt).is_multiple_of(one_in);
        let flavor = if is_one_in(1, RESIZED_ONE_IN) {
            mix(bits ^ ((hour + phase) / RESIZED_EVERY_HOURS))
        } else {
            bits
        };
        let host = if is_one_in(2, MOVED_ONE_IN) {
            mix(!bits ^ ((hour + phase) / MOVED_EVERY_HOURS))
        } else {
            bits >> 8
        };
        let is_paused = is_one_in(3, PAUSED_ONE_IN) && (hour + phase) % 24 < 8;
        let steady = 1_000 + below(bits >> 16, 7_200);
        let qty = if is_one_in(4, UNSTEADY_ONE_IN) {
            steady + below(mix(bits ^ hour << 32), u64::from(2 * UNSTEADY_BY + 1)) - UNSTEADY_BY
        } else {
            steady
        };
        let (region, flavor) =
            (below(bits >> 4, u64::from(REGIONS)), below(flavor, u64::from(FLAVORS)));
        Point {
            scope: row / self.rows_per_scope(),
            region,
            flavor,
            host: below(host, u64::from(HOSTS)),
            state: u32::from(is_paused),
            qty,
            price: prices::price(metric, flavor, region, qty),
        }
    }
}

/// The same for every hour, and for no other resource.
pub(super) fn resource_id(seed: u64, metric: u32, row: u32) -> String {
    let bits = resource_bits(seed, metric, row);
    let (high, low) = (bits >> 32, bits & 0xFFFF_FFFF);
    format!("{high:08x}-{:04x}-4{metric:03x}-8000-{row:06x}{:06x}", low >> 16, low & 0xFF_FFFF)
}

fn resource_bits(seed: u64, metric: u32, row: u32) -> u64 {
    mix(RESOURCE_SALT ^ seed ^ u64::from(metric) << 40 ^ u64::from(row) << 1)
}

/// A number that looks random and is always the same.
pub(super) fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// A number below `bound` from the middle bits of a random one.
fn below(bits: u64, bound: u64) -> u32 {
    u32::try_from(((bits >> 8 & 0xFF_FFFF) * bound) >> 24).expect("bounds are small")
}
