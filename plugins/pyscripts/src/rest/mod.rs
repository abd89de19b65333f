//! The API of the scripts: `/v1/rating/module_config/pyscripts`.
//!
//! Paths, statuses, bodies and texts are `CloudKitty`'s, so that its clients work unchanged. The
//! daemon has checked who asks and knows the paths from `openapi.json`; a test compares that file
//! with [`ROUTES`].
//!
//! Every write is one edit of the store, decided on the newest scripts and answered after it is
//! durable. No script is ever run from here: a text is compiled, in a process of its own.

mod arguments;
mod body;
mod fault;
mod listing;
mod python;
mod scripts;

use chrono::{DateTime, NaiveDateTime, Utc};
use rated_plugin::{Call, Method, Request, Response, Result};

use self::arguments::Arguments;
use self::fault::Fault;
use crate::moment;
use crate::python::Pool;
use crate::store::Store;

/// Most characters of a name, a description.
const TEXT_CHARACTERS_MAX: usize = 255;

/// One call.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a Store,
    pub(crate) python: &'a Pool,
    pub(crate) now: DateTime<Utc>,
    pub(crate) call: &'a Call,
    pub(crate) request: &'a Request,
}

impl Context<'_> {
    fn now_seconds(&self) -> NaiveDateTime {
        moment::whole_seconds(self.now)
    }

    fn caller(&self) -> String {
        self.request.principal.user_id.clone()
    }

    /// The id in the path, else the argument of that name.
    fn id_or(&self, arguments: &Arguments) -> Result<String, Fault> {
        match below(&self.request.path, COLLECTION) {
            Some(id) => Ok(id.to_owned()),
            None => arguments.required("script_id"),
        }
    }
}

const COLLECTION: &str = "/scripts";

type Handler = fn(&Context<'_>) -> Result<Response, Fault>;

const ROUTES: &[(Method, &str, Handler)] = &[
    (Method::Get, "/scripts", scripts::list),
    (Method::Post, "/scripts", scripts::create),
    (Method::Put, "/scripts", scripts::update),
    (Method::Delete, "/scripts", scripts::delete),
    (Method::Get, "/scripts/{script_id}", scripts::get),
    (Method::Put, "/scripts/{script_id}", scripts::update),
    (Method::Delete, "/scripts/{script_id}", scripts::delete),
];

/// What stands in the path below the collection.
fn below<'a>(path: &'a str, collection: &str) -> Option<&'a str> {
    let below = path.trim_end_matches('/').strip_prefix(collection)?.strip_prefix('/')?;
    (!below.is_empty() && !below.contains('/')).then_some(below)
}

/// Answers a call below `/v1/rating/module_config/pyscripts`.
pub(crate) fn handle(context: &Context<'_>) -> Result<Response> {
    let path = context.request.path.trim_end_matches('/');
    let fits = |template: &str| match template.strip_suffix("/{script_id}") {
        Some(collection) => below(path, collection).is_some(),
        None => path == template,
    };
    let mut routes = ROUTES.iter();
    let found =
        routes.find(|(method, template, _)| *method == context.request.method && fits(template));
    let Some((_, _, handler)) = found else {
        return Fault::no_route().into_response();
    };
    handler(context).or_else(Fault::into_response)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_schema_names_exactly_the_routes() {
        let schema: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described: Vec<String> = Vec::new();
        let paths = schema.as_object().unwrap().iter();
        for (path, item) in paths.filter(|(path, _)| path.starts_with('/')) {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let mut served: Vec<String> = ROUTES
            .iter()
            .map(|(method, path, _)| format!("{} {path}", format!("{method:?}").to_uppercase()))
            .collect();
        described.sort();
        served.sort();

        assert_eq!(described, served);
    }

    #[test]
    fn an_id_is_one_segment() {
        assert_eq!(below("/scripts/x", COLLECTION), Some("x"));
        assert_eq!(below("/scripts/x/", COLLECTION), Some("x"));
        assert_eq!(below("/scripts", COLLECTION), None);
        assert_eq!(below("/scripts/", COLLECTION), None);
        assert_eq!(below("/scripts/x/y", COLLECTION), None);
        assert_eq!(below("/scriptsx", COLLECTION), None);
    }
}
