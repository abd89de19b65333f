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
use crate::plugin::check::{self, COMPONENTS_MAX};
use crate::plugin::error::LoadErrorKind;
use crate::plugin::host_api::Services;
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
        Err(Error::new(Status::Timeout, "nobody says what it holds in time"))
    });
    let reader = asked.map_err(|error| LoadErrorKind::Apart(error.message))?;
    let malformed = |Malformed| LoadErrorKind::Apart("says what makes no sense".to_owned());
    let (described, schemas) = take(reader).map_err(malformed)?;
    sound(described, schemas)
}

fn ask(
    copy: &Path,
    settings: &ProcessSettings,
    services: &Arc<Services>,
    call: &CallState,
) -> Result<Reader> {
    let name = copy.file_stem().unwrap_or_default().to_string_lossy();
    let label: Arc<str> = format!("library/{name}").into();
    let library = Some(copy);
    let launch = Launch { settings, label: &label, library, trusted: false, services };
    let process = Process::start(&launch)?;
    let raw = call.raw(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    let described = process.describe(&Frame { raw: &raw, state: call });
    process.end(services.pool.grace());
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
    let malformed = |Malformed| LoadErrorKind::Apart(String::new());
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
    let found = components.len();
    if found > COMPONENTS_MAX {
        return Err(LoadErrorKind::TooManyComponents { found, max: COMPONENTS_MAX });
    }
    let components = components.into_iter().map(|info| {
        check::check_name(&info.name)?;
        let api_paths = ApiPaths::parse(&info.api_schema)
            .map_err(|reason| LoadErrorKind::ApiSchema { name: info.name.clone(), reason })?;
        Ok(Component { info, api_paths, vtable: None })
    });
    let components = components.collect::<Result<_, _>>()?;
    Ok(Described { name, version, built_with, components })
}
