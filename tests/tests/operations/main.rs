//! What whoever runs the daemon relies on: its unit, its stop under load, what `rated doctor` says.
#![forbid(unsafe_code)]

mod doctor;
mod stop;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rated_tests::{Config, example_library};

/// A daemon that collects from the example `steady_plugin`; nothing was used after `end`.
fn steady_config(
    folder: &Path,
    scopes: usize,
    (begin, end): (DateTime<Utc>, DateTime<Utc>),
) -> PathBuf {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (begin, end) = (begin.format(form), end.format(form));
    let config = Config {
        daemon: "shutdown_grace_secs = 10\n".to_owned(),
        collect: format!(
            "collector = \"steady\"\nfetchers = [\"steady\"]\nmetrics = \"metrics.toml\"\n\
             period_secs = 3600\nscope_key = \"project_id\"\nstart = \"{begin}\"\n"
        ),
        plugins: format!(
            "[collectors.steady]\nresources = 2\nend = \"{end}\"\n\n\
             [fetchers.steady]\nscopes = {scopes}\n"
        ),
    };
    let metric = |index: usize| {
        format!("[[metric]]\nname = \"metric_{index}\"\nunit = \"unit\"\ngroupby = [\"id\"]\n")
    };
    fs::write(folder.join("metrics.toml"), metric(0) + &metric(1)).unwrap();
    let file = config.write(folder);
    let plugin = example_library("steady_plugin");
    fs::copy(plugin, folder.join("plugins/libsteady_plugin.so")).unwrap();
    file
}
