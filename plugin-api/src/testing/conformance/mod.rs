//! What every plugin must bear, checked through its tables.

mod component;
mod rating;
mod samples;
mod sources;

use std::collections::BTreeSet;
use std::fmt;

use crate::private::is_component_name;
use crate::raw::{
    ABI_MAJOR, ABI_MINOR, ComponentDecl, FLAG_UNWINDS, KIND_COLLECTOR, KIND_FETCHER, KIND_RATING,
    MAGIC, PluginDecl,
};
use crate::thunk::driver::{components, static_text};
use crate::{Error, Result, Status};

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// What was wrong.
    Failed(String),
    /// Why it could not be tried.
    Skipped(String),
}

/// One check of [`check_plugin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Kind and name (`rating module flat`); empty for the plugin as a whole.
    pub component: String,
    /// A claim: `an unknown key is refused`.
    pub name: &'static str,
    /// Whether it holds.
    pub outcome: Outcome,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component = if self.component.is_empty() { "plugin" } else { &self.component };
        match &self.outcome {
            Outcome::Passed => write!(f, "pass  {component}: {}", self.name),
            Outcome::Failed(why) => write!(f, "FAIL  {component}: {}: {why}", self.name),
            Outcome::Skipped(why) => write!(f, "skip  {component}: {}: {why}", self.name),
        }
    }
}

/// Checks everything that can be checked of a plugin without its source of data, through its
/// tables, on a host in memory that has no network.
///
/// `plugin` was made by [`declare!`](crate::declare) or [`export!`](crate::export), or comes from a
/// library that is trusted to keep to the C header: a declaration with wild pointers cannot be told
/// from a good one.
pub fn check_plugin(plugin: &'static PluginDecl) -> Vec<Check> {
    let mut checks = Checks::new(String::new());
    checks.run("the declaration is complete", || declaration(plugin));
    let mut all = checks.done;
    if all.iter().any(|check| matches!(check.outcome, Outcome::Failed(_))) {
        return all;
    }
    for component in components(plugin).unwrap_or_default() {
        let mut checks = Checks::new(format!("{} {}", kind(component), name(component)));
        if component::check(component, &mut checks) {
            match component.kind {
                KIND_COLLECTOR => sources::check_collector(component, &mut checks),
                KIND_FETCHER => sources::check_fetcher(component, &mut checks),
                _ => rating::check(component, &mut checks),
            }
        }
        all.append(&mut checks.done);
    }
    all
}

/// [`check_plugin`] for a test of one line; panics with the list of what failed.
///
/// ```
/// # mod noop {
/// #     use rated_plugin::*;
/// #     #[derive(serde::Deserialize)]
/// #     #[serde(deny_unknown_fields)]
/// #     pub struct Config {}
/// #     pub struct Noop;
/// #     impl Component for Noop {
/// #         const NAME: &'static str = "noop";
/// #         const SUMMARY: &'static str = "Leaves every price as it is";
/// #         const SAMPLE_CONFIG: &'static str = "";
/// #         type Config = Config;
/// #         fn create(_: Config, _: Host) -> Result<Noop> { Ok(Noop) }
/// #     }
/// #     impl RatingModule for Noop {
/// #         type Rater = Noop;
/// #         fn prepare(&self, _: &Call, _: AsOf) -> Result<Noop> { Ok(Noop) }
/// #     }
/// #     impl Rater for Noop {
/// #         fn rate(&self, _: &Call, _: &RateRequest, usage: &arrow_array::RecordBatch)
/// #             -> Result<arrow_array::RecordBatch> {
/// #             PriceBatch::unchanged(&UsageBatch::new(usage)?)
/// #         }
/// #     }
/// # }
/// # use noop::Noop;
/// rated_plugin::testing::conformance(rated_plugin::declare! { rating_modules: [Noop] });
/// ```
pub fn conformance(plugin: &'static PluginDecl) {
    let failed: Vec<String> = check_plugin(plugin)
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Failed(_)))
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "the plugin does not conform:\n{}", failed.join("\n"));
}

/// Why a check failed.
type Verdict = Result<(), String>;

/// Collects the checks of one component.
struct Checks {
    component: String,
    done: Vec<Check>,
}

impl Checks {
    fn new(component: String) -> Checks {
        Checks { component, done: Vec::new() }
    }

    /// Runs a check; whether it passed.
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> Verdict) -> bool {
        let outcome = match check() {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(why),
        };
        let passed = outcome == Outcome::Passed;
        self.done.push(Check { component: self.component.clone(), name, outcome });
        passed
    }

    fn skip(&mut self, name: &'static str, why: impl Into<String>) {
        let outcome = Outcome::Skipped(why.into());
        self.done.push(Check { component: self.component.clone(), name, outcome });
    }
}

/// A condition with what to say when it does not hold.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}

/// `what: error`, with the status, for people.
fn said(what: &str, error: &Error) -> String {
    format!("{what}: {}: {}", error.status.name(), error.message)
}

/// An error must be the world's and explain itself; a panic or an internal error is the plugin's
/// own mistake.
fn explained<T>(what: &str, outcome: Result<T>) -> Result<Option<T>, String> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.status, Status::Panic | Status::Internal | Status::End) => {
            Err(said(what, &error))
        }
        Err(error) if error.message.is_empty() => {
            Err(format!("{what}: {} without a message", error.status.name()))
        }
        Err(_) => Ok(None),
    }
}

fn kind(component: &ComponentDecl) -> &'static str {
    match component.kind {
        KIND_COLLECTOR => "collector",
        KIND_FETCHER => "fetcher",
        KIND_RATING => "rating module",
        _ => "component",
    }
}

fn name(component: &ComponentDecl) -> &'static str {
    static_text(component.name).unwrap_or("?")
}

fn declaration(plugin: &'static PluginDecl) -> Verdict {
    ensure(plugin.magic == MAGIC, || "`magic` is wrong".to_owned())?;
    let offered = 0..=ABI_MINOR;
    ensure(plugin.abi_major == ABI_MAJOR && offered.contains(&plugin.abi_minor), || {
        format!(
            "needs interface {}.{}, this is {ABI_MAJOR}.{ABI_MINOR}",
            plugin.abi_major, plugin.abi_minor
        )
    })?;
    let size = usize::try_from(plugin.struct_size).unwrap_or(0);
    ensure(size >= size_of::<PluginDecl>(), || "`struct_size` is too small".to_owned())?;
    ensure(plugin.flags & FLAG_UNWINDS != 0, || "the flag for unwinding is not set".to_owned())?;
    for (what, text) in
        [("name", plugin.name), ("version", plugin.version), ("built_with", plugin.built_with)]
    {
        let text = static_text(text).map_err(|error| said(what, &error))?;
        ensure(!text.is_empty(), || format!("`{what}` is empty"))?;
    }
    let components = components(plugin).map_err(|error| said("components", &error))?;
    ensure(!components.is_empty(), || "no component".to_owned())?;
    let mut seen = BTreeSet::new();
    for component in components {
        described(component).map_err(|why| format!("component `{}`: {why}", name(component)))?;
        ensure(seen.insert((component.kind, name(component))), || {
            format!("two {}s are called `{}`", kind(component), name(component))
        })?;
    }
    Ok(())
}

fn described(component: &'static ComponentDecl) -> Verdict {
    ensure(component.struct_size >= size_of::<ComponentDecl>(), || {
        "`struct_size` is too small".to_owned()
    })?;
    ensure(matches!(component.kind, KIND_COLLECTOR | KIND_FETCHER | KIND_RATING), || {
        format!("kind {} is not known", component.kind)
    })?;
    ensure(is_component_name(name(component)), || {
        "the name does not match [a-z][a-z0-9-]{0,31}".to_owned()
    })?;
    let text = |what: &str, text| static_text(text).map_err(|error| said(what, &error));
    let summary = text("summary", component.summary)?;
    ensure(!summary.is_empty() && summary.lines().count() == 1, || {
        "the summary is not one line".to_owned()
    })?;
    for (what, json) in
        [("config_schema", component.config_schema), ("api_schema", component.api_schema)]
    {
        let json = text(what, json)?;
        let is_object = || serde_json::from_str::<serde_json::Map<_, _>>(json).is_ok();
        ensure(json.is_empty() || is_object(), || format!("`{what}` is no JSON object"))?;
    }
    Ok(())
}
