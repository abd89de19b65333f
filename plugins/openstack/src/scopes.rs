//! The fetcher: the values that an attribute of resources has are the scopes.
//!
//! Resources that have ended count too: their last periods may be left to bill. Pages are ordered
//! by the attribute and each begins behind the last value of the one before, so there are hardly
//! more questions than scopes, however many resources there are. (`CloudKitty` sends all scopes
//! it knows with every question, and never ends when a page of resources has no scope at all.)

use std::collections::BTreeSet;

use rated_plugin::access::{excerpt, form};
use rated_plugin::{Batches, Call, Component, Error, Fetcher, Host, Result};
use serde_json::{Map, Value, json};

use crate::answer;
use crate::client::Gnocchi;
use crate::keystone::Interface;
use crate::settings::{Where, settings};

/// Resources that are asked for in one page; a server may give fewer.
const PAGE_SIZE: &str = "1000";
/// Most scopes in one answer.
const SCOPES_MAX: usize = if cfg!(test) { 1000 } else { 1_000_000 };
/// Most pages of a list.
const PAGES_MAX: usize = 10_000;
/// Most types of resources.
const RESOURCE_TYPES_MAX: usize = 100;

settings! {
    /// The configuration of the fetcher.
    ScopesSettings {
        endpoint: Option<String>,
        region_name: Option<String>,
        #[serde(default)]
        interface: Interface,
        scope_attribute: Option<String>,
        resource_types: Option<Vec<String>>,
    }
}

/// Finds scopes by asking Gnocchi.
#[derive(Debug)]
pub struct GnocchiScopes {
    gnocchi: Gnocchi,
    scope_attribute: String,
    resource_types: Vec<String>,
}

impl Component for GnocchiScopes {
    const NAME: &'static str = "gnocchi";
    const SUMMARY: &'static str = "Takes the values of an attribute of resources as scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample-fetcher.toml");
    type Config = ScopesSettings;

    fn create(config: ScopesSettings, host: Host) -> Result<GnocchiScopes> {
        let place = Where {
            endpoint: config.endpoint.as_deref(),
            region_name: config.region_name.as_deref(),
            interface: config.interface,
        };
        let common = config.common();
        let gnocchi = Gnocchi::new(host, common.way(host, place)?, common.patience()?);
        let scope_attribute = config.scope_attribute.unwrap_or_else(|| "project_id".to_owned());
        let resource_types = config.resource_types.unwrap_or_else(|| vec!["generic".to_owned()]);
        if !(1..=RESOURCE_TYPES_MAX).contains(&resource_types.len()) {
            return Err(Error::invalid_config(format!(
                "`resource_types`: must have 1 to {RESOURCE_TYPES_MAX} types, got {}",
                resource_types.len()
            )));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        let names = resource_types.iter().map(|name| ("resource_types", name));
        for (key, name) in names.chain([("scope_attribute", &scope_attribute)]) {
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(Error::invalid_config(format!("`{key}`: `{name}` is not a name")));
            }
        }
        Ok(GnocchiScopes { gnocchi, scope_attribute, resource_types })
    }

    fn check(&self, call: &Call) -> Result<()> {
        self.gnocchi.check(call)
    }
}

impl Fetcher for GnocchiScopes {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        let mut scopes = BTreeSet::new();
        for resource_type in &self.resource_types {
            self.scopes_of(call, resource_type, &mut scopes)?;
        }
        Ok(Batches::scopes(scopes))
    }
}

impl GnocchiScopes {
    fn scopes_of(
        &self,
        call: &Call,
        resource_type: &str,
        scopes: &mut BTreeSet<String>,
    ) -> Result<()> {
        let attribute = &self.scope_attribute;
        let sort = format!("{attribute}:asc");
        let fields = [("limit", PAGE_SIZE), ("sort", &sort), ("attrs", attribute)];
        let path = format!("/v1/search/resource/{resource_type}?{}", form(&fields));
        let located = |error: Error| {
            let message = format!("resources of type `{resource_type}`: {}", error.message);
            self.gnocchi.placed(Error { message, ..error })
        };
        let is_known = json!({"!=": {attribute: null}});
        let mut last = Value::Null;
        for _ in 0..PAGES_MAX {
            let body = match &last {
                Value::Null => is_known.clone(),
                last => json!({"and": [is_known, {">": {attribute: last}}]}),
            };
            let response = self.gnocchi.post(call, &path, &body)?;
            let mut page: Vec<Map<String, Value>> = answer::json(&response).map_err(located)?;
            for resource in &page {
                let scope = resource.get(attribute).unwrap_or(&Value::Null);
                scopes.extend(scope_text(scope).map_err(located)?);
                if scopes.len() > SCOPES_MAX {
                    let message = format!("must have at most {SCOPES_MAX} scopes");
                    return Err(located(Error::bad_data(message)));
                }
            }
            let Some(mut resource) = page.pop() else { return Ok(()) };
            let next = resource.remove(attribute).unwrap_or_default();
            if next.is_null() || next == last {
                return Err(located(Error::bad_data("a page leads nowhere")));
            }
            last = next;
        }
        Err(located(Error::bad_data(format!("must have at most {PAGES_MAX} pages"))))
    }
}

/// The empty text is nobody.
fn scope_text(value: &Value) -> Result<Option<String>> {
    match value {
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => {
            let text = excerpt(&other.to_string());
            Err(Error::bad_data(format!("`{text}` is not a scope")))
        }
    }
}
