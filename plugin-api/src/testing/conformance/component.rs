//! What holds for components of every kind.

use serde_json::{Map, Value};

use super::{Checks, Verdict, ensure, explained, said};
use crate::raw::ComponentDecl;
use crate::testing::{FakeHost, config_json};
use crate::thunk::driver::{Driven, static_text};
use crate::{Error, Result, Status};

/// Whether an instance can be made at all.
pub(super) fn check(component: &'static ComponentDecl, checks: &mut Checks) -> bool {
    let accepted = checks.run("the sample configuration is accepted", || {
        make(component, &FakeHost::new())
            .map(drop)
            .map_err(|error| said("making an instance", &error))
    });
    if !accepted {
        return false;
    }
    checks.run("an unknown key is refused", || {
        let mut config = sample(component).map_err(|error| error.message)?;
        config.insert("conformance-no-such-key".to_owned(), Value::Bool(true));
        refused("with an unknown key", component, &Value::Object(config))
    });
    checks.run("values of a wrong type are refused", || wrong_types(component));
    checks.run("no request is sent before it is needed", || {
        let host = FakeHost::new();
        let made = make(component, &host);
        ensure(made.is_err() || host.requests().is_empty(), || {
            "`create` sent a request; that is for `check`".to_owned()
        })
    });
    checks.run("a failing check explains itself", || failing_check(component));
    true
}

/// The sample configuration.
pub(super) fn sample(component: &'static ComponentDecl) -> Result<Map<String, Value>> {
    match config_json(static_text(component.sample_config)?)? {
        Value::Object(config) => Ok(config),
        _ => Err(Error::invalid_config("the sample configuration is no table")),
    }
}

/// An instance of the sample configuration.
pub(super) fn make(
    component: &'static ComponentDecl,
    host: &FakeHost,
) -> Result<std::sync::Arc<Driven>> {
    let config = Value::Object(sample(component)?);
    Driven::create(component, host, config.to_string().as_bytes())
}

fn refused(what: &str, component: &'static ComponentDecl, config: &Value) -> Verdict {
    match Driven::create(component, &FakeHost::new(), config.to_string().as_bytes()) {
        Ok(_) => Err(format!("{what} an instance was made")),
        Err(error) if error.status != Status::InvalidConfig => Err(said(what, &error)),
        Err(error) if error.message.is_empty() => Err(format!("{what}: no message")),
        Err(_) => Ok(()),
    }
}

fn wrong_types(component: &'static ComponentDecl) -> Verdict {
    for config in [Value::from("text"), Value::from(7)] {
        refused("with a configuration that is no table", component, &config)?;
    }
    let garbage = Driven::create(component, &FakeHost::new(), b"{\"half\": ");
    ensure(garbage.is_err_and(|error| error.status == Status::InvalidConfig), || {
        "half a JSON text was not refused as invalid configuration".to_owned()
    })?;
    let sample = sample(component).map_err(|error| error.message)?;
    for (key, value) in &sample {
        let wrong = match value {
            Value::Object(_) => Value::from(7),
            _ => serde_json::json!({ "conformance-no-such-key": true }),
        };
        let mut config = sample.clone();
        config.insert(key.clone(), wrong);
        refused(&format!("with a wrong type of `{key}`"), component, &Value::Object(config))?;
    }
    Ok(())
}

/// What the outside may look like, and how a host gets to look so.
type World = (&'static str, fn(&FakeHost));

const WORLDS: [World; 3] = [
    ("`check` with nobody answering", |_| {}),
    ("`check` with a source that answers 500", |host| {
        host.answer_with(|_| {
            Ok(crate::HttpResponse {
                status: 500,
                headers: std::collections::BTreeMap::new(),
                body: b"<html>internal error</html>".to_vec(),
            })
        });
    }),
    ("`check` when cancelled", FakeHost::cancel),
];

fn failing_check(component: &'static ComponentDecl) -> Verdict {
    for (what, prepare) in WORLDS {
        let host = FakeHost::new();
        prepare(&host);
        let instance = make(component, &host).map_err(|error| said("making", &error))?;
        explained(what, instance.check())?;
    }
    Ok(())
}
