//! What a library says of itself, checked before any of its code that matters has run.
//!
//! Nothing is read that the sizes in the tables do not cover, and no reference is made to a table
//! that holds a null where the interface promises a function.

use std::mem::offset_of;

use rated_plugin::raw::{
    self, Bytes, CollectorVTable, ComponentDecl, FetcherVTable, PluginDecl, RatingVTable,
};

use super::error::{AbiVersion, LoadErrorKind};
use super::ffi;
use super::library::{Component, ComponentInfo, Declaration, Kind, VTable};
use super::paths::ApiPaths;

/// What this daemon offers.
pub const ABI: AbiVersion = AbiVersion { major: raw::ABI_MAJOR, minor: raw::ABI_MINOR };
/// Services of the table that every plugin gets.
pub(super) const FEATURES: u64 = raw::FEATURE_KV | raw::FEATURE_HTTP;
/// Most components of one library.
const COMPONENTS_MAX: usize = 64;
/// Longest text in a table (a sample configuration, a schema), bytes.
const TEXT_SIZE_MAX: usize = 1024 * 1024;
const NAME_SIZE_MAX: usize = 32;

type Result<T> = std::result::Result<T, LoadErrorKind>;

/// What a plugin's description says, read.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) declaration: Declaration,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) built_with: String,
    pub(super) components: Vec<Component>,
}

/// Checks 3 to 5 of the interface: the description, then each component.
///
/// # Safety
///
/// `pointer` is null, or was returned by a library's entry function and points to a static that
/// begins with a magic number; where the number is right, to a description as its version and sizes
/// say.
pub(super) unsafe fn read(pointer: *const PluginDecl) -> Result<Declared> {
    if pointer.is_null() {
        return Err(LoadErrorKind::NoDeclaration);
    }
    // SAFETY: the caller's promise; every description begins with these fields, whatever its
    // version.
    let (magic, size, version) = unsafe {
        let version = AbiVersion {
            major: (&raw const (*pointer).abi_major).read_unaligned(),
            minor: (&raw const (*pointer).abi_minor).read_unaligned(),
        };
        (
            pointer.cast::<u64>().read_unaligned(),
            (&raw const (*pointer).struct_size).read_unaligned(),
            version,
        )
    };
    check_version(magic, version)?;
    check_size("description", size as usize, size_of::<PluginDecl>())?;
    // SAFETY: as long as ours, as just checked, and a static.
    let declaration = unsafe {
        check_functions(pointer.cast(), &[offset_of!(PluginDecl, start)], "start function")?;
        &*pointer
    };
    if declaration.flags & raw::FLAG_UNWINDS == 0 {
        return Err(LoadErrorKind::Aborts);
    }
    check_features(declaration.features_required)?;
    let name = text(declaration.name, "name")?;
    check_library_name(&name)?;
    Ok(Declared {
        declaration: Declaration(declaration),
        name,
        version: text(declaration.version, "version")?,
        built_with: text(declaration.built_with, "compiler")?,
        // SAFETY: the caller's promise.
        components: unsafe { components(declaration) }?,
    })
}

fn check_version(magic: u64, wanted: AbiVersion) -> Result<()> {
    if magic != raw::MAGIC {
        return Err(LoadErrorKind::Magic);
    }
    let offered = ABI;
    if wanted.major < offered.major {
        return Err(LoadErrorKind::TooOld { wanted, offered });
    }
    if wanted > offered {
        return Err(LoadErrorKind::TooNew { wanted, offered });
    }
    Ok(())
}

fn check_size(what: &str, size: usize, needed: usize) -> Result<()> {
    if size < needed {
        return Err(LoadErrorKind::TableTooShort { what: what.to_owned(), size, needed });
    }
    Ok(())
}

fn check_features(required: u64) -> Result<()> {
    let missing = required & !FEATURES;
    if missing == 0 {
        return Ok(());
    }
    let names: Vec<String> = (0..u64::BITS)
        .filter(|bit| missing & (1 << bit) != 0)
        .map(|bit| format!("feature bit {bit}"))
        .collect();
    Err(LoadErrorKind::MissingFeatures(names.join(", ")))
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let sound = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.len() <= NAME_SIZE_MAX;
    if sound { Ok(()) } else { Err(LoadErrorKind::BadName(name.escape_debug().to_string())) }
}

fn text(bytes: Bytes, what: &str) -> Result<String> {
    check_text(bytes.len, what)?;
    let what = || what.to_owned();
    // SAFETY: the interface says that a table's texts sit in statics.
    let bytes = unsafe { ffi::borrow(bytes) };
    let text = std::str::from_utf8(bytes).map_err(|_| LoadErrorKind::NotText { what: what() })?;
    Ok(text.to_owned())
}

pub(super) fn check_text(size: usize, what: &str) -> Result<()> {
    if size > TEXT_SIZE_MAX {
        let (what, max) = (what.to_owned(), TEXT_SIZE_MAX);
        return Err(LoadErrorKind::TextTooLong { what, size, max });
    }
    Ok(())
}

/// A library has a name.
pub(super) fn check_library_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(LoadErrorKind::Missing { what: "name".to_owned() });
    }
    Ok(())
}

/// So many components.
pub(super) fn check_component_count(found: usize) -> Result<()> {
    if found > COMPONENTS_MAX {
        return Err(LoadErrorKind::TooManyComponents { found, max: COMPONENTS_MAX });
    }
    if found == 0 {
        return Err(LoadErrorKind::Missing { what: "list of components".to_owned() });
    }
    Ok(())
}

/// # Safety
///
/// `table` is readable at the offsets, each that of a pointer-sized field.
unsafe fn check_functions(table: *const u8, offsets: &[usize], what: &str) -> Result<()> {
    for offset in offsets {
        // SAFETY: the caller's promise.
        let address = unsafe { table.add(*offset).cast::<usize>().read_unaligned() };
        if address == 0 {
            return Err(LoadErrorKind::Missing { what: what.to_owned() });
        }
    }
    Ok(())
}

/// # Safety
///
/// The components of the declaration are what the interface says.
unsafe fn components(declaration: &PluginDecl) -> Result<Vec<Component>> {
    let found = declaration.components_len;
    check_component_count(if declaration.components.is_null() { 0 } else { found })?;
    (0..found)
        .map(|index| {
            // SAFETY: the caller's promise; `index` is within the list.
            let pointer = unsafe { declaration.components.add(index).read() };
            // SAFETY: the caller's promise.
            unsafe { component(index, pointer) }
        })
        .collect()
}

/// # Safety
///
/// `pointer` is null or points to a component's description that is as long as it says.
unsafe fn component(index: usize, pointer: *const ComponentDecl) -> Result<Component> {
    if pointer.is_null() {
        return Err(LoadErrorKind::Missing { what: format!("component {index}") });
    }
    // SAFETY: the caller's promise; every description begins with its size.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    check_size(&format!("component {index}"), size, size_of::<ComponentDecl>())?;
    // SAFETY: as long as ours, as just checked, and a static without function pointers.
    let declared = unsafe { &*pointer };
    let kind = match declared.kind {
        raw::KIND_COLLECTOR => Kind::Collector,
        raw::KIND_FETCHER => Kind::Fetcher,
        raw::KIND_RATING => Kind::Rating,
        kind => return Err(LoadErrorKind::UnknownKind { index, kind }),
    };
    let name = text(declared.name, "component's name")?;
    check_name(&name)?;
    let of = |what: &str| format!("{what} of `{name}`");
    let flag = |bit: u32| declared.flags & bit != 0;
    let info = ComponentInfo {
        kind,
        summary: text(declared.summary, &of("summary"))?,
        sample_config: text(declared.sample_config, &of("sample configuration"))?,
        config_schema: text(declared.config_schema, &of("configuration schema"))?,
        api_schema: text(declared.api_schema, &of("API schema"))?,
        is_serial: flag(raw::COMPONENT_SERIAL),
        is_hot_config: flag(raw::COMPONENT_HOT_CONFIG),
        is_always_on: flag(raw::COMPONENT_ALWAYS_ON),
        name: name.clone(),
    };
    let api_paths = ApiPaths::parse(&info.api_schema)
        .map_err(|reason| LoadErrorKind::ApiSchema { name: name.clone(), reason })?;
    // SAFETY: the caller's promise.
    let vtable = unsafe { vtable(kind, declared.vtable.cast(), &name) }?;
    Ok(Component { info, api_paths, vtable: Some(vtable) })
}

/// # Safety
///
/// `pointer` is null or points to a table of functions for `kind`, a static that is as long as it
/// says.
unsafe fn vtable(kind: Kind, pointer: *const u8, name: &str) -> Result<VTable> {
    let what = || format!("table of functions of `{name}`");
    if pointer.is_null() {
        return Err(LoadErrorKind::Missing { what: what() });
    }
    // SAFETY: the caller's promise; every table begins with its size.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let needed = match kind {
        Kind::Collector => size_of::<CollectorVTable>(),
        Kind::Fetcher => size_of::<FetcherVTable>(),
        Kind::Rating => RatingVTable::SIZE_MIN,
    };
    check_size(&what(), size, needed)?;
    // After the size every field is a function that must be there; those that need not be come
    // later.
    let offsets: Vec<usize> = (size_of::<usize>()..needed).step_by(size_of::<usize>()).collect();
    // SAFETY: the table is at least `needed` bytes long, as just checked, and holds no nulls when
    // it becomes a reference.
    unsafe {
        check_functions(pointer, &offsets, &format!("function in the table of `{name}`"))?;
        Ok(match kind {
            Kind::Collector => VTable::Collector(&*pointer.cast()),
            Kind::Fetcher => VTable::Fetcher(&*pointer.cast()),
            Kind::Rating => VTable::Rating(RatingVTable::read(pointer.cast())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_words() {
        for good in ["a", "hashmap", "prometheus-2", "a2345678901234567890123456789012"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "A", "2a", "-a", "a_b", "ä", "a23456789012345678901234567890123"] {
            assert!(matches!(check_name(bad), Err(LoadErrorKind::BadName(_))), "{bad}");
        }
    }

    #[test]
    fn a_refused_version_says_who_must_change() {
        let version = |major, minor| AbiVersion { major, minor };

        let newer = check_version(raw::MAGIC, version(1, 3)).unwrap_err().to_string();
        assert_eq!(newer, "needs ABI 1.3, this daemon has 1.1; upgrade rated");
        let major = check_version(raw::MAGIC, version(2, 0)).unwrap_err().to_string();
        assert_eq!(major, "needs ABI 2.0, this daemon has 1.1; upgrade rated");
        let older = check_version(raw::MAGIC, version(0, 9)).unwrap_err().to_string();
        assert_eq!(older, "was built for ABI 0.9, this daemon has 1.1; rebuild the plugin");
        assert_eq!(check_version(raw::MAGIC, version(1, 0)), Ok(()));
        assert_eq!(check_version(raw::MAGIC, version(1, 1)), Ok(()));
    }
}
