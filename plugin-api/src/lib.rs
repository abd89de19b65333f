//! Everything needed to write a collector, fetcher or rating module for `rated`.

mod batch;
mod component;
mod host;
pub mod raw;
mod request;
mod status;

pub use batch::*;
pub use component::*;
pub use host::*;
pub use request::*;
pub use status::*;
