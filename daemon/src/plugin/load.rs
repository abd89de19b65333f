//! A library into the process: checked, copied, mapped, never unmapped.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW, Symbol};
use rated_plugin::Status;
use rated_plugin::raw::{ENTRY_SYMBOL, EntryFn, PluginDecl};

use super::check::{self, Declared};
use super::error::{LoadError, LoadErrorKind};
use super::file::{self, Content};
use super::host_api::{self, Context, Services};
use super::library::{Declaration, Library, LibraryInfo};
use super::process::{self, ProcessSettings};
use crate::config::LibraryConfig;
use crate::fault::{Step, passed};

/// Keeps a library mapped whatever happens: threads, thread-local destructors and arrays that came
/// out of it point into its code.
const RTLD_NODELETE: c_int = nix::libc::RTLD_NODELETE;

/// Maps the private copy of a library and reads what it declares (checks 2 to 5). Nothing of it has
/// been started.
pub(super) fn open(
    path: &Path,
    content: &Content,
    copy: &Path,
    config: &LibraryConfig,
) -> Result<Library, LoadError> {
    let refuse = |reason| LoadError::new(path, reason);
    let declaration = map(copy).map_err(refuse)?;
    passed(Step::PluginMapped);
    // SAFETY: it comes from the entry function of a library, whose author promises what
    // `check::read` needs.
    let declared = unsafe { check::read(declaration) }.map_err(refuse)?;
    let library = library(path.to_owned(), content.sha256.clone(), config, declared);
    Ok(Library { copy: Some(copy.to_owned()), ..library })
}

/// The same for a private copy that somebody else has made and checked.
pub(super) fn open_copy(copy: &Path, config: &LibraryConfig) -> Result<Library, LoadErrorKind> {
    let declaration = map(copy)?;
    // SAFETY: as in `open`.
    let declared = unsafe { check::read(declaration) }?;
    Ok(library(copy.to_owned(), String::new(), config, declared))
}

/// The private copy of a library, read in a process of its own: nothing of it is mapped here.
pub(super) fn describe(
    path: &Path,
    content: &Content,
    copy: &Path,
    config: &LibraryConfig,
    (settings, services): (&ProcessSettings, &Arc<Services>),
) -> Result<Library, LoadError> {
    let refuse = |reason| LoadError::new(path, reason);
    let described = process::describe(copy, settings, services).map_err(refuse)?;
    let process::Described { name, version, built_with, components } = described;
    let shown = components.iter().map(|component| component.info.clone()).collect();
    let (path, sha256, trusted) = (path.to_owned(), content.sha256.clone(), config.trusted);
    let info = LibraryInfo { path, name, version, built_with, sha256, trusted, components: shown };
    Ok(Library { info, components, declaration: None, copy: Some(copy.to_owned()) })
}

/// From tables that are in this program, for tests.
pub(super) fn embedded(declaration: &'static PluginDecl) -> Result<Library, LoadError> {
    // SAFETY: a reference to a static; its author promises what `check::read` needs.
    let declared = unsafe { check::read(declaration) };
    let path = PathBuf::from("embedded");
    let declared = declared.map_err(|reason| LoadError::new(&path, reason))?;
    let path = path.join(&declared.name);
    let sha256 = file::hex_sha256(format!("{} {}", declared.name, declared.version).as_bytes());
    Ok(library(path, sha256, &LibraryConfig::default(), declared))
}

fn library(path: PathBuf, sha256: String, config: &LibraryConfig, declared: Declared) -> Library {
    let trusted = config.trusted;
    let Declared { declaration, name, version, built_with, components } = declared;
    let shown = components.iter().map(|component| component.info.clone()).collect();
    let info = LibraryInfo { path, name, version, built_with, sha256, trusted, components: shown };
    Library { info, components, declaration: Some(declaration), copy: None }
}

fn map(copy: &Path) -> Result<*const PluginDecl, LoadErrorKind> {
    let flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    // SAFETY: loading runs the library's constructors: that is what the operator asks for by
    // putting it into the folder. The copy is never written to again and never unmapped.
    let handle = unsafe { Handle::open(Some(copy), flags) }.map_err(|error| refused(&error))?;
    // SAFETY: the interface gives the symbol this type.
    let entry: Symbol<EntryFn> =
        unsafe { handle.get(ENTRY_SYMBOL.as_bytes()) }.map_err(|_| LoadErrorKind::NoEntry)?;
    // SAFETY: the interface says: returns a static and does nothing else.
    let declaration = unsafe { entry() };
    std::mem::forget(handle);
    Ok(declaration)
}

fn refused(error: &libloading::Error) -> LoadErrorKind {
    let said =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let newer_libc = said.contains("version `GLIBC_");
    let hint = if newer_libc { " (built against a newer glibc than this machine's?)" } else { "" };
    LoadErrorKind::Loader { said, hint }
}

/// The last check: connects a plugin's log and panic hook to the daemon. Once for each library in
/// the process.
pub(super) fn start(library: &Library) -> Result<(), LoadError> {
    start_in(library, Context::for_library(&library.info.name))
}

/// The same with a host of another kind.
pub(super) fn start_in(library: &Library, context: &'static Context) -> Result<(), LoadError> {
    let Some(Declaration(declaration)) = library.declaration else { return Ok(()) };
    // SAFETY: the table is a static, the context lives for ever.
    let status = unsafe { (declaration.start)(host_api::table(), context.reference()) };
    if status != Status::Ok as u32 {
        return Err(LoadError::new(&library.info.path, LoadErrorKind::Start(status)));
    }
    passed(Step::PluginStarted);
    Ok(())
}
