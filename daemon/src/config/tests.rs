use std::fs;

use rust_decimal::Decimal;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::ledger::Retention;
use crate::usage::{Factor, Mutation};

pub(super) const METRICS: &str = "[[metric]]\nname = \"cpu\"\nunit = \"s\"\n";

/// Writes both files and loads them, with these variables.
pub(super) fn load_with(
    rated: &str,
    metrics: &str,
    variables: &[(&str, &str)],
) -> Result<Config, String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rated.toml");
    fs::write(&path, rated).unwrap();
    fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    let environment = variables.iter().map(|(name, text)| ((*name).into(), (*text).into()));
    Config::load(&path, environment)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

pub(super) fn load(rated: &str) -> Result<Config, String> {
    load_with(rated, METRICS, &[])
}

fn load_metrics(metrics: &str) -> Result<Vec<crate::usage::Metric>, String> {
    load_with("", metrics, &[]).map(|config| config.collect.metrics)
}

#[track_caller]
fn check(rated: &str, error: &str) {
    assert_eq!(load(rated).expect_err("it must be refused"), error);
}

#[track_caller]
fn check_metrics(fields: &str, error: &str) {
    let text = format!("[[metric]]\nname = \"cpu\"\nunit = \"s\"\n{fields}\n");
    assert_eq!(load_metrics(&text).expect_err("it must be refused"), error);
}

#[test]
fn an_empty_file_is_the_default() {
    let config = load("").unwrap();

    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8889");
    assert_eq!(config.collect.period_secs, 3600);
    assert_eq!(config.collect.wait_periods, 2);
    assert_eq!(config.collect.start, Start::Month);
    assert_eq!(config.collect.collector, "host");
    assert!(config.collectors.contains_key("host"));
    assert!(config.fetchers.contains_key("host"));
    assert_eq!(config.collect.slice_scopes_max, 1000);
    assert_eq!(config.collect.slices_in_flight_max, 8);
    assert_eq!(config.ledger.cache_size_mib, 64);
    assert_eq!(config.ledger.disk_reserve_mib, 64);
    assert_eq!(config.ledger.compaction_percent, 10);
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rated.toml");
    let text = "[daemon]\nstate_dir = \"../state\"\nplugin_dirs = [\"a\", \"/b\"]\n";
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("metrics.toml"), METRICS).unwrap();

    let config = Config::load(&path, std::iter::empty()).unwrap();

    let folder = folder.path().canonicalize().unwrap();
    assert_eq!(config.daemon.state_dir, folder.parent().unwrap().join("state"));
    assert_eq!(config.daemon.plugin_dirs, [folder.join("a"), "/b".into()]);
}

#[test]
fn a_value_out_of_bounds_is_named_with_both_bounds() {
    check(
        "[collect]\n\nperiod_secs = 5",
        "cannot read `rated.toml`: line 3: `collect.period_secs`: must be between 10 and 86400, \
         got 5\n\
         (hint: `period_secs` is in seconds)",
    );
    check(
        "[collect]\nperiod_secs = 7000",
        "cannot read `rated.toml`: line 2: `collect.period_secs`: must divide 86400, got 7000\n\
         (hint: so that every day begins with a period; 5760 and 7200 do)",
    );
    check(
        "[collectors.host]\nisolation = \"proces\"",
        "cannot read `rated.toml`: line 2: `collectors.host.isolation`: must be one of \
         `thread`, `process`, got `proces`\n(hint: did you mean `process`?)",
    );
    check(
        "[collect.retry]\ndelay_secs_min = 60\ndelay_secs_max = 30",
        "cannot read `rated.toml`: line 3: `collect.retry.delay_secs_max`: \
         must not be below `delay_secs_min`",
    );
    let rows_first = "cannot read `rated.toml`: line 3: `ledger.keep_rollups_months`: needs \
                      `keep_months`, and no more months of it: rows go before their sums";
    check("[ledger]\nkeep_months = 25\nkeep_rollups_months = 24", rows_first);
    check("[ledger]\nkeep_months = 0\nkeep_rollups_months = 24", rows_first);
    check(
        "[ledger]\nkeep_months = 24\ncompaction_percent = 0",
        "cannot read `rated.toml`: line 2: `ledger.keep_months`: needs `compaction_percent` above \
         0, which gives back the room",
    );
    let kept = load("[ledger]\nkeep_months = 24").unwrap().ledger.retention;
    assert_eq!((kept.rows_months, kept.sums_months), (Some(24), None));
    let beside = |kept: Retention| (kept.push_keys_days, kept.reprocessings, kept.rules_days);
    assert_eq!(beside(kept), (Some(400), Some(1000), Some(400)));
    let for_ever = "[ledger]\nkeep_push_keys_days = 0\nkeep_reprocessings = 0\nkeep_rules_days = 0";
    assert_eq!(beside(load(for_ever).unwrap().ledger.retention), (None, None, None));
}

#[test]
fn an_unknown_field_is_an_error_at_every_level() {
    check(
        "[colect]",
        "cannot read `rated.toml`: line 1: `colect`: unknown field\n\
         (hint: did you mean `collect`?)",
    );
    check(
        "[api]\nlisten = \"127.0.0.1:1\"\n[api.cors]\nallowed_origin = []",
        "cannot read `rated.toml`: line 4: `api.cors.allowed_origin`: unknown field\n\
         (hint: did you mean `allowed_origins`?)",
    );
    check("[daemon]\nzzz = 1", "cannot read `rated.toml`: line 2: `daemon.zzz`: unknown field");
    check_metrics(
        "group_by = []",
        "cannot read `metrics.toml`: line 4: metric `cpu`: `group_by`: unknown field\n\
         (hint: did you mean `groupby`?)",
    );
}

#[test]
fn all_problems_of_both_files_are_told_at_once() {
    let error = load_with(
        "[collect]\nperiod_secs = \"x\"\nwait_periods = -1\n[api]\nlisten = 5",
        "[[metric]]\nname = \"cpu\"\nfactor = \"1/0\"\n[[metric]]\nunit = \"s\"",
        &[("RATED__DAEMON__LOG", "inof")],
    )
    .unwrap_err();

    let fields: Vec<&str> = error
        .lines()
        .filter(|line| !line.starts_with('('))
        .filter_map(|line| line.split('`').rev().nth(1))
        .collect();
    assert_eq!(fields.len(), 7, "{error}");
    assert!(
        error.contains("line 2: `collect.period_secs`: must be an integer, got text"),
        "{error}"
    );
    assert!(error.contains("line 5: `api.listen`: must be text, got an integer"), "{error}");
    assert!(error.contains("line 1: metric `cpu`: `unit`: is missing"), "{error}");
    assert!(error.contains("line 4: metric `number 2`: `name`: is missing"), "{error}");
    assert!(error.contains("environment variable `RATED__DAEMON__LOG`: `daemon.log`"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = TempDir::new().unwrap();
    let message = |path: &Path| {
        let error = Config::load(path, std::iter::empty()).unwrap_err();
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    };

    let missing = message(&folder.path().join("no.toml"));
    assert_eq!(missing, "cannot read `DIR/no.toml`: No such file or directory (os error 2)");
    assert_eq!(message(folder.path()), "cannot read `DIR`: is a directory, not a file");
    let path = folder.path().join("latin.toml");
    fs::write(&path, b"a = 1\nb = \"\xff\"").unwrap();
    assert_eq!(message(&path), "cannot read `DIR/latin.toml`: line 2: is not valid UTF-8");
    fs::write(&path, "").unwrap();
    assert_eq!(
        message(&path),
        "cannot read `DIR/metrics.toml`: No such file or directory (os error 2)\n\
         (hint: `collect.metrics` of the configuration names this file)"
    );
}

#[test]
fn text_that_is_not_toml_is_located_and_not_repeated() {
    let error = load("[collectors.acme]\ntoken = \"s3cret\nx = 1").unwrap_err();
    assert!(error.starts_with("cannot read `rated.toml`: line 2: is not TOML: "), "{error}");
    assert!(!error.contains("s3cret"), "{error}");

    let error = load("[collect]\nwait_periods = 1\nwait_periods = 2").unwrap_err();
    assert_eq!(error, "cannot read `rated.toml`: line 3: `wait_periods`: is set twice");
}

#[test]
fn a_bad_schedule_says_which_part() {
    check(
        "[collect]\nschedule = \"*/5 * * * *\"",
        "cannot read `rated.toml`: line 2: `collect.schedule`: \
         must be a cron expression of six fields, got `*/5 * * * *`\n\
         (hint: it has 5 fields; seconds come first: `0 */5 * * * *` is every five minutes)",
    );
}

#[test]
fn the_scope_key_is_no_calendar_attribute() {
    check(
        "[collect]\nscope_key = \"month\"",
        "cannot read `rated.toml`: line 2: `collect.scope_key`: \
         every row has this attribute already, computed from its period",
    );
}

#[test]
fn the_first_period_is_aligned_down() {
    let start = |text: &str| load(&format!("[collect]\nstart = {text}")).unwrap().collect.start;

    let at = |text: &str| Start::At(text.parse().unwrap());
    assert_eq!(start("\"now\""), Start::Now);
    assert_eq!(start("\"2026-11-01T10:20:00Z\""), at("2026-11-01T10:00:00Z"));
    assert_eq!(start("2026-11-01T10:20:00+02:00"), at("2026-11-01T08:00:00Z"));
    assert!(load("[collect]\nstart = \"2026-11-01\"").unwrap_err().contains("2026-11-01T00"));
}

#[test]
fn an_open_api_must_be_meant() {
    assert!(load("[api]\nlisten = \"[::1]:0\"").is_ok());
    let error = load("[api]\nlisten = \"0.0.0.0:8889\"").unwrap_err();
    assert!(error.contains("`api.listen`: everybody who reaches this address"), "{error}");
    assert!(load("[api]\nlisten = \"0.0.0.0:8889\"\nallow_remote_without_auth = true").is_ok());
    assert!(load("[api.cors]\nallowed_origins = [\"https://a.example/\"]").is_err());
}

#[test]
fn names_that_are_used_must_be_configured() {
    check(
        "[collect]\ncollector = \"promethues\"\n[collectors.prometheus]",
        "cannot read `rated.toml`: line 2: `collect.collector`: \
         no collector `promethues` is configured\n(hint: did you mean `prometheus`?)",
    );
    check(
        "[collect]\nfetchers = [\"static\", \"acme\"]",
        "cannot read `rated.toml`: line 2: `collect.fetchers[1]`: no fetcher `acme` is configured\n\
         (hint: it needs a section `[fetchers.acme]`, which may be empty)",
    );
    assert!(load("[collectors.\"Big One\"]").unwrap_err().contains("lower-case"));
}

#[test]
fn a_plugin_gets_its_section_digit_by_digit() {
    let config = load(
        "[rating.hashmap]\nenabled = false\npriority = 7\nplugin = \"hashmap\"\n\
         cost = 0.1000000000000000000000000001\nmask = 0xff\nlist = [{ a = 1_000 }]\n",
    )
    .unwrap();

    let instance = &config.rating["hashmap"];
    assert_eq!(
        serde_json::to_string(&instance.config).unwrap(),
        "{\"cost\":0.1000000000000000000000000001,\"list\":[{\"a\":1000}],\"mask\":255}"
    );
    assert_eq!(instance.plugin.as_deref(), Some("hashmap"));
    assert!(instance.required);
    let defaults = ModuleDefaults { enabled: false, priority: 7 };
    assert_eq!(config.rating_defaults["hashmap"], defaults);
    assert!(load("[rating.hashmap]\ncost = inf").unwrap_err().contains("a finite number"));
}

#[test]
fn secrets_stand_in_no_debug_output() {
    let config = load("[collectors.acme]\npassword = \"s3cret\"").unwrap();

    let text = format!("{config:?}");
    assert!(text.contains("password") && !text.contains("s3cret"), "{text}");
}

#[test]
fn fixed_scopes_are_checked() {
    let config = load("[fetchers.static]\nscopes = [\"a\", \"b\"]").unwrap();
    assert_eq!(config.static_scopes.len(), 2);
    assert!(!config.fetchers.contains_key(STATIC_FETCHER));

    check(
        "[fetchers.static]\nscopes = [\n  \"a\",\n  \"a\",\n  \"\",\n]",
        "cannot read `rated.toml`: line 4: `fetchers.static.scopes[1]`: `a` stands there twice\n\
         cannot read `rated.toml`: line 5: `fetchers.static.scopes[2]`: \
         a scope id must not be empty",
    );
}

#[test]
fn variables_replace_single_values() {
    let config = load_with(
        "[collect]\nperiod_secs = 60\n[collectors.big-one]\ntoken = \"text\"\nsize = 1",
        METRICS,
        &[
            ("RATED__COLLECT__PERIOD_SECS", "120"),
            ("RATED__COLLECT__FETCHERS", "static, host"),
            ("RATED__FETCHERS__HOST__PLUGIN", "host"),
            ("RATED__FETCHERS__STATIC__SCOPES", "a,b"),
            ("RATED__COLLECTORS__BIG_ONE__TOKEN", "12345"),
            ("RATED__COLLECTORS__BIG_ONE__SIZE", "2"),
            ("RATED_LOG", "debug"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();

    assert_eq!(config.collect.period_secs, 120);
    assert_eq!(config.collect.fetchers, ["static", "host"]);
    assert_eq!(config.static_scopes.len(), 2);
    let section = serde_json::Value::Object(config.collectors["big-one"].config.clone());
    assert_eq!(section, json!({ "token": "12345", "size": 2 }));
}

#[test]
fn unknown_variables_are_errors() {
    let error = |name: &str| load_with("", METRICS, &[(name, "1")]).unwrap_err();

    assert_eq!(
        error("RATED__API__LISTN"),
        "environment variable `RATED__API__LISTN`: `api.listn`: unknown field\n\
         (hint: did you mean `RATED__API__LISTEN`?)"
    );
    assert_eq!(
        error("RATED__COLECT__PERIOD_SECS"),
        "environment variable `RATED__COLECT__PERIOD_SECS`: `colect`: unknown field\n\
         (hint: did you mean `RATED__COLLECT__PERIOD_SECS`?)"
    );
    assert_eq!(
        error("RATED__API"),
        "environment variable `RATED__API`: `api`: must be a table, got text"
    );
    assert!(error("RATED__COLLECT__PERIOD_SECS").contains("must be between 10 and 86400, got 1"));
    assert!(error("RATED__API__LISTEN__X").contains("must be text, got a table"));
}

#[test]
fn a_whole_metric_is_read() {
    let metrics = load_metrics(
        "[[metric]]\nname = \"mem\"\nalt_name = \"ram\"\nunit = \"MiB\"\ndescription = \"d\"\n\
         groupby = [\"id\", \"project_id\", \"month\"]\nmetadata = [\"flavor\"]\n\
         factor = \"1/1048576\"\noffset = -0.5\nmutate = \"MAP\"\n\
         mutate_map = { 0 = 1, \"11.0\" = 0.5 }\nskip = \"qty == 0\"\n\
         [metric.extra_args]\naggregation_method = \"max\"\n",
    )
    .unwrap();

    let metric = &metrics[0];
    assert_eq!(metric.id.to_string(), "ram (mem)");
    assert_eq!(metric.groupby, ["id"]);
    assert_eq!(metric.metadata, ["flavor"]);
    let denominator = Decimal::from(1_048_576);
    assert_eq!(metric.factor, Factor { numerator: Decimal::ONE, denominator });
    assert_eq!(metric.offset.to_string(), "-0.5");
    let Mutation::Map(map) = &metric.mutate else { panic!("{:?}", metric.mutate) };
    assert_eq!(map[&Decimal::from(11)].to_string(), "0.5");
    assert!(metric.skip_zero);
    assert_eq!(metric.extra_args["aggregation_method"], "max");
}

#[test]
fn a_bad_metric_names_file_metric_and_field() {
    let prefix = "cannot read `metrics.toml`: line 4: metric `cpu`: ";
    check_metrics(
        "factor = \"1/0\"",
        &format!(
            "{prefix}`factor`: must be a number or a fraction of at most 28 digits such as \
             `\"1/1024\"`, got `1/0`"
        ),
    );
    check_metrics(
        "mutate = \"NUMBOL\"",
        &format!(
            "{prefix}`mutate`: must be one of `NONE`, `NUMBOOL`, `NOTNUMBOOL`, `FLOOR`, `CEIL`, \
             `MAP`, got `NUMBOL`\n(hint: did you mean `NUMBOOL`?)"
        ),
    );
    check_metrics(
        "mutate_map = { 1 = 2 }",
        &format!("{prefix}`mutate_map`: must not be set, because `mutate` is not `MAP`"),
    );
    check_metrics(
        "mutate = \"MAP\"\nmutate_map = { 1 = 2, \"1.0\" = 3 }",
        "cannot read `metrics.toml`: line 5: metric `cpu`: `mutate_map.1.0`: \
         `1.0` stands there twice",
    );
    check_metrics(
        "groupby = [\"id\"]\nmetadata = [\"a\", \"id\"]",
        "cannot read `metrics.toml`: line 5: metric `cpu`: `metadata[1]`: `id`: \
         an attribute of `groupby` must not stand here too",
    );
    check_metrics(
        "collector = \"hots\"",
        &format!(
            "{prefix}`collector`: no collector `hots` is configured\n(hint: did you mean `host`?)"
        ),
    );
    check_metrics(
        "skip = \"price == 0\"",
        &format!(
            "{prefix}`skip`: other expressions than `qty == 0` are not supported yet\n\
             (hint: `skip_zero = true` leaves out zeros)"
        ),
    );
    check_metrics(
        "[[metric]]\nname = \"cpu\"\nunit = \"s\"",
        &format!(
            "{prefix}`alt_name`: another metric has the same `name` and `alt_name`\n\
             (hint: give one of them another `alt_name`)"
        ),
    );
}

#[test]
fn a_file_without_metrics_is_refused() {
    assert_eq!(
        load_metrics("").unwrap_err(),
        "cannot read `metrics.toml`: `metric`: is missing\n\
         (hint: `collect.metrics` of the configuration names this file)"
    );
    let error = load_metrics("metric = 5").unwrap_err();
    assert!(error.contains("a list of tables, each headed `[[metric]]`"), "{error}");
}

/// The folder with the files that users start from.
fn samples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

#[test]
fn the_sample_is_sound() {
    let config = Config::load(&samples().join("rated.toml"), std::iter::empty()).unwrap();

    assert_eq!(config.collect.scope_key, "user");
    assert_eq!(config.collect.period_secs, 10);
    assert_eq!(config.collect.metrics.len(), 4);
    assert!(config.rating_defaults["hashmap"].enabled);
}

/// Lines that begin with `#` and no space are options.
#[test]
fn the_sample_shows_every_option_with_its_default() {
    let text = fs::read_to_string(samples().join("rated.toml")).unwrap();
    let is_option = |rest: &str| !rest.is_empty() && !rest.starts_with(' ');
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_option(rest) => rest,
        _ => line,
    });
    let full = lines.collect::<Vec<_>>().join("\n");

    let metrics = fs::read_to_string(samples().join("metrics.toml")).unwrap();
    let debug = |rated: &str| {
        let mut config = load_with(rated, &metrics, &[]).unwrap();
        config.source.clear();
        config.daemon.state_dir.clear();
        format!("{config:#?}")
    };
    assert_eq!(debug(&full), debug(&text));
}

/// A file with every section: whatever is looked for in it is an option.
const EVERY_SECTION: &str = "
[api]
auth = [\"basic\", \"token\", \"keystone\"]
[api.tls]
[api.basic.users.ada]
[api.token]
[api.keystone]
[collectors.host]
[fetchers.host]
[fetchers.static]
[rating.hashmap]
[plugins.libraries.\"a.so\"]
";

/// The line that shows an option, or one that lists it or names it in words.
fn line_of(lines: &[&str], option: &str) -> Option<usize> {
    let is_shown = |line: &&str| {
        let shown = line.trim_start_matches('#').trim_start().strip_prefix(option);
        shown.is_some_and(|rest| rest.starts_with(" ="))
    };
    let is_listed = |line: &&str| {
        let listed = line.strip_prefix("#   ").and_then(|rest| rest.strip_prefix(option));
        listed.is_some_and(|rest| rest.starts_with(' '))
    };
    let named = format!("`{option}`");
    let is_named = |line: &&str| is_listed(line) || line.contains(&named);
    lines.iter().position(is_shown).or_else(|| lines.iter().position(is_named))
}

/// The comment above an option, which it may share with those right above it, and its line.
fn words_about(lines: &[&str], at: usize) -> String {
    let is_example = |line: &str| line.starts_with("#   ") && !line.starts_with("#   # ");
    let is_text = |line: &str| line.starts_with("# ") && !is_example(line);
    let above = lines[..at].iter().rev();
    let options = above.clone().take_while(|line| !line.is_empty() && !is_text(line)).count();
    let words = above.skip(options).take_while(|line| is_text(line)).count();
    let text = lines[at - options - words..=at].iter().map(|line| line.trim_start_matches('#'));
    text.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_sample_shows_whatever_can_be_set_with_its_bounds() {
    asked::take();
    let metrics = "[[metric]]\nname = \"cpu\"\nunit = \"s\"\nmutate = \"MAP\"\n";
    load_with(EVERY_SECTION, metrics, &[]).unwrap_err();
    let asked = asked::take();
    let texts = ["rated.toml", "metrics.toml"].map(|name| fs::read_to_string(samples().join(name)));
    let text = texts.map(Result::unwrap).join("\n");
    let lines: Vec<&str> = text.lines().collect();

    let mut wrong = Vec::new();
    for (name, number) in &asked {
        let option = name.rsplit('.').next().unwrap();
        let is_section = text.contains(&format!("[{name}]")) || text.contains(&format!("[{name}."));
        let Some(at) = line_of(&lines, option) else {
            if !is_section {
                wrong.push(format!("{name}: is not shown"));
            }
            continue;
        };
        let Some(asked::Number { min, max, default }) = number else { continue };
        let words = words_about(&lines, at);
        if !words.contains(&format!("{min} to {max}")) {
            wrong.push(format!("{name}: no `{min} to {max}` in: {words}"));
        }
        let is_default = format!("{option} = {default}");
        if !words.contains(&is_default) && !words.contains(&format!("Default: {default}.")) {
            wrong.push(format!("{name}: no default {default} in: {words}"));
        }
    }

    assert!(asked.len() > 80, "{asked:?}");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn half_a_file_is_an_error_or_a_configuration_and_never_a_panic() {
    let folder = TempDir::new().unwrap();
    for name in ["rated.toml", "metrics.toml"] {
        for other in ["rated.toml", "metrics.toml"] {
            fs::copy(samples().join(other), folder.path().join(other)).unwrap();
        }
        let text = fs::read_to_string(samples().join(name)).unwrap();
        for end in (0..text.len()).step_by(13).filter(|end| text.is_char_boundary(*end)) {
            fs::write(folder.path().join(name), &text[..end]).unwrap();

            let loaded = Config::load(&folder.path().join("rated.toml"), std::iter::empty());

            let told = loaded.err().map_or(0, |error| error.problems().len());
            assert!(told < 10, "{told} problems from one cut at {end} of {name}");
        }
    }
}
