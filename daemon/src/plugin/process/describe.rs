//! What a library declares, read in a process that may die of it.
//!
//! The answer is checked as the tables of a library in the daemon are; it holds no functions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rated_plugin::{Error, Result, Status};

use super::ask::{Launch, Process, ProcessSettings};
use super::message::{put_kind, take_kind};
use super::wire::{Malformed, Reader, Writer};
use crate::plugin::call::CallState;
use crate::plugin::check;
use crate::plugin::error::LoadErrorKind;
use crate::plugin::host_api::{Daemon, Services};
use crate::plugin::instance::Frame;
use crate::plugin::library::{Component, ComponentInfo, LibraryInfo};
use crate::plugin::paths::ApiPaths;
use crate::plugin::pool::WrittenOff;

/// Name, version, compiler and components of a library.
pub(in crate::plugin) struct Described {
    pub(in crate::plugin) name: String,
    pub(in crate::plugin) version: String,
    pub(in crate::plugin) built_with: String,
    pub(in crate::plugin) components: Vec<Component>,
}

/// Asks a process about the private copy of a library; waits.
pub(in crate::plugin) fn describe(
    copy: &Path,
    settings: &ProcessSettings,
    services: &Arc<Services>,
) -> Result<Described, LoadErrorKind> {
    let (copy, settings): (PathBuf, _) = (copy.to_owned(), settings.clone());
    let kept = services.clone();
    let asked = services.pool.run_blocking(move |call| ask(&copy, &settings, &kept, call));
    let asked = asked.unwrap_or_else(|WrittenOff| {
        Err(Unasked::Lost(Error::new(Status::Timeout, "nobody says what it holds in time")))
    });
    let reader = asked.map_err(|unasked| match unasked {
        Unasked::NoProcess(error) => LoadErrorKind::NoProcess(error.message),
        Unasked::Refused(error) => LoadErrorKind::Apart(error.message),
        Unasked::Lost(error) => LoadErrorKind::Harmful(error.message),
    })?;
    let malformed = |Malformed| LoadErrorKind::Harmful("says what makes no sense".to_owned());
    let (described, schemas) = take(reader).map_err(malformed)?;
    sound(described, schemas)
}

/// Why nobody knows what a library holds.
enum Unasked {
    /// None could be started: that is not the library's doing.
    NoProcess(Error),
    /// The process says why it does not load it.
    Refused(Error),
    /// The process died of it, or hangs.
    Lost(Error),
}

fn ask(
    copy: &Path,
    settings: &ProcessSettings,
    services: &Arc<Services>,
    call: &Arc<CallState>,
) -> Result<Reader, Unasked> {
    let name = copy.file_stem().unwrap_or_default().to_string_lossy();
    let label: Arc<str> = format!("library/{name}").into();
    let lender = Daemon::for_description(label.clone(), services);
    let library = Some(copy);
    let launch = Launch { settings, label: &label, lender, library, trusted: false, services };
    let process = Process::start(launch).map_err(Unasked::NoProcess)?;
    let raw = call.raw(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    let described = process.describe(&Frame { raw: &raw, state: call });
    let described = described.map_err(|error| {
        if process.is_dead() { Unasked::Lost(error) } else { Unasked::Refused(error) }
    });
    process.end(services.pool.grace(), call);
    described
}

/// The runner's answer.
pub(super) fn put(writer: &mut Writer, info: &LibraryInfo) {
    writer.text(&info.name).text(&info.version).text(&info.built_with);
    writer.u32(u32::try_from(info.components.len()).unwrap_or(u32::MAX));
    for component in &info.components {
        put_kind(writer, component.kind);
        writer.text(&component.name).text(&component.summary).text(&component.sample_config);
        writer.text(&component.config_schema).text(&component.api_schema);
        for flag in [component.is_serial, component.is_hot_config, component.is_always_on] {
            writer.u8(flag.into());
        }
    }
}

/// What a runner says of a library, whatever it is.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(reader: Reader) -> Result<Described, LoadErrorKind> {
    let malformed = |Malformed| LoadErrorKind::Harmful(String::new());
    take(reader).map_err(malformed).and_then(|(texts, components)| sound(texts, components))
}

type Texts = (String, String, String);

fn take(mut reader: Reader) -> Result<(Texts, Vec<ComponentInfo>), Malformed> {
    let texts = (reader.text()?, reader.text()?, reader.text()?);
    let components = reader.list(|reader| {
        Ok(ComponentInfo {
            kind: take_kind(reader)?,
            name: reader.text()?,
            summary: reader.text()?,
            sample_config: reader.text()?,
            config_schema: reader.text()?,
            api_schema: reader.text()?,
            is_serial: reader.flag()?,
            is_hot_config: reader.flag()?,
            is_always_on: reader.flag()?,
        })
    })?;
    reader.end()?;
    Ok((texts, components))
}

fn sound(texts: Texts, components: Vec<ComponentInfo>) -> Result<Described, LoadErrorKind> {
    let (name, version, built_with) = texts;
    check::check_text(name.len(), "name")?;
    check::check_library_name(&name)?;
    check::check_text(version.len(), "version")?;
    check::check_text(built_with.len(), "compiler")?;
    check::check_component_count(components.len())?;
    let components = components.into_iter().map(|info| {
        check::check_name(&info.name)?;
        for (text, what) in [
            (&info.summary, "summary"),
            (&info.sample_config, "sample configuration"),
            (&info.config_schema, "configuration schema"),
            (&info.api_schema, "API schema"),
        ] {
            check::check_text(text.len(), &format!("{what} of `{}`", info.name))?;
        }
        let api_paths = ApiPaths::parse(&info.api_schema)
            .map_err(|reason| LoadErrorKind::ApiSchema { name: info.name.clone(), reason })?;
        Ok(Component { info, api_paths, vtable: None })
    });
    let components = components.collect::<Result<_, _>>()?;
    Ok(Described { name, version, built_with, components })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::library::Kind;

    fn component(name: &str, summary: &str) -> ComponentInfo {
        ComponentInfo {
            kind: Kind::Rating,
            name: name.to_owned(),
            summary: summary.to_owned(),
            sample_config: String::new(),
            config_schema: String::new(),
            api_schema: String::new(),
            is_serial: false,
            is_hot_config: false,
            is_always_on: false,
        }
    }

    #[test]
    fn what_a_process_says_of_a_library_has_the_limits_of_its_tables() {
        let check = |name: &str, components: Vec<ComponentInfo>| {
            let texts = (name.to_owned(), String::new(), String::new());
            let found = sound(texts, components);
            found.map(|it| it.components.len()).map_err(|reason| reason.to_string())
        };
        let one = || vec![component("one", "")];
        assert_eq!(check("x", one()), Ok(1));

        let refused = |reason: &str| Err(reason.to_owned());
        assert_eq!(check("", one()), refused("its name is missing"));
        assert_eq!(check("x", Vec::new()), refused("its list of components is missing"));
        let many = vec![component("one", ""); 65];
        assert_eq!(check("x", many), refused("has 65 components, at most 64 are accepted"));
        let long = vec![component("one", &"x".repeat(1024 * 1024 + 1))];
        let too_long = "its summary of `one` is 1048577 bytes long, at most 1048576 are accepted";
        assert_eq!(check("x", long), refused(too_long));
        let unnamed = vec![component("One", "")];
        assert!(check("x", unnamed).unwrap_err().starts_with("the name `One` is not of the form"));
    }
}
