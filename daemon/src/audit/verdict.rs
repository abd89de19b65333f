//! What the price that comes out again says of the one that was kept.

use super::rows::is_scope_key_known;
use crate::ledger::RowsGroup;
use crate::rating::KeptChain;

/// What a second computation says of a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same price, by the very libraries that made it: this alone proves anything.
    Equal,
    /// The same price, by another library: that of today.
    EqualByOtherLibrary,
    Different,
    DifferentByOtherLibrary,
    /// Nothing can be said of it.
    NotComputed,
    /// It was rated elsewhere.
    Pushed,
}

/// Why a price that comes out otherwise says nothing where the scope key was not kept.
pub const KEY_NOT_KEPT: &str = "the ledger has not kept as which attribute modules saw the scope \
                                then, and with the scope's key of now another price comes out";

/// The same where a module was told something else by `rated.toml`.
pub const OTHER_CONFIGURATION: &str = "the section of a rating module in `rated.toml` is another \
                                       one than then, and with that of now another price comes out";

/// Why another price that comes out says nothing, if it does not.
pub(super) fn doubt(chain: &KeptChain, group: &RowsGroup) -> Option<&'static str> {
    if !is_scope_key_known(group) {
        Some(KEY_NOT_KEPT)
    } else if !chain.is_of_same_configuration() {
        Some(OTHER_CONFIGURATION)
    } else {
        None
    }
}

impl Verdict {
    pub const ALL: [Verdict; 6] = [
        Verdict::Equal,
        Verdict::EqualByOtherLibrary,
        Verdict::Different,
        Verdict::DifferentByOtherLibrary,
        Verdict::NotComputed,
        Verdict::Pushed,
    ];

    /// Of a row of a group that a chain has rated again.
    pub(super) fn of(chain: &KeptChain, group: &RowsGroup, again: Again) -> Verdict {
        match (again, chain.is_of_same_libraries()) {
            (Again::Equal, true) => Verdict::Equal,
            (Again::Equal, false) => Verdict::EqualByOtherLibrary,
            (Again::Different, _) if doubt(chain, group).is_some() => Verdict::NotComputed,
            (Again::Different, true) => Verdict::Different,
            (Again::Different, false) => Verdict::DifferentByOtherLibrary,
        }
    }
}

/// Did the price come out that was kept?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Equal,
    Different,
}

impl Again {
    pub(super) fn of<T: PartialEq>(stored: &T, computed: &T) -> Again {
        if stored == computed { Again::Equal } else { Again::Different }
    }
}
