//! `rated module`: which rating modules there are, which of them rate, and in which order.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Client, ClientError, Server};
use super::table::{Align, Table};
use super::{Environment, Outcome, terminal};

const MODULES: [&str; 3] = ["v2", "rating", "modules"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum ModuleCommand {
    /// List the rating modules
    List {
        /// Print the API's answer
        #[arg(long)]
        json: bool,
    },
    /// Let a module rate from the next period on
    Enable { module: String },
    /// Let a module rate no more
    Disable { module: String },
    /// Set the place of a module in the chain: the highest priority rates first
    Priority {
        module: String,
        #[arg(allow_negative_numbers = true)]
        priority: i64,
    },
}

#[derive(Debug, thiserror::Error)]
enum ModuleError {
    #[error("there is no module `{name}`\n(hint: `rated module list` names them)")]
    NoModule { name: String },
    #[error("the module `{name}` stays as it is: it is always enabled, and has no priority")]
    Fixed { name: String },
}

pub(super) fn run(command: &ModuleCommand, server: &Server, environment: &Environment) -> Outcome {
    let client = server.client(environment)?;
    let (name, change, done) = match command {
        ModuleCommand::List { json } => return list(&client, *json, environment),
        ModuleCommand::Enable { module } => {
            (module, json!({"enabled": true}), "enabled".to_owned())
        }
        ModuleCommand::Disable { module } => {
            (module, json!({"enabled": false}), "disabled".to_owned())
        }
        ModuleCommand::Priority { module, priority } => {
            (module, json!({"priority": priority}), format!("has priority {priority} now"))
        }
    };
    match set(&client, name, &change) {
        Ok(Set::Done) => {
            terminal::print(&format!("{name}: {done}\n"))?;
            Ok(())
        }
        Ok(Set::Ignored) => Err(ModuleError::Fixed { name: name.clone() }.into()),
        Err(error) if error.is_status(StatusCode::NOT_FOUND) => {
            Err(ModuleError::NoModule { name: name.clone() }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Done,
    /// Some modules take a change and do nothing.
    Ignored,
}

/// Changes the state or the priority of a module.
pub(super) fn set(client: &Client, name: &str, change: &Value) -> Result<Set, ClientError> {
    let path = [&MODULES[..], &[name]].concat();
    client.call(Method::PUT, &path, &[], Some(change))?;
    let module = client.get(&path, &[])?;
    let mut wanted = change.as_object().into_iter().flatten();
    Ok(if wanted.all(|(key, value)| module[key] == *value) { Set::Done } else { Set::Ignored })
}

fn list(client: &Client, as_json: bool, environment: &Environment) -> Outcome {
    let answer = client.get(&MODULES, &[])?;
    if as_json {
        terminal::print(&format!("{answer:#}\n"))?;
        return Ok(());
    }
    let table = table(client.list(&answer, "modules")?);
    terminal::print(&table.render(terminal::style(environment)))?;
    Ok(())
}

/// In the order in which they rate, those that don't last.
fn table(modules: &[Value]) -> Table {
    let is_enabled = |module: &Value| module["enabled"].as_bool().unwrap_or_default();
    let mut modules: Vec<&Value> = modules.iter().collect();
    modules.sort_by_key(|module| (!is_enabled(module), -module["priority"].as_i64().unwrap_or(0)));
    let mut table = Table::new([
        ("MODULE", Align::Left),
        ("STATE", Align::Left),
        ("PRIORITY", Align::Number),
        ("DESCRIPTION", Align::Left),
    ]);
    for module in modules {
        table.push([
            super::text(&module["module_id"]),
            if is_enabled(module) { "enabled" } else { "disabled" }.to_owned(),
            super::text(&module["priority"]),
            super::text(&module["description"]),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::Style;

    #[test]
    fn modules_stand_in_the_order_they_rate_in() {
        let module = |name: &str, enabled: bool, priority: i64| {
            json!({"module_id": name, "enabled": enabled, "priority": priority,
                "description": "It.", "hot_config": true})
        };
        let modules = [module("a", false, 100), module("b", true, 5), module("c", true, 50)];

        let expected = "\
MODULE  STATE     PRIORITY  DESCRIPTION
c       enabled         50  It.
b       enabled          5  It.
a       disabled       100  It.
";
        assert_eq!(table(&modules).render(Style::Plain), expected);
    }
}
