//! A disk whose power can be cut, which can be full, read-only or broken, under a daemon.

mod disk;
mod fault;
mod file;
mod folder;
mod mount;
mod random;

pub use disk::Disk;
pub use fault::{Access, DiskError, Fault, Harm};
pub use mount::{MountedDisk, is_root};
pub use random::Random;
