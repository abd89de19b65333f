//! What happens when a plugin goes wrong, in the daemon's threads and in a process of its own.
#![doc = "\n"]
#![doc = include_str!("../ISOLATION.md")]
