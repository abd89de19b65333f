//! A look at a library before the dynamic loader maps it.
//!
//! The loader maps what the headers say and trusts the file to be that long: the code of a file
//! that is still being copied ends in a bus error, which no message survives. This module does not
//! know what the code does.

use super::error::LoadErrorKind;

const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const TYPE_SHARED: u16 = 3;
const SEGMENT_LOAD: u32 = 1;
/// Of this machine, as in `e_machine`; 0 = not checked here.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

/// Is it a whole 64-bit shared object of this machine?
pub(super) fn check(file: &[u8]) -> Result<(), LoadErrorKind> {
    if !cfg!(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")) {
        return Ok(());
    }
    if !file.starts_with(b"\x7fELF") {
        return Err(LoadErrorKind::Elf("it does not begin as one"));
    }
    if file.len() < HEADER_SIZE {
        return Err(cut_short(file, HEADER_SIZE as u64));
    }
    if file[4] != 2 || file[5] != 1 {
        return Err(LoadErrorKind::Elf("it is not 64-bit little-endian"));
    }
    if u16_at(file, 16) != TYPE_SHARED {
        return Err(LoadErrorKind::Elf("it is a program or an object file"));
    }
    if MACHINE != 0 && u16_at(file, 18) != MACHINE {
        return Err(LoadErrorKind::Elf("it was built for another processor"));
    }
    let (table, count) = (u64_at(file, 32), usize::from(u16_at(file, 56)));
    if usize::from(u16_at(file, 54)) != PROGRAM_HEADER_SIZE {
        return Err(LoadErrorKind::Elf("its headers have an unknown size"));
    }
    let needed = table.saturating_add((count * PROGRAM_HEADER_SIZE) as u64);
    if needed > file.len() as u64 {
        return Err(cut_short(file, needed));
    }
    let first = usize::try_from(table).expect("within the file");
    for header in file[first..].chunks_exact(PROGRAM_HEADER_SIZE).take(count) {
        let end = u64_at(header, 8).saturating_add(u64_at(header, 32));
        if u32_at(header, 0) == SEGMENT_LOAD && end > file.len() as u64 {
            return Err(cut_short(file, end));
        }
    }
    // The section headers come last in a file; the loader does not need them, but a whole file has
    // them.
    let sections_end =
        u64_at(file, 40).saturating_add(u64::from(u16_at(file, 58)) * u64::from(u16_at(file, 60)));
    if sections_end > file.len() as u64 {
        return Err(cut_short(file, sections_end));
    }
    Ok(())
}

fn cut_short(file: &[u8], needed: u64) -> LoadErrorKind {
    LoadErrorKind::CutShort { size: file.len() as u64, needed }
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("N bytes")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn text_and_pieces_are_told_from_libraries() {
        assert_eq!(check(b"#!/bin/sh"), Err(LoadErrorKind::Elf("it does not begin as one")));
        assert!(matches!(check(b"\x7fELF\x02\x01"), Err(LoadErrorKind::CutShort { .. })));
    }

    #[test]
    fn every_piece_of_a_program_is_refused_and_none_panics() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();

        // The test program is position-independent: for the headers it is a shared object.
        assert_eq!(check(&whole), Ok(()));
        for length in (0..whole.len()).step_by(whole.len() / 500) {
            assert!(check(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
