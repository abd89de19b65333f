//! The API of the rules: `/v1/rating/module_config/hashmap`.
//!
//! Paths, statuses, bodies and texts are `CloudKitty`'s, so that its clients work unchanged;
//! `/prices` is our own. The daemon has checked who asks and knows the paths from `openapi.json`; a
//! test compares that file with [`ROUTES`].
//!
//! Every write is one edit of the store, decided on the newest rules and answered after it is
//! durable. This module knows nothing of prices.

mod arguments;
mod body;
mod fault;
mod fields;
mod groups;
mod listing;
mod mappings;
mod prices;
mod python;
mod rules;
mod services;
mod thresholds;

use chrono::{DateTime, NaiveDateTime, Utc};
use rated_plugin::{Method, Request, Response, Result};
use serde_json::{Value, json};

use self::arguments::Arguments;
use self::fault::Fault;
use crate::moment;
use crate::record::{Id, Kind};
use crate::store::Store;

/// Most characters of a name, a value, a tenant.
pub(crate) const TEXT_CHARACTERS_MAX: usize = 255;

/// One call.
struct Context<'a> {
    store: &'a Store,
    now: DateTime<Utc>,
    request: &'a Request,
    /// What stands in the path where the template has `{…}`.
    id: Option<&'a str>,
}

impl Context<'_> {
    fn now_seconds(&self) -> NaiveDateTime {
        moment::whole_seconds(self.now)
    }

    fn caller(&self) -> String {
        self.request.principal.user_id.clone()
    }

    /// The arguments of a call whose body is no object of its own.
    fn arguments(&self, known: &[&str]) -> Result<Arguments, Fault> {
        Arguments::of_call(self.request, known)
    }

    /// An id from the path, else from the argument of that name.
    fn id_or(&self, arguments: &Arguments, name: &str) -> Result<String, Fault> {
        match self.id {
            Some(id) => Ok(id.to_owned()),
            None => arguments.required(name),
        }
    }
}

type Handler = fn(&Context<'_>) -> Result<Response, Fault>;

/// Literal segments stand before `{…}` where both would match.
const ROUTES: &[(Method, &str, Handler)] = &[
    (Method::Get, "/types", types),
    (Method::Get, "/prices", prices::get),
    (Method::Put, "/prices", prices::put),
    (Method::Get, "/services", services::list),
    (Method::Post, "/services", services::create),
    (Method::Delete, "/services", services::delete),
    (Method::Get, "/services/fields", fields::list),
    (Method::Get, "/services/mappings", mappings::list),
    (Method::Get, "/services/{service_id}", services::get),
    (Method::Delete, "/services/{service_id}", services::delete),
    (Method::Get, "/services/{service_id}/fields", fields::list),
    (Method::Get, "/services/{service_id}/mappings", mappings::list),
    (Method::Get, "/fields", fields::list),
    (Method::Post, "/fields", fields::create),
    (Method::Delete, "/fields", fields::delete),
    (Method::Get, "/fields/{field_id}", fields::get),
    (Method::Delete, "/fields/{field_id}", fields::delete),
    (Method::Get, "/mappings", mappings::list),
    (Method::Post, "/mappings", mappings::create),
    (Method::Put, "/mappings", mappings::update),
    (Method::Delete, "/mappings", mappings::delete),
    (Method::Get, "/mappings/group", mappings::group),
    (Method::Get, "/mappings/{mapping_id}", mappings::get),
    (Method::Put, "/mappings/{mapping_id}", mappings::update),
    (Method::Delete, "/mappings/{mapping_id}", mappings::delete),
    (Method::Get, "/mappings/{mapping_id}/group", mappings::group),
    (Method::Get, "/thresholds", thresholds::list),
    (Method::Post, "/thresholds", thresholds::create),
    (Method::Put, "/thresholds", thresholds::update),
    (Method::Delete, "/thresholds", thresholds::delete),
    (Method::Get, "/thresholds/group", thresholds::group),
    (Method::Get, "/thresholds/{threshold_id}", thresholds::get),
    (Method::Put, "/thresholds/{threshold_id}", thresholds::update),
    (Method::Delete, "/thresholds/{threshold_id}", thresholds::delete),
    (Method::Get, "/thresholds/{threshold_id}/group", thresholds::group),
    (Method::Get, "/groups", groups::list),
    (Method::Post, "/groups", groups::create),
    (Method::Delete, "/groups", groups::delete),
    (Method::Get, "/groups/mappings", groups::mappings),
    (Method::Get, "/groups/thresholds", groups::thresholds),
    (Method::Get, "/groups/{group_id}", groups::get),
    (Method::Delete, "/groups/{group_id}", groups::delete),
    (Method::Get, "/groups/{group_id}/mappings", groups::mappings),
    (Method::Get, "/groups/{group_id}/thresholds", groups::thresholds),
];

/// Answers a call below `/v1/rating/module_config/hashmap`.
pub(crate) fn handle(store: &Store, now: DateTime<Utc>, request: &Request) -> Result<Response> {
    let path = request.path.trim_end_matches('/');
    let found = ROUTES.iter().filter(|(method, _, _)| *method == request.method);
    let mut found = found.filter_map(|(_, template, handler)| {
        matches(template, path).map(|matched| (matched.id, handler))
    });
    let Some((id, handler)) = found.next() else {
        return Fault::no_route().into_response();
    };
    let context = Context { store, now, request, id };
    handler(&context).or_else(Fault::into_response)
}

/// A path that fits its template.
#[derive(Debug, PartialEq, Eq)]
struct Matched<'a> {
    /// What stands where the template has `{…}`.
    id: Option<&'a str>,
}

fn matches<'a>(template: &str, path: &'a str) -> Option<Matched<'a>> {
    let mut id = None;
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        let segment = segments.next()?;
        if wanted.starts_with('{') && !segment.is_empty() {
            id = Some(segment);
        } else if wanted != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(Matched { id })
}

fn types(context: &Context<'_>) -> Result<Response, Fault> {
    context.arguments(&[])?;
    let names: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
    Ok(Response::json(200, &json!(names)))
}

/// 201 with the object and where it is.
fn created(collection: &str, id: Id, body: &Value) -> Response {
    Response::json(201, body).with_location(format!("/{collection}/{id}"))
}

/// 302 with the path that was asked; clients follow it and send the same again.
fn changed(context: &Context<'_>) -> Response {
    Response::empty(302).with_location(context.request.path.clone())
}

#[cfg(test)]
mod tests {
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
    fn a_path_fits_its_template_only() {
        let matched = |template, path| matches(template, path).map(|it| it.id.unwrap_or("none"));

        assert_eq!(matched("/services", "/services"), Some("none"));
        assert_eq!(matched("/services/{id}", "/services/x"), Some("x"));
        assert_eq!(matched("/services/{id}/fields", "/services/x/fields"), Some("x"));
        assert_eq!(matched("/services/{id}", "/services/"), None);
        assert_eq!(matched("/services/{id}", "/services/x/fields"), None);
        assert_eq!(matched("/services", ""), None);
    }
}
