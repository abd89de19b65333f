//! How many bytes are held for somebody at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes, taken by who holds them and given back by who lets go of them.
#[derive(Debug)]
pub(in crate::plugin) struct Room {
    size: u64,
    taken: AtomicU64,
}

impl Room {
    pub(in crate::plugin) fn new(size: u64) -> Arc<Room> {
        Arc::new(Room { size, taken: AtomicU64::new(0) })
    }

    /// For somebody who has nothing yet.
    pub(in crate::plugin) fn share(self: &Arc<Self>) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }
}

/// What one thing takes of a room; given back when it is dropped.
#[derive(Debug)]
pub(in crate::plugin) struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    /// `false`: there is no room for so many more, and none were taken.
    #[must_use]
    pub(in crate::plugin) fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let (taken, size) = (&self.room.taken, self.room.size);
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= size);
        let has_room = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if has_room { bytes } else { 0 };
        has_room
    }

    /// Most that it can ever be.
    pub(in crate::plugin) fn most(&self) -> u64 {
        self.room.size
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_together_no_more_than_the_room_and_come_back() {
        let room = Room::new(10);
        let (mut one, mut other) = (room.share(), room.share());

        assert!(one.grow(4) && one.grow(2) && other.grow(4));
        assert!(!other.grow(1), "there is no room");
        drop(one);
        assert!(other.grow(6));
        assert!(!other.grow(usize::MAX));

        drop(other);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}
