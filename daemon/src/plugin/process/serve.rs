//! What a plugin in another process asks of its host, done by the daemon.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rated_plugin::{Error, Result};

use super::message::Order;
use super::report::{Given, Wanted};
use crate::plugin::call::CallState;
use crate::plugin::host_api::{HttpParts, Lender};

/// Levels of log messages, 1 to this.
const LEVELS: u32 = 5;

/// Bit n: messages of the level n are wanted.
pub(super) fn levels(lender: &dyn Lender) -> u32 {
    let is_wanted = |level: &u32| lender.is_logged(*level);
    (1..=LEVELS).filter(is_wanted).fold(0, |bits, level| bits | 1 << level)
}

/// A panic is what it is in a thread: an error of the daemon's.
pub(super) fn give(lender: &dyn Lender, call: Option<&CallState>, wanted: Wanted) -> Result<Given> {
    catch_unwind(AssertUnwindSafe(|| given(lender, call, wanted))).unwrap_or_else(|_| {
        Err(Error::internal("a service of the daemon panicked; its log says where"))
    })
}

fn given(lender: &dyn Lender, call: Option<&CallState>, wanted: Wanted) -> Result<Given> {
    Ok(match wanted {
        Wanted::Now => Given::Number(lender.now_ns()),
        Wanted::KvGet { revision, key } => Given::Bytes(lender.kv_get(revision, &key)?),
        Wanted::KvScan { revision, prefix } => {
            let (revision, pairs) = lender.kv_scan(revision, &prefix)?;
            Given::Pairs(revision, pairs)
        }
        Wanted::KvApply { revision, edits } => Given::Revision(lender.kv_apply(revision, edits)?),
        Wanted::Http { method, url, headers, body, options } => {
            let (url, headers) = (url.as_str(), headers.as_slice());
            let parts = HttpParts { method, url, headers, body: &body, options: &options };
            Given::Http(lender.http(call, &parts)?)
        }
    })
}

/// The frame that says so. What is too large for one is an error to whoever asked.
pub(super) fn answer(number: u64, given: &Result<Given>) -> Result<Vec<u8>> {
    Order::answer(number, given).or_else(|error| Order::answer(number, &Err(error)))
}
