use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::failure::Failure;

/// How long a change waits for the one before it.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a change of a module's state waits for.
pub(crate) const STATES: &str = "states";

/// Changes over REST, one after the other for each thing that is changed, so that what a change was
/// checked against holds until it is made.
#[derive(Clone, Default)]
pub(crate) struct WriteTurns {
    /// One for each module that was ever changed; there are few.
    turns: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl fmt::Debug for WriteTurns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTurns").finish_non_exhaustive()
    }
}

/// Nobody else changes the same thing until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

impl WriteTurns {
    pub(crate) async fn wait(&self, subject: &str) -> Result<Turn, Failure> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(subject.to_owned()).or_default())
        };
        match tokio::time::timeout(TURN_TIMEOUT, turn.lock_owned()).await {
            Ok(turn) => Ok(Turn(turn)),
            Err(_) => Err(Failure::busy()),
        }
    }
}
