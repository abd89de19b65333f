//! Which methods and paths a rating module serves, so that others never enter it.

use rated_plugin::Method;
use serde_json::Value;

/// Most paths one module may serve.
const PATHS_MAX: usize = 256;

/// Whether a module serves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMatch {
    Allowed,
    /// The path is there, with other methods.
    WrongMethod,
    NotFound,
}

/// The key beside the paths under which schemas stand that they refer to.
const COMPONENTS: &str = "components";

/// The paths of a module's description, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ApiPaths(Vec<Template>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    segments: Vec<Segment>,
    methods: Vec<Method>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    /// `{id}`: any text but an empty one.
    Any,
}

impl ApiPaths {
    /// From an object of `OpenAPI` paths, with `components` beside them or without; an empty text
    /// serves nothing. Says for people what is wrong.
    pub(super) fn parse(json: &str) -> Result<ApiPaths, String> {
        if json.trim().is_empty() {
            return Ok(ApiPaths::default());
        }
        let mut paths = match serde_json::from_str::<Value>(json) {
            Ok(Value::Object(paths)) => paths,
            Ok(_) => return Err("it is not a JSON object".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        paths.remove(COMPONENTS);
        if paths.len() > PATHS_MAX {
            return Err(format!("{} paths, at most {PATHS_MAX} are accepted", paths.len()));
        }
        paths
            .iter()
            .map(|(path, item)| template(path, item))
            .collect::<Result<_, _>>()
            .map(ApiPaths)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, method: Method, path: &str) -> PathMatch {
        let mut found = PathMatch::NotFound;
        for template in self.0.iter().filter(|template| template.matches(path)) {
            if template.methods.contains(&method) {
                return PathMatch::Allowed;
            }
            found = PathMatch::WrongMethod;
        }
        found
    }
}

impl Template {
    fn matches(&self, path: &str) -> bool {
        let mut asked = split(path);
        let fits = self.segments.iter().all(|segment| match (segment, asked.next()) {
            (Segment::Fixed(wanted), Some(text)) => wanted == text,
            (Segment::Any, Some(text)) => !text.is_empty(),
            (_, None) => false,
        });
        fits && asked.next().is_none()
    }
}

fn template(path: &str, item: &Value) -> Result<Template, String> {
    if !path.starts_with('/') {
        return Err(format!("the path `{path}` does not begin with `/`"));
    }
    let Value::Object(item) = item else {
        return Err(format!("the path `{path}` holds no JSON object"));
    };
    let segments = split(path)
        .map(|text| {
            if text.starts_with('{') && text.ends_with('}') {
                Segment::Any
            } else {
                Segment::Fixed(text.to_owned())
            }
        })
        .collect();
    let methods = item
        .keys()
        .filter_map(|key| match key.as_str() {
            "get" => Some(Method::Get),
            "post" => Some(Method::Post),
            "put" => Some(Method::Put),
            "delete" => Some(Method::Delete),
            "patch" => Some(Method::Patch),
            // `parameters`, `summary` and the like.
            _ => None,
        })
        .collect();
    Ok(Template { segments, methods })
}

/// Segments without the leading slash and a trailing one; `/` has none.
fn split(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let count = if inner.is_empty() { 0 } else { usize::MAX };
    inner.split('/').take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: &str = r#"{
        "/": {"get": {}},
        "/types": {"get": {}},
        "/mappings": {"get": {}, "post": {}},
        "/mappings/{id}": {"parameters": [], "get": {}, "put": {}, "delete": {}},
        "/mappings/group": {"get": {}}
    }"#;

    fn check(method: Method, path: &str, expected: PathMatch) {
        assert_eq!(ApiPaths::parse(PATHS).unwrap().find(method, path), expected, "{path}");
    }

    #[test]
    fn a_module_is_asked_only_for_what_it_serves() {
        check(Method::Get, "/", PathMatch::Allowed);
        check(Method::Get, "", PathMatch::Allowed);
        check(Method::Get, "/types", PathMatch::Allowed);
        check(Method::Get, "/types/", PathMatch::Allowed);
        check(Method::Post, "/types", PathMatch::WrongMethod);
        check(Method::Put, "/mappings/a", PathMatch::Allowed);
        check(Method::Patch, "/mappings/a", PathMatch::WrongMethod);
        check(Method::Get, "/mappings/group", PathMatch::Allowed);
        check(Method::Get, "/mappings/a/b", PathMatch::NotFound);
        check(Method::Get, "/mappings//", PathMatch::NotFound);
        check(Method::Get, "/nothing", PathMatch::NotFound);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(ApiPaths::parse("").unwrap().is_empty());
        assert!(ApiPaths::parse("[]").unwrap_err().contains("not a JSON object"));
        assert!(ApiPaths::parse("{").is_err());
        assert!(ApiPaths::parse(r#"{"types": {}}"#).unwrap_err().contains("`types`"));
    }
}
