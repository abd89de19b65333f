//! Which modules rate, and in which order.

use std::error::Error;

use serde_json::json;

use super::{Copying, Kind, Mode, Report};
use crate::cli::{module, text};

const MODULES: [&str; 3] = ["v1", "rating", "modules"];

impl Copying<'_> {
    pub(super) fn states(&self) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let mut report = Report::default();
        let own = self.read_own(&MODULES, "modules")?.unwrap_or_default();
        for theirs in self.read(Kind::Modules, &MODULES, &[], "modules")? {
            let name = text(&theirs["module_id"]);
            let Some(ours) = own.iter().find(|it| it["module_id"] == theirs["module_id"]) else {
                let is_used = theirs["enabled"].as_bool().unwrap_or_default();
                let why =
                    if is_used { "enabled there, not loaded here" } else { "not loaded here" };
                report.leave(&format!("module `{name}`"), why);
                continue;
            };
            if ours["enabled"] == theirs["enabled"] && ours["priority"] == theirs["priority"] {
                report.known += 1;
                continue;
            }
            let change = json!({"enabled": theirs["enabled"], "priority": theirs["priority"]});
            let is_ignored = self.mode == Mode::Copy
                && module::set(&self.target, &name, &change)? == module::Set::Ignored;
            if is_ignored {
                report.leave(&format!("module `{name}`"), "it is always enabled here");
            } else {
                report.copy("state");
            }
        }
        Ok(report)
    }
}
