//! XML, which v1 takes and gives beside JSON. Nothing behind this module knows of it.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod read;
mod write;

pub(crate) use read::into_json;
pub(crate) use write::render;
