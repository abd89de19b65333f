//! `kill -9` at every step that the daemon knows of: what was acknowledged is there, each period is
//! in the ledger exactly once, and what came of it is what a run without a kill gives.
//!
//! Each scenario is a way through the daemon: it is gone once undisturbed, then again and again
//! with a kill at one of the steps, a second kill in the start that follows, and an end in peace.
//! Both seed and number of the further kills can be said: `RATED_TEST_SEED`, `RATED_TEST_KILLS`.
#![forbid(unsafe_code)]

mod apart;
mod client;
mod collecting;
mod copying;
mod forgetting;
mod operating;
mod picture;
mod raising;
mod reloading;
mod site;
mod upkeep;

use std::collections::BTreeSet;
use std::fs;

use chrono::{DateTime, Utc};
use rated_tests::{build_folder, rated};

use self::site::kill_everywhere;

#[test]
fn a_daemon_killed_in_its_first_start_or_a_cycle_bills_the_same() {
    kill_everywhere(&collecting::Collecting::new(), &collecting::STEPS);
}

#[test]
fn a_daemon_killed_while_it_is_told_something_forgets_nothing_it_acknowledged() {
    kill_everywhere(&operating::Operating::new(), &operating::STEPS);
}

#[test]
fn a_daemon_killed_while_it_compacts_and_forgets_answers_the_same() {
    kill_everywhere(&upkeep::Upkeep::new(), &upkeep::STEPS);
}

#[test]
fn a_daemon_killed_while_it_raises_an_old_ledger_goes_on_with_it() {
    kill_everywhere(&raising::Raising::new(), &raising::STEPS);
}

#[test]
fn a_daemon_killed_while_it_reloads_or_notes_a_failure_bills_the_same() {
    kill_everywhere(&reloading::Reloading::new(), &reloading::STEPS);
}

#[test]
fn a_daemon_killed_while_plugins_run_apart_leaves_none_behind_and_bills_the_same() {
    kill_everywhere(&apart::Apart::new(), &apart::STEPS);
}

#[test]
fn a_daemon_killed_while_it_forgets_keys_and_rules_forgets_them_once() {
    kill_everywhere(&forgetting::Forgetting::new(), &forgetting::STEPS);
}

#[test]
fn no_step_is_left_out() {
    let (succeeded, listed) = rated(&["kill-steps"]);
    assert!(succeeded, "{listed}");
    let known: BTreeSet<&str> = listed.lines().collect();
    let killed: BTreeSet<&str> = collecting::STEPS
        .iter()
        .chain(&operating::STEPS)
        .chain(&upkeep::STEPS)
        .chain(&raising::STEPS)
        .chain(&reloading::STEPS)
        .chain(&apart::STEPS)
        .chain(&forgetting::STEPS)
        .copied()
        .chain(copying::steps())
        .collect();

    println!("{} steps", known.len());
    assert!(known.len() > 50, "{listed}");
    assert_eq!(killed, known);
}

/// The file that is compiled away is compiled as a release is; so is what is built, where it is.
#[test]
fn a_release_cannot_be_told_to_kill_itself() {
    let folder = build_folder();
    let holds = |path: &std::path::Path| {
        let program = fs::read(path).unwrap();
        let word = b"RATED_KILL_AT";
        program.windows(word.len()).any(|window| window == word)
    };
    assert!(holds(&folder.join("rated")), "a development build can be told");

    let release = folder.with_file_name("release").join("rated");
    if release.exists() {
        assert!(!holds(&release), "{}", release.display());
    }
}

/// What the scenarios with a `steady` source have in common. `scopes` are found, `extra` are
/// further options of `[collect]` and sections.
fn config((begin, end): (DateTime<Utc>, DateTime<Utc>), scopes: usize, extra: &str) -> String {
    let (begin, end) = (picture::date(begin), picture::date(end));
    format!(
        "[daemon]\nstate_dir = \"state\"\nplugin_dirs = [\"plugins\"]\n\
         shutdown_grace_secs = 10\n\n\
         [api]\nlisten = \"127.0.0.1:0\"\n\n\
         [collect]\nschedule = \"* * * * * *\"\ncollector = \"steady\"\n\
         fetchers = [\"steady\"]\nmetrics = \"metrics.toml\"\nperiod_secs = 3600\n\
         scope_key = \"project_id\"\nstart = \"{begin}\"\n\n\
         [collect.retry]\ndelay_secs_min = 1\ndelay_secs_max = 2\n\n\
         [fetchers.steady]\nscopes = {scopes}\n\n\
         [rating.hashmap]\ninitial_rules = [\n\
         {{ service = \"metric_0\", cost = \"0.5\" }},\n\
         {{ service = \"metric_1\", cost = \"0.02\" }},\n]\n\n\
         [collectors.steady]\nresources = 2\nend = \"{end}\"\n{extra}"
    )
}
