//! A source that fails at first, and a plugin that is another one while it is in use.

use std::fs;
use std::path::Path;

use reqwest::Method;

use crate::client::{Client, Driven};
use crate::collecting::{Collecting, SCOPES, expected_sums, price_of, wait_until_collected};
use crate::picture::{picture, sums};
use crate::site::{Acknowledged, Scenario};

pub(crate) const STEPS: [&str; 3] = ["change.failure_noted", "reload.begun", "reload.checked"];

pub(crate) struct Reloading(Collecting);

impl Reloading {
    pub(crate) fn new() -> Reloading {
        Reloading(Collecting::new())
    }
}

impl Scenario for Reloading {
    fn config(&self) -> String {
        crate::config(self.0.times(), SCOPES, "fails_once = true\n")
    }

    fn drive(&self, client: &mut Client, folder: &Path, known: &mut Acknowledged) -> Driven<()> {
        let plugin = folder.join("plugins/libsteady_plugin.so");
        let mut bytes = fs::read(&plugin).unwrap();
        // What follows the sections of a library means nothing to the loader.
        bytes.push(0);
        let new = folder.join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &plugin).unwrap();
        let answer = client.call(&Method::GET, "/v1/rating/reload_modules", None)?;
        assert_eq!(answer.status, 204, "{}", answer.text);
        let (begin, end) = self.0.times();
        wait_until_collected(client, end, known)?;
        let found = sums(client, &self.0.range())?;
        assert_eq!(found, expected_sums(begin, |metric, _, _| price_of(metric)));
        Ok(())
    }

    /// Each life waits a second for the source that failed.
    fn more_kills(&self) -> u64 {
        3
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        picture(client, &self.0.range())
    }
}
