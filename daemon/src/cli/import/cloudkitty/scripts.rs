//! Scripts of the module pyscripts, when it is there.

use std::error::Error;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Copying, Kind, Report, is_nowhere};
use crate::cli::text;

const SCRIPTS: [&str; 5] = ["v1", "rating", "module_config", "pyscripts", "scripts"];

impl Copying<'_> {
    pub(super) fn scripts(&self) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let mut report = Report::default();
        let theirs = match self.read(Kind::Pyscripts, &SCRIPTS, &[], "scripts") {
            Err(error) if is_nowhere(&error.error) => return Ok(report),
            theirs => theirs?,
        };
        let own = self.read_own(&SCRIPTS, "scripts")?;
        for script in theirs {
            let name = text(&script["name"]);
            let subject = format!("script `{name}`");
            let Some(own) = &own else {
                report.leave(&subject, "the module `pyscripts` is not loaded here");
                continue;
            };
            let same = own.iter().find(|it| it["name"] == script["name"]);
            match same {
                Some(same) if same["data"] == script["data"] => report.known += 1,
                Some(_) => report.leave(&subject, "there is another one of that name here"),
                None => {
                    let force = [("force", "true".to_owned())];
                    match self.write(Method::POST, &SCRIPTS, &force, &new_script(&script))? {
                        Ok(_) => report.copy("script"),
                        Err(why) => report.leave(&subject, &why),
                    }
                }
            }
        }
        Ok(report)
    }
}

fn new_script(script: &Value) -> Value {
    let mut body = json!({"name": script["name"], "data": script["data"]});
    for name in ["start", "end", "description"] {
        if !script[name].is_null() {
            body[name] = script[name].clone();
        }
    }
    body
}
