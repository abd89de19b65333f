//! The record that says that this is a ledger, and in which format.

use std::path::Path;

use super::codec::{Damage, Kind, Reader, Writer};
use super::opening::OpenError;
use super::store::{Table, damaged, read_error, store_error};
use super::{LEDGER_VERSION, files};

pub(super) const HEADER: &[u8] = b"header";
const HEADER_KIND: Kind = Kind(b'L', 1);
const HEADER_MAGIC: &[u8] = b"rated ledger\n";

/// What a ledger without a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// New; where there are rows it has lost its records.
    Anew,
    /// Being restored.
    WithRows,
    /// None: it is not for whoever looks to begin one, nor to raise an older format.
    Never,
}

/// The version that was found, or none in a ledger that is new.
pub(super) fn check_header(
    db: &sled::Db,
    path: &Path,
    begin: Begin,
) -> Result<Option<u16>, OpenError> {
    let meta = db.open_tree(Table::Meta.name()).map_err(store_error)?;
    let mut header = Writer::framed(HEADER_KIND);
    header.raw(HEADER_MAGIC);
    header.count(usize::from(LEDGER_VERSION));
    let header = header.seal();
    let found = meta.get(HEADER).map_err(|error| read_error(Table::Meta, error))?;
    let Some(bytes) = found else {
        let has_rows = files::has_rows(path).map_err(|source| OpenError::folder(path, source))?;
        if has_rows && begin != Begin::WithRows {
            let place = format!("header of `{}`", path.display());
            let damage = Damage("it is missing, and there are rows");
            return Err(damaged(place, damage).into());
        }
        if begin == Begin::Never {
            return Err(OpenError::Missing { path: path.to_path_buf() });
        }
        meta.insert(HEADER, header).map_err(store_error)?;
        return Ok(None);
    };
    let place = || format!("header of `{}`", path.display());
    let found = read_header(&bytes).map_err(|damage| damaged(place(), damage))?;
    if found < LEDGER_VERSION && begin == Begin::Never {
        return Err(OpenError::Older { path: path.to_path_buf(), known: LEDGER_VERSION });
    }
    if found <= LEDGER_VERSION {
        // Records of older versions are read as they are; older programs must read no newer ones.
        meta.insert(HEADER, header).map_err(store_error)?;
        return Ok(Some(found));
    }
    Err(OpenError::Version { path: path.to_path_buf(), found, known: LEDGER_VERSION })
}

/// The version is read before anything that a version may change.
pub(super) fn read_header(bytes: &[u8]) -> Result<u16, Damage> {
    let mut reader = Reader::framed(HEADER_KIND, bytes)?;
    if reader.raw(HEADER_MAGIC.len())? != HEADER_MAGIC {
        return Err(Damage("it does not begin as a ledger does"));
    }
    u16::try_from(reader.uint()?).map_err(|_| Damage("its version is too big"))
}
