//! `rated.toml`, section by section.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use tracing_subscriber::EnvFilter;

use super::document::Value;
use super::problem::{Place, ProblemKind, Refusal, nearest};
use super::reader::{Field, TableReader, did_you_mean, into_text};
use super::{
    CollectConfig, Config, DaemonConfig, InstanceConfig, Isolation, LedgerConfig, LibraryConfig,
    LogFormat, ModuleDefaults, PluginsConfig, RetryConfig, STATIC_FETCHER, Start, api_section,
    schedule, source,
};
use crate::ledger::Retention;
use crate::usage::{CALENDAR_ATTRIBUTES, Period, ScopeId};

const SECONDS_OF_DAY: u32 = 86_400;
/// The plugin that measures this machine.
const DEFAULT_SOURCE: &str = "host";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Longest name of an attribute, bytes.
pub(super) const ATTRIBUTE_NAME_SIZE_MAX: usize = 128;
/// Most scopes that `[fetchers.static]` may list.
const STATIC_SCOPES_MAX: usize = 100_000;

/// All but the metrics.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) metrics_path: PathBuf,
}

pub(super) fn read(root: &mut TableReader<'_>, source: &Path) -> Draft {
    let folder = source.parent().unwrap_or(Path::new(""));
    let daemon = read_daemon(root.table("daemon"), folder);
    let api = api_section::read(root.table("api"), folder);
    let plugins = read_plugins(root.table("plugins"));
    let ledger = read_ledger(root.table("ledger"));
    let mut collectors = read_instances(root.table("collectors"));
    let (mut fetchers, static_scopes) = read_fetchers(root.table("fetchers"));
    let (rating, rating_defaults) = read_rating(root.table("rating"));
    let mut section = root.table("collect");
    let metrics = section.text("metrics").map_or("metrics.toml".to_owned(), |field| field.value);
    let collect = read_collect(section, &mut collectors, &mut fetchers);
    let source = source.to_owned();
    let config = Config {
        source,
        exposed_secret: None,
        daemon,
        api,
        collect,
        plugins,
        collectors,
        fetchers,
        static_scopes,
        rating,
        rating_defaults,
        ledger,
    };
    Draft { config, metrics_path: folder.join(metrics) }
}

fn read_daemon(mut section: TableReader<'_>, folder: &Path) -> DaemonConfig {
    let state_dir = section.text("state_dir").map_or("/var/lib/rated".to_owned(), |it| it.value);
    let plugin_dirs = match section.texts("plugin_dirs") {
        Some(list) => {
            list.value.into_iter().map(|text| source::resolve(folder, &text.value)).collect()
        }
        None => vec![PathBuf::from("/usr/lib/rated/plugins")],
    };
    let log = section.text("log").map_or("info".to_owned(), |field| {
        check_log(&section, &field);
        field.value
    });
    let log_format = section.choice(
        "log_format",
        &["text", "json"],
        &[LogFormat::Text, LogFormat::Json],
        LogFormat::Text,
    );
    let hint = "`shutdown_grace_secs` is how long work in flight may take at a stop, in seconds";
    let shutdown_grace_secs = section.integer("shutdown_grace_secs", 1..=3600, 30, hint);
    section.finish();
    let state_dir = source::resolve(folder, &state_dir);
    DaemonConfig { state_dir, plugin_dirs, log, log_format, shutdown_grace_secs }
}

/// A word that is no level would be read as the name of a module, and silence the log.
fn check_log(section: &TableReader<'_>, field: &Field<String>) {
    let word = field.value.as_str();
    let is_word = !word.contains(['=', ',', '[', ':']);
    if (is_word && !LEVELS.contains(&word.to_lowercase().as_str()))
        || EnvFilter::try_new(word).is_err()
    {
        let wanted = "a level or a list such as `warn,rated::cycle=debug`";
        let hint = match nearest(word, LEVELS) {
            Some(level) => did_you_mean(level),
            None => format!("levels are {}", LEVELS.join(", ")),
        };
        section.refuse(field, ProblemKind::Malformed { wanted, got: word.to_owned() }, Some(hint));
    }
}

fn read_plugins(mut section: TableReader<'_>) -> PluginsConfig {
    let hint = "`threads` is how many calls into plugins may run at the same time";
    let threads = section.integer("threads", 1..=1024, 16_u32, hint);
    let hint = "`call_deadline_secs` is in seconds";
    let call_deadline_secs = section.integer("call_deadline_secs", 1..=3600, 60, hint);
    let hint = "`call_grace_secs` is in seconds";
    let call_grace_secs = section.integer("call_grace_secs", 1..=600, 10, hint);
    let hint = "`process_memory_mib` is in MiB, for each plugin in a process of its own";
    let process_memory_mib = section.integer("process_memory_mib", 64..=1_048_576, 1024, hint);
    let hint = "`keep_libraries` counts those that rated something; 0 = none that was replaced";
    let keep_libraries = section.integer("keep_libraries", 0..=1000, 32_u32, hint);
    let mut libraries = BTreeMap::new();
    for (name, mut library) in section.table("libraries").into_tables() {
        let sha256 = library.take("sha256", |value| {
            let text = into_text(value)?.to_lowercase();
            let sound = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let wanted = "64 hexadecimal digits";
            if sound { Ok(text) } else { Err(ProblemKind::Malformed { wanted, got: text }) }
        });
        let sha256 = sha256.map(|field| field.value);
        let trusted = library.boolean("trusted", false);
        library.finish();
        libraries.insert(name, LibraryConfig { sha256, trusted });
    }
    section.finish();
    let threads = usize::try_from(threads).expect("at most 1024");
    let keep_libraries = usize::try_from(keep_libraries).expect("at most 1000");
    PluginsConfig {
        threads,
        call_deadline_secs,
        call_grace_secs,
        process_memory_mib,
        keep_libraries,
        libraries,
    }
}

fn read_ledger(mut section: TableReader<'_>) -> LedgerConfig {
    let hint = "`cache_size_mib` is in MiB";
    let cache_size_mib = section.integer("cache_size_mib", 16..=1_048_576, 64, hint);
    let hint = "`disk_reserve_mib` is in MiB; 0 = none";
    let disk_reserve_mib = section.integer("disk_reserve_mib", 0..=1_048_576, 64, hint);
    let hint = "`compaction_percent` is a share of the time; 0 = never";
    let compaction_percent = section.integer("compaction_percent", 0..=100, 10_u8, hint);
    let hint = "`keep_generations` counts the figures of now, too; 1 = none from before";
    let keep_generations = section.integer("keep_generations", 1..=100, 2_u32, hint);
    let retention = read_retention(&mut section, compaction_percent);
    section.finish();
    LedgerConfig {
        cache_size_mib,
        disk_reserve_mib,
        compaction_percent,
        keep_generations,
        retention,
    }
}

/// A hundred years.
const DAYS_MAX: u32 = 36_500;

fn read_retention(section: &mut TableReader<'_>, compaction_percent: u8) -> Retention {
    let mut months = |key, hint| {
        let place = section.place_of(key);
        let months = section.integer(key, 0..=1200, 0_u32, hint);
        (place, (months > 0).then_some(months))
    };
    let (rows_place, rows_months) =
        months("keep_months", "`keep_months` counts whole months before this one; 0 = all");
    let (sums_place, sums_months) = months(
        "keep_rollups_months",
        "`keep_rollups_months` counts whole months before this one; 0 = all",
    );
    let mut limit = |key, max, default: u32, hint| {
        let kept = section.integer(key, 0..=max, default, hint);
        (kept > 0).then_some(kept)
    };
    let hint = "`keep_push_keys_days` counts from the push on; 0 = for ever";
    let push_keys_days = limit("keep_push_keys_days", DAYS_MAX, 400, hint);
    let hint = "`keep_reprocessings` counts finished ones; 0 = all";
    let reprocessings = limit("keep_reprocessings", 1_000_000, 1000, hint);
    let hint = "`keep_rules_days` counts from when they were replaced on; 0 = for ever";
    let rules_days = limit("keep_rules_days", DAYS_MAX, 400, hint);
    let refuse = |place: &Place, key: &str, reason| {
        let kind = ProblemKind::Refused { reason };
        section.fault(place.clone(), &section.name_of(key), kind, None);
    };
    if sums_months.is_some_and(|sums| rows_months.is_none_or(|rows| rows > sums)) {
        refuse(&sums_place, "keep_rollups_months", Refusal::RowsKeptLonger);
    }
    if rows_months.is_some() && compaction_percent == 0 {
        refuse(&rows_place, "keep_months", Refusal::NothingGivesRoom);
    }
    Retention { rows_months, sums_months, push_keys_days, reprocessings, rules_days }
}

/// The options that every instance has; the plugin's own are read last.
fn read_instance(section: &mut TableReader<'_>) -> InstanceConfig {
    let plugin = section.text("plugin").map(|field| {
        check_name(section, &field);
        field.value
    });
    let required = section.boolean("required", true);
    let isolation = section.choice(
        "isolation",
        &["thread", "process"],
        &[Isolation::Thread, Isolation::Process],
        Isolation::Thread,
    );
    InstanceConfig { plugin, required, isolation, config: serde_json::Map::new() }
}

/// Names of instances and components: they stand in logs, in URLs and in the ledger.
fn check_name(section: &TableReader<'_>, field: &Field<String>) {
    let mut bytes = field.value.bytes();
    let sound = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && field.value.len() <= 32;
    if !sound {
        let wanted = "a name of at most 32 lower-case letters, digits and hyphens";
        let kind = ProblemKind::Malformed { wanted, got: field.value.clone() };
        section.refuse(field, kind, Some("it begins with a letter".to_owned()));
    }
}

fn read_named(section: TableReader<'_>) -> Vec<(String, TableReader<'_>)> {
    let tables = section.into_tables();
    for (name, section) in &tables {
        let field =
            Field { value: name.clone(), place: section.place().clone(), name: section.path() };
        check_name(section, &field);
    }
    tables
}

fn read_instances(section: TableReader<'_>) -> BTreeMap<String, InstanceConfig> {
    let mut instances = BTreeMap::new();
    for (name, mut section) in read_named(section) {
        let instance = read_instance(&mut section);
        let config = section.into_json();
        instances.insert(name, InstanceConfig { config, ..instance });
    }
    instances
}

fn read_fetchers(mut section: TableReader<'_>) -> (BTreeMap<String, InstanceConfig>, Vec<ScopeId>) {
    let mut scopes: Vec<ScopeId> = Vec::new();
    let mut fixed = section.table(STATIC_FETCHER);
    if let Some(list) = fixed.texts("scopes") {
        if list.value.len() > STATIC_SCOPES_MAX {
            let kind = ProblemKind::TooMany { max: STATIC_SCOPES_MAX, got: list.value.len() };
            fixed.refuse(&list, kind, None);
        }
        let mut seen = std::collections::HashSet::new();
        for field in &list.value {
            match ScopeId::new(&field.value) {
                Ok(scope) if seen.insert(scope.clone()) => scopes.push(scope),
                Ok(_) => {
                    fixed.refuse(field, ProblemKind::Repeated { name: field.value.clone() }, None);
                }
                Err(error) => fixed.refuse(field, ProblemKind::ScopeId(error), None),
            }
        }
    }
    fixed.finish();
    (read_instances(section), scopes)
}

type Rating = (BTreeMap<String, InstanceConfig>, BTreeMap<String, ModuleDefaults>);

fn read_rating(section: TableReader<'_>) -> Rating {
    let (mut rating, mut defaults) = (BTreeMap::new(), BTreeMap::new());
    for (name, mut section) in read_named(section) {
        let instance = read_instance(&mut section);
        let enabled = section.boolean("enabled", true);
        let hint = "modules with a higher `priority` rate first";
        let bounds = -1_000_000..=1_000_000;
        let priority = section.integer("priority", bounds, 1_i64, hint);
        defaults.insert(name.clone(), ModuleDefaults { enabled, priority });
        let config = section.into_json();
        rating.insert(name, InstanceConfig { config, ..instance });
    }
    (rating, defaults)
}

fn read_collect(
    mut section: TableReader<'_>,
    collectors: &mut BTreeMap<String, InstanceConfig>,
    fetchers: &mut BTreeMap<String, InstanceConfig>,
) -> CollectConfig {
    let period_secs = read_period_secs(&mut section);
    let start = read_start(&mut section, period_secs);
    let schedule = read_schedule(&mut section);
    let hint = "`wait_periods` is how many periods a source gets to be complete";
    let wait_periods = section.integer("wait_periods", 0..=10_000, 2, hint);
    let hint = "`slice_scopes_max` is how many scopes are asked for at once";
    let slice_scopes_max = section.integer("slice_scopes_max", 1..=100_000, 1000_u32, hint);
    let hint = "`slices_in_flight_max` is how many questions to sources may be open at once";
    let slices_in_flight_max = section.integer("slices_in_flight_max", 1..=1024, 8_u32, hint);
    let scope_key = read_scope_key(&mut section);
    let collector = read_collector(&mut section, collectors);
    let fetchers = read_fetcher_names(&mut section, fetchers);
    let retry = read_retry(section.table("retry"));
    section.finish();
    CollectConfig {
        schedule,
        period_secs,
        wait_periods,
        scope_key,
        collector,
        fetchers,
        start,
        retry,
        metrics: Vec::new(),
        slice_scopes_max: usize::try_from(slice_scopes_max).expect("at most 100000"),
        slices_in_flight_max: usize::try_from(slices_in_flight_max).expect("at most 1024"),
    }
}

fn read_period_secs(section: &mut TableReader<'_>) -> u32 {
    const DEFAULT: u32 = 3600;
    let place = section.place_of("period_secs");
    let hint = "`period_secs` is in seconds";
    let period_secs = section.integer("period_secs", 10..=SECONDS_OF_DAY, DEFAULT, hint);
    if SECONDS_OF_DAY.is_multiple_of(period_secs) {
        return period_secs;
    }
    let divides = |candidate: &u32| SECONDS_OF_DAY.is_multiple_of(*candidate);
    let below = (10..period_secs).rev().find(divides).unwrap_or(10);
    let above = (period_secs..=SECONDS_OF_DAY).find(divides).unwrap_or(SECONDS_OF_DAY);
    let kind = ProblemKind::NotDivisor { whole: SECONDS_OF_DAY, got: period_secs };
    let hint = format!("so that every day begins with a period; {below} and {above} do");
    section.fault(place, &section.name_of("period_secs"), kind, Some(hint));
    DEFAULT
}

fn read_start(section: &mut TableReader<'_>, period_secs: u32) -> Start {
    // Unquoted, TOML has dates of its own.
    let field = section.take("start", |value| match value {
        Value::Time(text) => Ok(text),
        other => into_text(other),
    });
    let Some(field) = field else { return Start::Month };
    match field.value.as_str() {
        "month" => return Start::Month,
        "now" => return Start::Now,
        _ => {}
    }
    let aligned = DateTime::parse_from_rfc3339(&field.value)
        .ok()
        .and_then(|instant| Period::containing(instant.with_timezone(&Utc), period_secs));
    if let Some(period) = aligned {
        return Start::At(period.begin());
    }
    let wanted = "`month`, `now` or a date with time and offset";
    let kind = ProblemKind::Malformed { wanted, got: field.value.clone() };
    section.refuse(&field, kind, Some("such as `2026-11-01T00:00:00Z`".to_owned()));
    Start::Month
}

fn read_schedule(section: &mut TableReader<'_>) -> cron::Schedule {
    let written = section.text("schedule");
    if let Some(field) = written {
        match schedule::parse(&field.value) {
            Ok(schedule) => return schedule,
            Err((kind, hint)) => section.refuse(&field, kind, Some(hint)),
        }
    }
    schedule::parse(schedule::EXAMPLE).expect("a test parses it")
}

fn read_scope_key(section: &mut TableReader<'_>) -> String {
    let Some(field) = section.text("scope_key") else { return "project_id".to_owned() };
    let reserved = ProblemKind::Refused { reason: Refusal::CalendarAttribute };
    let is_calendar = CALENDAR_ATTRIBUTES.contains(&field.value.as_str());
    let sound = check_attribute(&field.value);
    if let Err(kind) = sound.and(if is_calendar { Err(reserved) } else { Ok(()) }) {
        section.refuse(&field, kind, None);
    }
    field.value
}

/// Names of attributes are names of columns.
pub(super) fn check_attribute(name: &str) -> Result<(), ProblemKind> {
    if name.is_empty() {
        return Err(ProblemKind::Empty);
    }
    if name.len() > ATTRIBUTE_NAME_SIZE_MAX || name.chars().any(char::is_control) {
        let wanted = "a name of at most 128 bytes without control characters";
        return Err(ProblemKind::Malformed { wanted, got: name.escape_debug().to_string() });
    }
    Ok(())
}

fn read_collector(
    section: &mut TableReader<'_>,
    collectors: &mut BTreeMap<String, InstanceConfig>,
) -> String {
    let Some(field) = section.text("collector") else {
        collectors.entry(DEFAULT_SOURCE.to_owned()).or_insert_with(unconfigured);
        return DEFAULT_SOURCE.to_owned();
    };
    if !collectors.contains_key(&field.value) {
        let (kind, hint) = missing_instance("collector", &field.value, collectors.keys());
        section.refuse(&field, kind, Some(hint));
    }
    field.value
}

fn read_fetcher_names(
    section: &mut TableReader<'_>,
    fetchers: &mut BTreeMap<String, InstanceConfig>,
) -> Vec<String> {
    let Some(list) = section.texts("fetchers") else {
        fetchers.entry(DEFAULT_SOURCE.to_owned()).or_insert_with(unconfigured);
        return vec![DEFAULT_SOURCE.to_owned()];
    };
    let mut names: Vec<String> = Vec::new();
    for field in list.value {
        if names.contains(&field.value) {
            section.refuse(&field, ProblemKind::Repeated { name: field.value.clone() }, None);
        }
        if field.value != STATIC_FETCHER && !fetchers.contains_key(&field.value) {
            let (kind, hint) = missing_instance("fetcher", &field.value, fetchers.keys());
            section.refuse(&field, kind, Some(hint));
        }
        names.push(field.value);
    }
    names
}

fn unconfigured() -> InstanceConfig {
    InstanceConfig {
        plugin: None,
        required: true,
        isolation: Isolation::Thread,
        config: serde_json::Map::new(),
    }
}

pub(super) fn missing_instance<'a>(
    what: &'static str,
    name: &str,
    configured: impl Iterator<Item = &'a String>,
) -> (ProblemKind, String) {
    let hint = match nearest(name, configured.map(String::as_str)) {
        Some(meant) => did_you_mean(meant),
        None => format!("it needs a section `[{what}s.{name}]`, which may be empty"),
    };
    (ProblemKind::Unconfigured { what, name: name.to_owned() }, hint)
}

fn read_retry(mut section: TableReader<'_>) -> RetryConfig {
    let place = section.place_of("delay_secs_max");
    let hint = "`delay_secs_min` is the first delay after a failure, in seconds; it doubles";
    let delay_secs_min = section.integer("delay_secs_min", 1..=3600, 5, hint);
    let hint = "`delay_secs_max` is the longest delay after failures, in seconds";
    let delay_secs_max = section.integer("delay_secs_max", 1..=SECONDS_OF_DAY, 3600, hint);
    if delay_secs_max < delay_secs_min {
        let kind = ProblemKind::Refused { reason: Refusal::DelayBelowMinimum };
        section.fault(place, &section.name_of("delay_secs_max"), kind, None);
    }
    section.finish();
    RetryConfig { delay_secs_min, delay_secs_max }
}
