//! `extra_args` of a metric: the names, the defaults and the meaning are `CloudKitty`'s.

use rated_plugin::access::excerpt;
use rated_plugin::{Error, MetricDefinition, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Longest text of an argument, bytes.
const TEXT_SIZE_MAX: usize = 4096;
/// Of `CloudKitty`, whatever its documentation says (0 and the aggregation method).
const GRANULARITY_SECS_DEFAULT: u64 = 3600;
/// Coarsest granularity, seconds: ten years.
const GRANULARITY_SECS_MAX: u64 = 3653 * 24 * 3600;

/// Methods of Gnocchi; each may also stand behind `rate:`.
const METHODS: [&str; 9] = ["mean", "sum", "last", "max", "min", "std", "median", "first", "count"];

/// Which revision of a resource its metadata are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MetadataRevision {
    /// The one in force when the period is collected, as `CloudKitty` does.
    #[default]
    Latest,
    /// The one in force at the end of the period: the same whenever it is collected.
    Period,
}

/// `extra_args` of a metric, checked.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) resource_type: String,
    pub(crate) resource_key: String,
    pub(crate) aggregation_method: String,
    pub(crate) re_aggregation_method: String,
    /// Seconds; 0 = any.
    pub(crate) force_granularity: u64,
    pub(crate) use_all_resource_revisions: bool,
    /// Empty = none.
    pub(crate) custom_query: String,
    pub(crate) metadata_revision: MetadataRevision,
}

/// The arguments that nobody has asked for yet. Unlike serde's own, its errors say which one is
/// wrong, also when it is a number.
struct Given {
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Given {
    fn take<T: DeserializeOwned>(&mut self, key: &'static str) -> Result<Option<T>, String> {
        self.known.push(key);
        let Some(value) = self.left.shift_remove(key) else { return Ok(None) };
        let shown = excerpt(&value.to_string());
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| format!("`{key}`: `{shown}` cannot be used: {error}"))
    }

    fn text(&mut self, key: &'static str, default: &str) -> Result<String, String> {
        Ok(self.take(key)?.unwrap_or_else(|| default.to_owned()))
    }

    fn end(&self) -> Result<(), String> {
        let Some(key) = self.left.keys().next() else { return Ok(()) };
        let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        Err(format!("`{}` is unknown, expected one of {}", excerpt(key), known.join(", ")))
    }
}

impl Arguments {
    /// `InvalidRequest`, with the metric and the argument.
    pub(crate) fn of(metric: &MetricDefinition) -> Result<Arguments> {
        let given = Given { left: metric.extra_args.clone(), known: Vec::new() };
        Arguments::read(given).map_err(|message| {
            Error::invalid_request(format!("metric `{}`: `extra_args`: {message}", metric.name))
        })
    }

    fn read(mut given: Given) -> Result<Arguments, String> {
        let resource_type: Option<String> = given.take("resource_type")?;
        let arguments = Arguments {
            resource_type: resource_type.ok_or("`resource_type`: is missing")?,
            resource_key: given.text("resource_key", "id")?,
            aggregation_method: given.text("aggregation_method", "max")?,
            re_aggregation_method: given.text("re_aggregation_method", "max")?,
            force_granularity: given.take("force_granularity")?.unwrap_or(GRANULARITY_SECS_DEFAULT),
            use_all_resource_revisions: given.take("use_all_resource_revisions")?.unwrap_or(true),
            custom_query: given.text("custom_query", "")?,
            metadata_revision: given.take("metadata_revision")?.unwrap_or_default(),
        };
        given.end()?;
        arguments.check()?;
        Ok(arguments)
    }

    fn check(&self) -> Result<(), String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let resource_key = self.resource_key.as_bytes();
        if resource_key.is_empty() || !resource_key.iter().copied().all(is_name) {
            return Err(format!("`resource_key`: `{}` is not an attribute", self.resource_key));
        }
        // It stands in an address.
        let is_type = |byte: u8| is_name(byte) || b"-.:".contains(&byte);
        let resource_type = self.resource_type.as_bytes();
        if resource_type.is_empty() || !resource_type.iter().copied().all(is_type) {
            return Err(format!(
                "`resource_type`: `{}` is not a resource type of Gnocchi",
                self.resource_type
            ));
        }
        if !is_method(&self.aggregation_method, Percentiles::Known) {
            return Err(unknown_method("aggregation_method", &self.aggregation_method));
        }
        if !is_method(&self.re_aggregation_method, Percentiles::Unknown) {
            return Err(unknown_method("re_aggregation_method", &self.re_aggregation_method));
        }
        if self.force_granularity > GRANULARITY_SECS_MAX {
            return Err(format!(
                "`force_granularity`: must be between 0 and {GRANULARITY_SECS_MAX}, got {}",
                self.force_granularity
            ));
        }
        for (key, text) in [
            ("resource_type", &self.resource_type),
            ("resource_key", &self.resource_key),
            ("custom_query", &self.custom_query),
        ] {
            if text.len() > TEXT_SIZE_MAX {
                let size = text.len();
                return Err(format!(
                    "`{key}`: must have at most {TEXT_SIZE_MAX} bytes, got {size}"
                ));
            }
        }
        Ok(())
    }

    /// A rate needs the value before the first.
    pub(crate) fn is_rate(&self) -> bool {
        self.re_aggregation_method.starts_with("rate:")
    }
}

/// Archive policies know percentiles, aggregation across metrics does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Percentiles {
    Known,
    Unknown,
}

fn is_method(method: &str, percentiles: Percentiles) -> bool {
    let plain = method.strip_prefix("rate:").unwrap_or(method);
    let is_percentile = || {
        let digits = plain.strip_suffix("pct").filter(|digits| !digits.starts_with(['0', '+']));
        digits.and_then(|digits| digits.parse::<u8>().ok()).is_some_and(|number| number < 100)
    };
    METHODS.contains(&plain) || (percentiles == Percentiles::Known && is_percentile())
}

fn unknown_method(key: &str, method: &str) -> String {
    let percentiles = if key == "aggregation_method" { ", `1pct` to `99pct`" } else { "" };
    let methods: Vec<String> = METHODS.iter().map(|method| format!("`{method}`")).collect();
    format!(
        "`{key}`: `{method}` is unknown, expected one of {}{percentiles}, or one of them behind \
         `rate:`",
        methods.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(extra_args: &serde_json::Value) -> Result<Arguments> {
        let extra_args = extra_args.as_object().unwrap().clone();
        Arguments::of(&MetricDefinition { extra_args, ..MetricDefinition::new("cpu") })
    }

    fn refused(extra_args: &serde_json::Value) -> String {
        let error = arguments(extra_args).unwrap_err();
        assert_eq!(error.status, rated_plugin::Status::InvalidRequest);
        error.message
    }

    #[test]
    fn defaults_are_those_of_cloudkitty() {
        let arguments = arguments(&json!({"resource_type": "instance"})).unwrap();

        assert_eq!(arguments.resource_key, "id");
        assert_eq!(arguments.aggregation_method, "max");
        assert_eq!(arguments.re_aggregation_method, "max");
        assert_eq!(arguments.force_granularity, 3600);
        assert!(arguments.use_all_resource_revisions);
        assert_eq!(arguments.custom_query, "");
        assert_eq!(arguments.metadata_revision, MetadataRevision::Latest);
    }

    #[test]
    fn every_method_of_cloudkitty_is_known() {
        for method in METHODS {
            let rate = format!("rate:{method}");
            for method in [method, &rate] {
                let both = json!({"resource_type": "x", "aggregation_method": method,
                    "re_aggregation_method": method});
                assert!(arguments(&both).is_ok(), "{method}");
            }
        }
        for method in ["1pct", "95pct", "99pct", "rate:50pct"] {
            let value = json!({"resource_type": "x", "aggregation_method": method});
            assert!(arguments(&value).is_ok(), "{method}");
            let value = json!({"resource_type": "x", "re_aggregation_method": method});
            assert!(refused(&value).contains("`re_aggregation_method`"), "{method}");
        }
        for method in ["0pct", "100pct", "01pct", "pct", "rate:", "rate:rate:max", "", "avg"] {
            let value = json!({"resource_type": "x", "aggregation_method": method});
            assert!(refused(&value).contains("`99pct`, or one of them"), "{method}");
        }
    }

    #[test]
    fn a_wrong_argument_is_named_with_its_metric() {
        assert_eq!(refused(&json!({})), "metric `cpu`: `extra_args`: `resource_type`: is missing");
        let message = refused(&json!({"resource_type": "../v1/metric"}));
        assert!(message.contains("`resource_type`: `../v1/metric` is not a resource type"));
        let message = refused(&json!({"resource_type": "x", "resource_key": ""}));
        assert!(message.contains("`resource_key`: `` is not an attribute"), "{message}");
        let message = refused(&json!({"resource_type": "x", "force_granularity": -1}));
        assert!(message.contains("`force_granularity`: `-1` cannot be used: "), "{message}");
        let message = refused(&json!({"resource_type": "x", "force_granularity": u64::MAX}));
        assert!(message.contains("`force_granularity`: must be between 0 and"), "{message}");
        let message = refused(&json!({"resource_type": "x", "granularity": 60}));
        assert!(message.contains("`granularity` is unknown, expected one of `resource_type`, "));
        let message = refused(&json!({"resource_type": "x", "metadata_revision": "first"}));
        assert!(message.contains("`metadata_revision`: `\"first\"` cannot be used: "), "{message}");
        let long = "x".repeat(TEXT_SIZE_MAX + 1);
        let message = refused(&json!({"resource_type": "x", "custom_query": long}));
        assert!(message.contains("`custom_query`: must have at most 4096 bytes"), "{message}");
    }
}
