//! The time that the daemon under test goes by.

use chrono::{DateTime, Utc};

#[expect(clippy::disallowed_methods, reason = "the daemon under test goes by the same clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
