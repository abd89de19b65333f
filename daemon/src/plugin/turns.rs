//! How many calls of a sort are made on an instance at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    count: u32,
}

/// The right to make a call, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// No more calls are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed;

impl Turns {
    pub(super) fn new(count: u32) -> Turns {
        Turns { free: Arc::new(Semaphore::new(count as usize)), count }
    }

    /// Waits.
    pub(super) async fn next(&self) -> Result<Turn, Closed> {
        self.free.clone().acquire_owned().await.map_err(|_| Closed)
    }

    /// Waits until no other call is under way; none begins before this turn has ended.
    pub(super) async fn all(&self) -> Result<Turn, Closed> {
        self.free.clone().acquire_many_owned(self.count).await.map_err(|_| Closed)
    }

    /// Who waits is told at once.
    pub(super) fn close(&self) {
        self.free.close();
    }
}
