//! Where Keystone says that a service is.

use std::collections::BTreeSet;

use rated_plugin::{Error, Result};
use serde::Deserialize;

/// Which of a service's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Interface {
    Public,
    #[default]
    Internal,
    Admin,
}

impl Interface {
    fn name(self) -> &'static str {
        match self {
            Interface::Public => "public",
            Interface::Internal => "internal",
            Interface::Admin => "admin",
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) service_type: &'static str,
    /// `None` = there must be one region only.
    pub(crate) region: Option<String>,
    pub(crate) interface: Interface,
}

/// `token.catalog` of Keystone's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalogue(Vec<Service>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    service_type: String,
    #[serde(default)]
    endpoints: Vec<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Address {
    interface: String,
    url: String,
    region_id: Option<String>,
    region: Option<String>,
}

impl Address {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

impl Catalogue {
    /// The address of a service.
    ///
    /// `InvalidConfig` when there is none, or several to choose from.
    pub(crate) fn address(&self, wanted: &Endpoint) -> Result<&str> {
        let Endpoint { service_type, region, interface } = wanted;
        let all = self.0.iter().filter(|service| service.service_type == *service_type);
        let all: Vec<&Address> = all.flat_map(|service| &service.endpoints).collect();
        let fits = |address: &&&Address| {
            address.interface == interface.name()
                && region.as_ref().is_none_or(|region| address.region() == region)
        };
        let found: BTreeSet<&str> =
            all.iter().filter(fits).map(|address| address.url.as_str()).collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(url), None) => Ok(url),
            (Some(_), Some(_)) => Err(Error::invalid_config(format!(
                "the service catalogue has several {} endpoints of type `{service_type}`\n\
                 (hint: set `region_name` to one of {}, or `endpoint`)",
                interface.name(),
                regions(&all, *interface),
            ))),
            (None, _) if all.is_empty() => Err(Error::invalid_config(format!(
                "the service catalogue has no service of type `{service_type}`\n\
                 (hint: set `endpoint` to its address)"
            ))),
            (None, _) => Err(Error::invalid_config(format!(
                "the service catalogue has no {} endpoint of type `{service_type}`{}\n\
                 (hint: it has {})",
                interface.name(),
                region.as_ref().map_or_else(String::new, |region| format!(" in region `{region}`")),
                offers(&all),
            ))),
        }
    }
}

fn regions(addresses: &[&Address], interface: Interface) -> String {
    let names: BTreeSet<String> = addresses
        .iter()
        .filter(|address| address.interface == interface.name())
        .map(|address| format!("`{}`", address.region()))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn offers(addresses: &[&Address]) -> String {
    let offers: BTreeSet<String> = addresses
        .iter()
        .map(|address| format!("`{}` in region `{}`", address.interface, address.region()))
        .collect();
    offers.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalogue() -> Catalogue {
        let address = |interface: &str, region: &str, url: &str| {
            json!({"interface": interface, "region": region, "region_id": region, "url": url,
                "id": "0"})
        };
        serde_json::from_value(json!([
            {"type": "identity", "name": "keystone", "endpoints": []},
            {"type": "metric", "name": "gnocchi", "endpoints": [
                address("public", "one", "https://public.one"),
                address("internal", "one", "http://one"),
                address("public", "two", "https://public.two"),
            ]},
        ]))
        .unwrap()
    }

    fn look(
        service_type: &'static str,
        region: Option<&str>,
        interface: Interface,
    ) -> Result<String> {
        let region = region.map(str::to_owned);
        let wanted = Endpoint { service_type, region, interface };
        catalogue().address(&wanted).map(str::to_owned)
    }

    #[test]
    fn region_and_interface_choose_the_address() {
        let url = |region, interface| look("metric", region, interface).unwrap();

        assert_eq!(url(Some("two"), Interface::Public), "https://public.two");
        assert_eq!(url(Some("one"), Interface::Internal), "http://one");
        assert_eq!(url(None, Interface::Internal), "http://one");
    }

    #[test]
    fn what_is_not_there_or_not_clear_says_what_to_set() {
        let refused = |service_type, region, interface| {
            let error = look(service_type, region, interface).unwrap_err();
            assert_eq!(error.status, rated_plugin::Status::InvalidConfig);
            error.message
        };

        let message = refused("metric", None, Interface::Public);
        assert!(message.contains("several public endpoints"), "{message}");
        assert!(message.contains("`region_name` to one of `one`, `two`"), "{message}");
        let message = refused("metric", Some("two"), Interface::Internal);
        assert!(message.contains("no internal endpoint of type `metric` in region `two`"));
        assert!(message.contains("`public` in region `two`"), "{message}");
        let message = refused("metering", None, Interface::Public);
        assert!(message.contains("no service of type `metering`"), "{message}");
    }
}
