//! The second API: checked parameters, JSON only, numbers as numbers, dates with a zone.

pub(crate) mod audit;
pub(crate) mod completeness;
pub(crate) mod dataframes;
pub(crate) mod differences;
pub(crate) mod explain;
pub(crate) mod ledger;
pub(crate) mod modules;
pub(crate) mod reprocess;
pub(crate) mod schema;
pub(crate) mod scope;
pub(crate) mod summary;
