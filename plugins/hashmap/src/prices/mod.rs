//! The whole price list as one document of names, and what makes the stored list become another.
//!
//! A document has every rule that counts now or later. Applying one never changes a price of the
//! past: a running rule that is left out is ended, one whose price is another is ended and a new
//! one begins, and rules that have ended are left alone. Rules that stay keep their ids. Applying
//! the same document twice changes nothing the second time.
//!
//! The same document describes the list of the configuration.

mod apply;
mod document;
mod known;
mod overlap;
mod places;
mod step;

pub(crate) use self::apply::{Author, Past, plan};
pub(crate) use self::document::{Document, show};
