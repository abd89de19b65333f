//! The host side of the plugin interface: find, check, load, call, poison, reload.
//!
//! Nothing that comes back is trusted; a library is never unloaded; a plugin's failure, slowness or panic touches
//! nothing but its own call.

mod contract;

pub use contract::*;
