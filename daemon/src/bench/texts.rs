//! What the numbers of a point stand for.

use arrow_array::StringArray;
use rated_plugin::{GROUPBY_PREFIX, METADATA_PREFIX};

use super::cloud::{FLAVORS, HOSTS, Point, REGIONS, STATES, Size, resource_id};
use crate::usage::ScopeId;

/// Names the resource.
pub(super) const ID: &str = "id";

/// An attribute that many resources share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Region,
    FlavorId,
    FlavorName,
    Host,
    State,
}

impl Attribute {
    pub(super) const ALL: [Attribute; 5] = [
        Attribute::Region,
        Attribute::FlavorId,
        Attribute::FlavorName,
        Attribute::Host,
        Attribute::State,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Attribute::Region => "region",
            Attribute::FlavorId => "flavor_id",
            Attribute::FlavorName => "flavor_name",
            Attribute::Host => "host",
            Attribute::State => "state",
        }
    }

    pub(super) fn named(name: &str) -> Option<Attribute> {
        Attribute::ALL.into_iter().find(|attribute| attribute.name() == name)
    }

    /// As a column of usage.
    pub(super) fn column(self) -> String {
        let prefix = if self == Attribute::Region { GROUPBY_PREFIX } else { METADATA_PREFIX };
        format!("{prefix}{}", self.name())
    }

    /// The number of its value.
    pub(super) fn of(self, point: &Point) -> u32 {
        match self {
            Attribute::Region => point.region,
            Attribute::FlavorId | Attribute::FlavorName => point.flavor,
            Attribute::Host => point.host,
            Attribute::State => point.state,
        }
    }

    /// How many values there are.
    pub(super) fn count(self) -> u32 {
        match self {
            Attribute::Region => REGIONS,
            Attribute::FlavorId | Attribute::FlavorName => FLAVORS,
            Attribute::Host => HOSTS,
            Attribute::State => 2,
        }
    }

    pub(super) fn text(self, value: u32) -> String {
        match self {
            Attribute::Region => format!("region-{value}"),
            Attribute::FlavorId => format!("flavor-{value}"),
            Attribute::FlavorName => format!("m1.size{value}"),
            Attribute::Host => format!("compute-{value:03}"),
            Attribute::State => STATES[value as usize].to_owned(),
        }
    }
}

/// All texts, which are the same in every hour.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    pub(super) scopes: StringArray,
    /// For each metric one for each row.
    pub(super) resources: Vec<StringArray>,
    /// In the order of [`Attribute::ALL`].
    attributes: Vec<StringArray>,
}

impl Texts {
    pub(super) fn new(size: Size, scope_ids: &[ScopeId]) -> Texts {
        let rows = size.scopes * size.rows_per_scope();
        let ids = |metric| (0..rows).map(move |row| Some(resource_id(size.seed, metric, row)));
        let values = |attribute: Attribute| {
            (0..attribute.count()).map(move |value| Some(attribute.text(value)))
        };
        Texts {
            scopes: scope_ids.iter().map(|id| Some(id.as_str())).collect(),
            resources: (0..size.metrics).map(|metric| ids(metric).collect()).collect(),
            attributes: Attribute::ALL.map(|attribute| values(attribute).collect()).to_vec(),
        }
    }

    pub(super) fn of(&self, attribute: Attribute) -> &StringArray {
        &self.attributes[attribute as usize]
    }
}
