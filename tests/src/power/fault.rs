//! What can go wrong with a disk besides its power.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    Input,
    Full,
    ReadOnly,
    NotFound,
    Exists,
    NotEmpty,
}

/// What a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Also of a length.
    Write,
    Sync,
    /// [`Access::Sync`] of the content alone (`fdatasync`).
    DataSync,
    /// Of a file or a folder that is not there yet.
    Make,
}

/// What is to go wrong, from the moment it is added on.
#[derive(Debug, Clone)]
pub struct Fault {
    pub access: Access,
    /// Files whose path, from the mount point on, contains this.
    pub path: &'static str,
    pub does: Harm,
    /// So many accesses are spared.
    pub after: u64,
    /// So many are harmed.
    pub times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Fails(DiskError),
    /// A sync that fails, and nothing of what it was for will ever be on the disk. The kernel
    /// still shows it to whoever reads, until it lets go of what it keeps of the file: the way of
    /// Linux after a failed write of its cache.
    FailsAndForgets,
    /// Says that all is well and does nothing: for syncs.
    IsIgnored,
}

impl Fault {
    /// Every access fails.
    pub fn fails(access: Access, path: &'static str, error: DiskError) -> Fault {
        Fault { access, path, does: Harm::Fails(error), after: 0, times: u64::MAX }
    }

    /// Syncs that do nothing.
    pub fn ignored(access: Access, path: &'static str) -> Fault {
        Fault { access, path, does: Harm::IsIgnored, after: 0, times: u64::MAX }
    }

    /// One access is harmed, after so many that are not.
    #[must_use]
    pub fn once(self, after: u64) -> Fault {
        self.some(after, 1)
    }

    /// So many accesses in a row are harmed, after so many that are not. One read that fails is
    /// asked for again by the kernel when it was reading ahead, and nobody sees it.
    #[must_use]
    pub fn some(self, after: u64, times: u64) -> Fault {
        Fault { after, times, ..self }
    }
}
