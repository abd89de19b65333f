use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;

/// What identifies a metric's definition: no two definitions have both in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricId {
    /// As the source calls it.
    pub name: String,
    /// The metric's *type*, as frames, reports and hashmap services call it.
    pub alt_name: String,
}

impl fmt::Display for MetricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == self.alt_name {
            f.write_str(&self.name)
        } else {
            write!(f, "{} ({})", self.alt_name, self.name)
        }
    }
}

/// What is measured and how it becomes a quantity; one `[[metric]]` of `metrics.toml`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub id: MetricId,
    /// A label for people.
    pub unit: String,
    pub description: Option<String>,
    /// Attributes, without the scope key. None stands in both lists.
    pub groupby: Vec<String>,
    pub metadata: Vec<String>,
    pub factor: Factor,
    pub offset: Decimal,
    pub mutate: Mutation,
    /// Which collector; `None` = the daemon's.
    pub collector: Option<String>,
    /// Leave out rows whose quantity is zero after conversion.
    pub skip_zero: bool,
    /// The collector's own arguments.
    pub extra_args: serde_json::Map<String, serde_json::Value>,
}

/// An exact fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    pub numerator: Decimal,
    /// Not zero.
    pub denominator: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// 0 stays 0, all else becomes 1.
    NumBool,
    /// 0 becomes 1, all else 0.
    NotNumBool,
    Floor,
    Ceil,
    /// Compared as numbers; missing becomes 0.
    Map(BTreeMap<Decimal, Decimal>),
}
