//! What the API says of itself: the `OpenAPI` 3.1 document.
//!
//! Every handler has a description of the same name in the module `describe` of its file; the table
//! of routes names both, so that a route without a description does not compile. The inputs that a
//! description lists are those that the handler accepts. Modules bring descriptions of their own,
//! which are merged into the document; they are not trusted to be sound.
//!
//! The bodies of answers are not derived from the handlers: a test asks the built daemon for them.

mod document;
mod input;
mod modules;
mod operation;
pub(crate) mod schemas;
mod security;

pub(crate) use document::document;
pub(crate) use input::{Input, Kind, object};
pub(crate) use modules::ModuleApi;
pub(crate) use operation::{Describe, Operation, named};
pub(crate) use security::Scheme;
