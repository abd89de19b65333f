//! The fetcher: the values of a label are the scopes.
//!
//! It asks for the values that the label had in the last `lookback_secs`, not for those of now (as
//! `CloudKitty` does with an instant query): a scope that ended before the daemon asked has periods
//! left to bill, and after a downtime there may be many. The default of 32 days covers the longest
//! past that a new daemon looks at by itself, the current month. The server answers from its index,
//! and may name scopes that are a little older than asked; they have no data then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rated_plugin::{Batches, Call, Component, Error, Fetcher, Host, Result};
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::answer::DataReader;
use crate::query::{equality_matchers, is_label_name, is_metric_name, timestamp};
use crate::server::Prometheus;
use crate::settings::settings;

/// 32 days.
const LOOKBACK_SECS_DEFAULT: u32 = 32 * 24 * 3600;
/// Ten years.
const LOOKBACK_SECS_MAX: u32 = 3653 * 24 * 3600;
/// Most scopes in one answer.
const SCOPES_MAX: usize = 10_000_000;

settings! {
    /// The configuration of the fetcher.
    ScopesSettings {
        metric: String,
        scope_attribute: String,
        #[serde(default)]
        filters: BTreeMap<String, String>,
        lookback_secs: Option<u32>,
    }
}

/// Finds scopes by asking a Prometheus server.
#[derive(Debug)]
pub struct PrometheusScopes {
    server: Prometheus,
    selector: String,
    scope_attribute: String,
    lookback: chrono::TimeDelta,
}

impl Component for PrometheusScopes {
    const NAME: &'static str = "prometheus";
    const SUMMARY: &'static str = "Takes the values of a label as scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample-fetcher.toml");
    type Config = ScopesSettings;

    fn create(config: ScopesSettings, host: Host) -> Result<PrometheusScopes> {
        let access = config.access()?;
        if !is_metric_name(&config.metric) {
            return Err(Error::invalid_config(format!(
                "`metric`: `{}` is not the name of a Prometheus metric",
                config.metric
            )));
        }
        let labels = config.filters.keys().chain([&config.scope_attribute]);
        if let Some(label) = labels.into_iter().find(|label| !is_label_name(label)) {
            return Err(Error::invalid_config(format!(
                "`{label}` is not the name of a Prometheus label"
            )));
        }
        let lookback_secs = config.lookback_secs.unwrap_or(LOOKBACK_SECS_DEFAULT);
        if !(1..=LOOKBACK_SECS_MAX).contains(&lookback_secs) {
            return Err(Error::invalid_config(format!(
                "`lookback_secs`: must be between 1 and {LOOKBACK_SECS_MAX}, got {lookback_secs}"
            )));
        }
        let matchers = equality_matchers(config.filters.iter());
        Ok(PrometheusScopes {
            server: Prometheus::new(host, access),
            selector: format!("{}{matchers}", config.metric),
            scope_attribute: config.scope_attribute,
            lookback: chrono::TimeDelta::seconds(lookback_secs.into()),
        })
    }

    fn check(&self, call: &Call) -> Result<()> {
        self.server.check(call)
    }
}

impl Fetcher for PrometheusScopes {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        let now = chrono::SubsecRound::trunc_subsecs(self.server.host().now(), 3);
        let fields = [
            ("match[]", self.selector.as_str()),
            ("start", &timestamp(now - self.lookback)?),
            ("end", &timestamp(now)?),
        ];
        let response = self
            .server
            .label_values(call, &self.scope_attribute, &fields)
            .map_err(|error| self.server.place(error))?;
        let mut values = Values { scopes: BTreeSet::new(), error: None };
        self.server.read(&response, &mut values).map_err(|error| self.server.place(error))?;
        Ok(Batches::scopes(values.scopes))
    }
}

/// The values of a label, sorted, each once.
struct Values {
    scopes: BTreeSet<String>,
    error: Option<Error>,
}

impl<'de> DataReader<'de> for Values {
    fn read<D: Deserializer<'de>>(&mut self, data: D) -> Result<(), D::Error> {
        data.deserialize_seq(ValuesVisitor { values: self })
    }

    fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }
}

struct ValuesVisitor<'r> {
    values: &'r mut Values,
}

impl<'de> Visitor<'de> for ValuesVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of label values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(value) = list.next_element::<String>()? {
            if self.values.scopes.len() == SCOPES_MAX {
                self.values.error =
                    Some(Error::bad_data(format!("must have at most {SCOPES_MAX} scopes")));
                return Err(serde::de::Error::custom("too many scopes"));
            }
            if !value.is_empty() {
                self.values.scopes.insert(value);
            }
        }
        Ok(())
    }
}
