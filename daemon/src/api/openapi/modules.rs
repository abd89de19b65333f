use serde_json::{Map, Value, json};

use super::document::{add_conditions, add_shared, condition, operation_id};
use super::operation::Conditions;
use super::security::{Names, Scheme, add_refusals, needed};
use crate::api::policy;
use crate::api::router::Access;

/// Where a module's paths stand.
const PREFIX: &str = "/v1/rating/module_config/";

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];
/// Who gets to a module; the module itself asks nobody.
const ACCESS: Access = Access::Allowed(&policy::MODULE_CONFIG);
const SCHEMAS: &str = "#/components/schemas/";

/// A module's description of what it serves, as it came from the plugin.
#[derive(Debug, Clone)]
pub(crate) struct ModuleApi {
    pub(crate) module: String,
    /// A JSON object: keys that begin with a slash are paths, `components` holds `schemas`.
    pub(crate) json: String,
}

/// Adds a module's paths and schemas. What would make the document unsound is left out.
pub(super) fn merge(
    api: &ModuleApi,
    taken: &[Scheme],
    paths: &mut Map<String, Value>,
    schemas: &mut Map<String, Value>,
) {
    let module = api.module.as_str();
    // A plugin with another text was not loaded, or serves nothing.
    let Ok(Value::Object(described)) = serde_json::from_str(&api.json) else { return };
    let own = described.get("components").and_then(|components| components.get("schemas"));
    let own = own.and_then(Value::as_object).cloned().unwrap_or_default();
    let own: Map<String, Value> = own.into_iter().filter(|(name, _)| is_name(name)).collect();
    for (path, item) in &described {
        let Some(item) = item.as_object().filter(|_| path.starts_with('/')) else { continue };
        let pattern = format!("{PREFIX}{module}{}", path.trim_end_matches('/'));
        let item = path_item(module, taken, &pattern, item, &own);
        paths.insert(pattern, Value::Object(item));
    }
    for (name, schema) in &own {
        let mut schema = schema.clone();
        rename(&mut schema, module, &own);
        schemas.insert(format!("{module}.{name}"), schema);
    }
}

fn path_item(
    module: &str,
    taken: &[Scheme],
    pattern: &str,
    item: &Map<String, Value>,
    own: &Map<String, Value>,
) -> Map<String, Value> {
    let shared = item.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut shown = Map::new();
    for method in METHODS {
        let Some(Value::Object(operation)) = item.get(method) else { continue };
        let mut operation = Value::Object(operation.clone());
        rename(&mut operation, module, own);
        let Value::Object(mut operation) = operation else { continue };
        let mut parameters = shared.clone();
        let given = operation.get("parameters").and_then(Value::as_array);
        parameters.extend(given.into_iter().flatten().cloned());
        let mut parameters = sound_parameters(pattern, parameters);
        // The daemon tags what modules answer.
        let conditions = if method == "get" { Conditions::Read } else { Conditions::Change };
        parameters.extend(condition(conditions));
        operation.insert("parameters".to_owned(), Value::Array(parameters));
        operation.insert("operationId".to_owned(), json!(operation_id(method, pattern)));
        operation.insert("tags".to_owned(), json!([format!("module {module}")]));
        let mut responses = match operation.remove("responses") {
            Some(Value::Object(responses)) => responses,
            _ => Map::new(),
        };
        responses.values_mut().for_each(add_xml);
        add_conditions(&mut responses, conditions, pattern);
        add_shared(&mut responses, pattern, true);
        add_refusals(&mut responses, ACCESS, Names::Module);
        if let Some(security) = needed(taken, ACCESS) {
            operation.insert("security".to_owned(), security);
        }
        operation.insert("responses".to_owned(), Value::Object(responses));
        shown.insert(method.to_owned(), Value::Object(operation));
    }
    shown
}

/// Those with a name and a place, and all that the path's template names.
fn sound_parameters(pattern: &str, mut parameters: Vec<Value>) -> Vec<Value> {
    let in_path: Vec<&str> =
        pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    parameters.retain(|parameter| match (parameter["in"].as_str(), parameter["name"].as_str()) {
        (Some("path"), Some(name)) => in_path.contains(&name),
        (Some("query" | "header"), Some(_)) => parameter["schema"].is_object(),
        _ => false,
    });
    for name in in_path {
        let is_it = |parameter: &Value| parameter["in"] == "path" && parameter["name"] == name;
        if !parameters.iter().any(is_it) {
            let schema = json!({"type": "string"});
            parameters
                .push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
    }
    parameters
}

/// The daemon shows a module's JSON as XML to those who ask for it.
fn add_xml(response: &mut Value) {
    let Some(Value::Object(content)) = response.get_mut("content") else { return };
    if content.contains_key("application/json") {
        for media in ["application/xml", "text/xml"] {
            content.entry(media).or_insert_with(|| json!({}));
        }
    }
}

/// Puts the module's name before the names of its schemas; references to anything else go.
fn rename(value: &mut Value, module: &str, own: &Map<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, module, own)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| rename(member, module, own));
            let Some(Value::String(target)) = members.get("$ref") else { return };
            match target.strip_prefix(SCHEMAS).filter(|name| own.contains_key(*name)) {
                Some(name) => {
                    let target = format!("{SCHEMAS}{module}.{name}");
                    members.insert("$ref".to_owned(), Value::String(target));
                }
                None => {
                    members.remove("$ref");
                }
            }
        }
        _ => {}
    }
}

/// What `OpenAPI` takes as the name of a component.
fn is_name(name: &str) -> bool {
    let takes = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths and schemas that a module's document leads to.
    fn merged(json: &Value) -> (Value, Value) {
        let (mut paths, mut schemas) = (Map::new(), Map::new());
        let api = ModuleApi { module: "acme".to_owned(), json: json.to_string() };
        merge(&api, &[], &mut paths, &mut schemas);
        (Value::Object(paths), Value::Object(schemas))
    }

    #[test]
    fn schemas_get_the_name_of_their_module() {
        let (paths, schemas) = merged(&json!({
            "/rules": {"get": {"responses": {"200": {"description": "them", "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Rules"}}}}}}},
            "components": {"schemas": {
                "Rules": {"type": "array", "items": {"$ref": "#/components/schemas/Rule"}},
                "Rule": {"type": "string"},
            }},
        }));

        let get = &paths["/v1/rating/module_config/acme/rules"]["get"];
        let content = &get["responses"]["200"]["content"];
        let reference = json!({"$ref": "#/components/schemas/acme.Rules"});
        assert_eq!(content["application/json"]["schema"], reference);
        assert_eq!(content["text/xml"], json!({}));
        assert_eq!(get["operationId"], "get_v1_rating_module_config_acme_rules");
        let expected = json!({
            "acme.Rules": {"type": "array", "items": {"$ref": "#/components/schemas/acme.Rule"}},
            "acme.Rule": {"type": "string"},
        });
        assert_eq!(schemas, expected);
    }

    #[test]
    fn what_would_make_the_document_unsound_is_left_out() {
        let (paths, schemas) = merged(&json!({
            "/": {"get": "no object", "trace": {}},
            "/{id}": {
                "parameters": [{"in": "path", "name": "other"}, {"in": "query"}, 7],
                "delete": {"responses": [], "x": {"$ref": "#/components/schemas/V1Fault"}},
            },
            "no path": {"get": {}},
            "components": {"schemas": {"bad name": {}}},
        }));

        assert_eq!(paths["/v1/rating/module_config/acme"], json!({}));
        let delete = &paths["/v1/rating/module_config/acme/{id}"]["delete"];
        assert_eq!(delete["parameters"].as_array().unwrap().len(), 2);
        assert_eq!(delete["parameters"][0]["name"], "id");
        assert_eq!(delete["x"], json!({}));
        assert!(delete["responses"]["400"].is_object());
        assert_eq!((paths.as_object().unwrap().len(), schemas), (2, json!({})));
    }
}
