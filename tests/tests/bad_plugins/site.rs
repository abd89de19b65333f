//! A daemon with plugins that are up to no good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{Config, Daemon, DataSet, example_library, run, summary};
use serde_json::Value;
use tempfile::TempDir;

/// Hours that are due.
pub(crate) const HOURS: i64 = 4;

/// A folder with the library in its plugin folder, and hours that are due.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) begin: DateTime<Utc>,
    /// Of a call into a plugin.
    pub(crate) deadline_secs: u32,
}

impl Site {
    pub(crate) fn new() -> Site {
        let folder = TempDir::new().unwrap();
        let begin = DataSet::ending_lately(1, 1, 1, 4).begin;
        fs::create_dir(folder.path().join("plugins")).unwrap();
        fs::copy(example_library("bad_plugin"), folder.path().join("plugins/libbad_plugin.so"))
            .unwrap();
        Site { folder, begin, deadline_secs: 1 }
    }

    /// `metrics` are names and their collectors.
    pub(crate) fn config(&self, metrics: &[(&str, &str)], plugins: &str) -> PathBuf {
        let sections: Vec<String> = metrics
            .iter()
            .map(|(name, collector)| {
                format!(
                    "[[metric]]\nname = \"{name}\"\nunit = \"u\"\ncollector = \"{collector}\"\n"
                )
            })
            .collect();
        fs::write(self.folder.path().join("metrics.toml"), sections.concat()).unwrap();
        let start = self.begin.format("%Y-%m-%dT%H:%M:%SZ");
        let deadline_secs = self.deadline_secs;
        let config = Config {
            daemon: "shutdown_grace_secs = 10\n".to_owned(),
            collect: format!(
                "collector = \"sound\"\nfetchers = [\"finder\"]\nmetrics = \"metrics.toml\"\n\
                 period_secs = 3600\nwait_periods = 2\nscope_key = \"project_id\"\n\
                 start = \"{start}\"\n"
            ),
            plugins: format!(
                "[plugins]\ncall_deadline_secs = {deadline_secs}\ncall_grace_secs = 1\n\
                 process_memory_mib = 256\n\n\
                 [collectors.sound]\nplugin = \"hostile\"\n\n\
                 [fetchers.finder]\nplugin = \"hostile\"\ndoes = \"find the cursed\"\n\n{plugins}"
            ),
        };
        config.write(self.folder.path())
    }

    pub(crate) fn end(&self) -> DateTime<Utc> {
        self.begin + TimeDelta::hours(HOURS)
    }

    /// Types and scopes that have a row in each hour.
    pub(crate) fn complete(&self, daemon: &Daemon) -> BTreeSet<(String, String)> {
        let rows = summary(daemon, self.begin, self.end(), "time,type,project_id");
        let key = |row: &Value| {
            (row[4].as_str().unwrap().to_owned(), row[5].as_str().unwrap().to_owned())
        };
        let all: Vec<_> = rows.iter().map(key).collect();
        let hours = usize::try_from(HOURS).unwrap();
        let in_each_hour = |pair: &&_| all.iter().filter(|other| other == pair).count() == hours;
        all.iter().filter(in_each_hour).cloned().collect()
    }
}

pub(crate) fn pairs(expected: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    expected.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect()
}

/// Libraries in C with one thing wrong, by the fixture of the daemon's own tests.
pub(crate) fn build_fixture(to: &Path, define: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (succeeded, text) = run(Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-D{define}"), "-I"])
        .arg(root.join("plugin-api/include"))
        .arg("-o")
        .arg(to)
        .arg(root.join("daemon/tests/plugin/fixture.c")));
    assert!(succeeded, "{text}");
}
