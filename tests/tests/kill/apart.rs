//! Plugins in processes of their own: none outlives the daemon, and one that dies is started again.

use std::path::Path;

use crate::client::{Client, Driven};
use crate::collecting::{Collecting, SCOPES};
use crate::site::{Acknowledged, Scenario};

pub(crate) const STEPS: [&str; 4] =
    ["process.started", "process.asked", "process.answered", "process.died"];

pub(crate) struct Apart(Collecting);

impl Apart {
    pub(crate) fn new() -> Apart {
        Apart(Collecting::new())
    }
}

impl Scenario for Apart {
    fn config(&self) -> String {
        let config = crate::config(self.0.times(), SCOPES, "isolation = \"process\"\n");
        config.replace("[rating.hashmap]\n", "[rating.hashmap]\nisolation = \"process\"\n")
    }

    fn drive(&self, client: &mut Client, folder: &Path, known: &mut Acknowledged) -> Driven<()> {
        self.0.drive(client, folder, known)?;
        // Somebody kills the process of the price list; what follows is asked of another one.
        client.kill_child("rating/hashmap");
        client.wait_until("the death is noticed", |client| {
            let metrics = client.call(&reqwest::Method::GET, "/metrics", None)?.text;
            Ok(metrics.lines().any(|line| {
                line.starts_with("rated_plugin_process_deaths_total")
                    && line.contains("rating/hashmap")
                    && !line.ends_with(" 0")
            }))
        })
    }

    fn more_kills(&self) -> u64 {
        2
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        self.0.picture(client)
    }
}
