//! New code under way: the new generation is whole and checked before anybody sees it.

use std::path::PathBuf;

use tracing::{info, warn};

use super::error::{PluginHostError, Refusal};
use super::file::Content;
use super::generation::{self, CheckFailed, Generation};
use super::host::{Candidates, GENERATIONS_MAX, PluginHost};
use crate::fault::{Step, passed};

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadReport {
    /// The generation in use now.
    pub generation: u64,
    /// Libraries that were not there before, or with another content.
    pub changed: Vec<PathBuf>,
    /// Libraries that are not there any more.
    pub removed: Vec<PathBuf>,
    /// What was refused before and still is.
    pub refused: Vec<Refusal>,
    /// Instances whose outside world does not answer; they are used all the same.
    pub warnings: Vec<String>,
    /// Nothing was to be done.
    pub unchanged: bool,
}

pub(super) fn reload(host: &PluginHost) -> Result<ReloadReport, PluginHostError> {
    let mut loaded = host.lock_loaded();
    if host.is_stopped() {
        return Err(PluginHostError::Stopped);
    }
    passed(Step::ReloadBegun);
    let old = host.generation();
    let candidates = host.candidates();
    let (changed, removed) =
        if host.is_embedded() { Default::default() } else { difference(&old, &candidates) };
    let brings_code = |(path, content): &(PathBuf, Content)| {
        !host.is_started(path, &content.sha256, &loaded.started) && !host.runs_apart(path, content)
    };
    if loaded.generations >= GENERATIONS_MAX && candidates.files.iter().any(brings_code) {
        let (loaded, max) = (loaded.generations, GENERATIONS_MAX);
        return Err(PluginHostError::TooManyGenerations { loaded, max });
    }
    let before = loaded.started.clone();
    let nothing_new = candidates.refused.iter().all(|refusal| old.refused.contains(refusal));
    if changed.is_empty() && removed.is_empty() && nothing_new && !old.is_ailing() {
        return Ok(unchanged(&old));
    }
    let new = host.build(candidates, &mut loaded)?;
    let known =
        |info: &super::library::LibraryInfo| host.is_started(&info.path, &info.sha256, &before);
    let (failed, warnings) = generation::check(&new, CheckFailed::Strict, known);
    let mut worse: Vec<Refusal> =
        new.refused.iter().filter(|refusal| !old.refused.contains(refusal)).cloned().collect();
    worse.extend(failed);
    if !worse.is_empty() {
        for refusal in &worse {
            warn!(reason = %refusal, "A reload is refused, the plugins that run stay.");
        }
        return Err(PluginHostError::Refused(worse));
    }
    let report = ReloadReport {
        generation: new.number,
        changed,
        removed,
        refused: new.refused.clone(),
        warnings,
        unchanged: false,
    };
    passed(Step::ReloadChecked);
    host.swap(new)?;
    let (generation, changed) = (report.generation, report.changed.len());
    info!(generation, changed, "Plugins reloaded.");
    Ok(report)
}

fn unchanged(old: &Generation) -> ReloadReport {
    ReloadReport {
        generation: old.number,
        changed: Vec::new(),
        removed: Vec::new(),
        refused: old.refused.clone(),
        warnings: Vec::new(),
        unchanged: true,
    }
}

/// Libraries that are new or changed, and those that are gone. What was refused with the same
/// content is neither.
fn difference(old: &Generation, candidates: &Candidates) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let was_there = |path: &PathBuf, sha256: &str| {
        let used = old.libraries.iter().any(|info| info.path == *path && info.sha256 == sha256);
        used || old.refused.iter().any(|refusal| refusal.is_of(path, sha256))
    };
    let changed = candidates
        .files
        .iter()
        .filter(|(path, content)| !was_there(path, &content.sha256))
        .map(|(path, _)| path.clone())
        .collect();
    let removed = old
        .libraries
        .iter()
        .filter(|info| !candidates.files.iter().any(|(path, _)| *path == info.path))
        .map(|info| info.path.clone())
        .collect();
    (changed, removed)
}
