//! The first API: arguments from anywhere, decimals as texts, dates without a zone, JSON or XML.

pub(crate) mod arguments;
pub(crate) mod collector;
pub(crate) mod dataframes;
pub(crate) mod info;
pub(crate) mod module_config;
pub(crate) mod quote;
pub(crate) mod rating;
pub(crate) mod report;
