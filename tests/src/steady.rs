//! Usage that the example `steady_plugin` answers with, and that a test works out again.
//!
//! The plugin includes this very file: it knows nothing of the crate around it.

use chrono::{DateTime, Utc};

/// Ten-thousandths of a unit that a resource of a scope used in the period that begins then: below
/// a thousand units, depends on nothing but these four.
pub fn steady_quantity(metric: &str, scope: &str, resource: usize, begin: DateTime<Utc>) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let texts = metric.bytes().chain(scope.bytes()).map(u64::from);
    for part in texts.chain([resource as u64, begin.timestamp().unsigned_abs()]) {
        state = (state ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 29;
    }
    (state >> 8) % 10_000_000
}

/// The id of a scope that the plugin finds.
pub fn steady_scope(index: usize) -> String {
    format!("scope-{index:05}")
}
