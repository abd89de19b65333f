//! A real Prometheus server with a history of our making.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Process, get, run};

#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    pub url: String,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts a server over a history in the `OpenMetrics` text format.
    pub fn start(folder: &Path, open_metrics: &str) -> Prometheus {
        let folder = folder.join("prometheus");
        let data = folder.join("data");
        fs::create_dir_all(&data).expect("a folder of the test");
        if !open_metrics.is_empty() {
            let file = folder.join("history.om");
            fs::write(&file, open_metrics).expect("a file of the test");
            let (succeeded, text) = run(Command::new("promtool")
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .args([&file, &data]));
            assert!(succeeded, "promtool: {text}");
        }
        fs::write(folder.join("prometheus.yml"), "").expect("a file of the test");
        let (process, url) = launch(&folder, "127.0.0.1:0");
        Prometheus { process, url, folder }
    }

    /// How many queries it has answered so far, by its own count.
    pub fn queries(&self) -> f64 {
        get(&format!("{}/metrics", self.url))
            .text
            .lines()
            .filter(|line| line.starts_with("prometheus_http_requests_total{"))
            .filter(|line| line.contains("handler=\"/api/v1/query\""))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Ends the server; its port stays free for [`Prometheus::start_again`].
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// On the same address, with the same history.
    pub fn start_again(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        // A killed server leaves its lock file behind.
        let _ = fs::remove_file(self.folder.join("data/lock"));
        (self.process, self.url) = launch(&self.folder, &address);
    }
}

fn launch(folder: &Path, address: &str) -> (Process, String) {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg("--storage.tsdb.retention.time=10y")
        .arg(format!("--web.listen-address={address}"));
    let mut process = Process::start("prometheus", &mut command);
    let address = process.wait_for_output("Prometheus is ready", |output| {
        output.contains("Server is ready").then_some(())?;
        let (_, rest) = output.split_once("msg=\"Listening on\" address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    (process, format!("http://{address}"))
}
