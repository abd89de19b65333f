//! The query of one metric, period and set of scopes, as text.
//!
//! The form is `CloudKitty`'s, so that bills are the same, but for many scopes at once:
//!
//! ```text
//! PREFIX AGG(FUNCTION(RANGE(METRIC{SCOPE_KEY=~"a|b"}[3600s]))) by (SCOPE_KEY, LABELS…) SUFFIX
//! ```
//!
//! Every text from outside is either checked to be a name or escaped; only prefix and suffix, which
//! the operator writes, go in as they are.
//!
//! This module sends nothing.

use std::fmt::Write as _;

use rated_plugin::decimal::Precision;
use rated_plugin::{CollectRequest, DateTime, Error, MetricDefinition, Result, Utc};
use serde::Deserialize;

/// Most labels that a metric's definition may name.
pub(crate) const LABELS_MAX: usize = 64;
/// As many significant digits as `CloudKitty` keeps, so that bills are equal.
const SIGNIFICANT_DIGITS_DEFAULT: u32 = 9;
/// Longest prefix or suffix, bytes.
const AFFIX_SIZE_MAX: usize = 4096;

/// `extra_args` of a metric.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Arguments {
    aggregation_method: Aggregation,
    range_function: Option<RangeFunction>,
    query_function: Option<QueryFunction>,
    query_prefix: String,
    query_suffix: String,
    precision: u32,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            aggregation_method: Aggregation::Max,
            range_function: None,
            query_function: None,
            query_prefix: String::new(),
            query_suffix: String::new(),
            precision: SIGNIFICANT_DIGITS_DEFAULT,
        }
    }
}

/// An enum whose variants are `PromQL` names.
macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        enum $type { $(#[serde(rename = $name)] $variant),+ }

        impl $type {
            fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }
    };
}

names!(Aggregation:
    Avg = "avg", Count = "count", Max = "max", Min = "min", Stddev = "stddev", Stdvar = "stdvar",
    Sum = "sum",
);
names!(RangeFunction:
    Changes = "changes", Delta = "delta", Deriv = "deriv", Idelta = "idelta", Irange = "irange",
    Irate = "irate", Rate = "rate",
);
names!(QueryFunction:
    Abs = "abs", Ceil = "ceil", Exp = "exp", Floor = "floor", Ln = "ln", Log2 = "log2",
    Log10 = "log10", Round = "round", Sqrt = "sqrt",
);

impl Arguments {
    pub(crate) fn of(metric: &MetricDefinition) -> Result<Arguments> {
        let name = &metric.name;
        let value = serde_json::Value::Object(metric.extra_args.clone());
        let arguments: Arguments = serde_json::from_value(value)
            .map_err(|error| Error::invalid_request(format!("metric `{name}`: {error}")))?;
        for (key, text) in
            [("query_prefix", &arguments.query_prefix), ("query_suffix", &arguments.query_suffix)]
        {
            if text.len() > AFFIX_SIZE_MAX {
                return Err(Error::invalid_request(format!(
                    "metric `{name}`: `{key}`: must have 0 to {AFFIX_SIZE_MAX} bytes, got {}",
                    text.len()
                )));
            }
        }
        if Precision::new(arguments.precision).is_none() {
            return Err(Error::invalid_request(format!(
                "metric `{name}`: `precision`: must be between 0 and 28, got {}",
                arguments.precision
            )));
        }
        Ok(arguments)
    }

    pub(crate) fn precision(&self) -> Precision {
        Precision::new(self.precision).expect("checked by Arguments::of")
    }
}

/// What is asked, and which labels the answer has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) text: String,
    /// When it is evaluated: seconds since the epoch, exact text.
    pub(crate) time: String,
    /// The scope key, then groupby, then metadata, each once.
    pub(crate) labels: Vec<String>,
}

impl Query {
    pub(crate) fn new(request: &CollectRequest, arguments: &Arguments) -> Result<Query> {
        let metric = &request.metric;
        if !is_metric_name(&metric.name) {
            return Err(Error::invalid_request(format!(
                "`{}` is not the name of a Prometheus metric",
                metric.name
            )));
        }
        let labels = labels(request)?;
        let mut text = String::new();
        if !arguments.query_prefix.is_empty() {
            text.push_str(&arguments.query_prefix);
            text.push(' ');
        }
        let aggregation = arguments.aggregation_method.name();
        let range = arguments
            .range_function
            .map_or_else(|| format!("{aggregation}_over_time"), |range| range.name().to_owned());
        let (open, close) = match arguments.query_function {
            Some(function) => (format!("{}({range}(", function.name()), ")))"),
            None => (format!("{range}("), "))"),
        };
        write!(
            text,
            "{aggregation}({open}{}{}[{}]{close} by ({})",
            metric.name,
            scope_matcher(&request.scope_key, &request.scopes)?,
            duration(request)?,
            labels.join(", "),
        )
        .expect("writing to a String does not fail");
        if !arguments.query_suffix.is_empty() {
            text.push(' ');
            text.push_str(&arguments.query_suffix);
        }
        Ok(Query { text, time: timestamp(request.end)?, labels })
    }
}

fn labels(request: &CollectRequest) -> Result<Vec<String>> {
    let metric = &request.metric;
    let mut labels = vec![request.scope_key.clone()];
    for attribute in metric.groupby.iter().chain(&metric.metadata) {
        if labels.contains(attribute) {
            return Err(Error::invalid_request(format!(
                "metric `{}`: attribute `{attribute}` is named twice",
                metric.name
            )));
        }
        labels.push(attribute.clone());
    }
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid_request(format!(
            "metric `{}`: must have at most {LABELS_MAX} attributes, got {}",
            metric.name,
            labels.len()
        )));
    }
    match labels.iter().find(|label| !is_label_name(label)) {
        Some(label) => Err(Error::invalid_request(format!(
            "metric `{}`: `{label}` is not the name of a Prometheus label",
            metric.name
        ))),
        None => Ok(labels),
    }
}

/// `{key=~"a|b"}`, or nothing when every scope is meant.
///
/// Prometheus anchors the expression at both ends.
fn scope_matcher(scope_key: &str, scopes: &[String]) -> Result<String> {
    if scopes.is_empty() {
        return Ok(String::new());
    }
    let mut pattern = String::new();
    for scope in scopes {
        if scope.is_empty() {
            return Err(Error::invalid_request("a scope without a name cannot be asked for"));
        }
        if !pattern.is_empty() {
            pattern.push('|');
        }
        push_pattern_literal(&mut pattern, scope);
    }
    Ok(format!("{{{scope_key}=~{}}}", quoted(&pattern)))
}

/// `{a="x", b="y"}`: equal values, for the fetcher.
pub(crate) fn equality_matchers<'a>(
    filters: impl Iterator<Item = (&'a String, &'a String)>,
) -> String {
    let matchers: Vec<String> =
        filters.map(|(label, value)| format!("{label}={}", quoted(value))).collect();
    format!("{{{}}}", matchers.join(", "))
}

/// Escaped so that RE2 takes every character as itself.
fn push_pattern_literal(pattern: &mut String, text: &str) {
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
}

/// A `PromQL` string.
fn quoted(text: &str) -> String {
    let mut string = String::with_capacity(text.len() + 2);
    string.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                string.push('\\');
                string.push(character);
            }
            '\n' => string.push_str("\\n"),
            // Prometheus takes the replacement character itself for broken UTF-8.
            '\u{fffd}' => string.push_str("\\ufffd"),
            control if u32::from(control) < 0x20 || control == '\u{7f}' => {
                write!(string, "\\x{:02x}", u32::from(control))
                    .expect("writing to a String does not fail");
            }
            other => string.push(other),
        }
    }
    string.push('"');
    string
}

pub(crate) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_' || byte == b':')
}

pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_')
}

fn is_name(name: &str, is_extra: impl Fn(u8) -> bool) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || is_extra(byte);
    name.bytes().next().is_some_and(is_first)
        && name.bytes().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

fn duration(request: &CollectRequest) -> Result<String> {
    let duration = request.end - request.begin;
    let millis = duration.num_milliseconds();
    let is_exact = chrono::TimeDelta::milliseconds(millis) == duration;
    if millis <= 0 || !is_exact {
        return Err(Error::invalid_request(format!(
            "a period must be a positive number of milliseconds for Prometheus, got {} to {}",
            request.begin, request.end
        )));
    }
    Ok(if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") })
}

/// Seconds since the epoch with as many digits as the instant has, at most milliseconds.
pub(crate) fn timestamp(instant: DateTime<Utc>) -> Result<String> {
    let millis = instant.timestamp_millis();
    if !instant.timestamp_subsec_nanos().is_multiple_of(1_000_000) || millis < 0 {
        return Err(Error::invalid_request(format!(
            "Prometheus knows milliseconds after 1970, not {instant}"
        )));
    }
    Ok(match millis % 1000 {
        0 => format!("{}", millis / 1000),
        rest => format!("{}.{rest:03}", millis / 1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(extra_args: &serde_json::Value, scopes: &[&str]) -> CollectRequest {
        CollectRequest {
            metric: MetricDefinition {
                name: "cpu".to_owned(),
                alt_name: "instance".to_owned(),
                unit: "instance".to_owned(),
                groupby: vec!["id".to_owned()],
                metadata: vec!["flavor".to_owned()],
                extra_args: extra_args.as_object().unwrap().clone(),
            },
            scope_key: "project_id".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            begin: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            end: DateTime::from_timestamp(1_700_003_600, 0).unwrap(),
        }
    }

    fn query(extra_args: &serde_json::Value, scopes: &[&str]) -> Result<Query> {
        let request = request(extra_args, scopes);
        Query::new(&request, &Arguments::of(&request.metric)?)
    }

    fn check(extra_args: &serde_json::Value, scopes: &[&str], expected: &str) {
        assert_eq!(query(extra_args, scopes).unwrap().text, expected);
    }

    #[test]
    fn one_query_asks_for_many_scopes() {
        check(
            &serde_json::json!({}),
            &["a", "b"],
            r#"max(max_over_time(cpu{project_id=~"a|b"}[3600s])) by (project_id, id, flavor)"#,
        );
        check(
            &serde_json::json!({"aggregation_method": "sum"}),
            &[],
            "sum(sum_over_time(cpu[3600s])) by (project_id, id, flavor)",
        );
    }

    #[test]
    fn functions_stand_where_cloudkitty_puts_them() {
        check(
            &serde_json::json!({
                "aggregation_method": "avg", "range_function": "delta", "query_function": "ceil",
                "query_prefix": "2 *", "query_suffix": "> 0",
            }),
            &["a"],
            r#"2 * avg(ceil(delta(cpu{project_id=~"a"}[3600s]))) by (project_id, id, flavor) > 0"#,
        );
    }

    #[test]
    fn scopes_are_escaped_for_the_expression_and_for_the_string() {
        check(
            &serde_json::json!({}),
            &["a.b|c", "\"q\"", "back\\slash", "x\ny", "é\u{fffd}\u{1}"],
            concat!(
                r#"max(max_over_time(cpu{project_id=~"a\\.b\\|c|\"q\"|back\\\\slash"#,
                r#"|x\ny|é\ufffd\x01"}[3600s])) by (project_id, id, flavor)"#
            ),
        );
    }

    #[test]
    fn the_query_is_evaluated_at_the_end_of_the_period() {
        let mut request = request(&serde_json::json!({}), &[]);
        let arguments = Arguments::default();
        assert_eq!(Query::new(&request, &arguments).unwrap().time, "1700003600");

        request.end = DateTime::from_timestamp_millis(1_700_000_000_005).unwrap();

        let query = Query::new(&request, &arguments).unwrap();
        assert_eq!(query.time, "1700000000.005");
        assert!(query.text.contains("[5ms]"), "{}", query.text);
    }

    #[test]
    fn a_wrong_definition_is_refused_with_its_metric_and_field() {
        let refused = |extra_args: serde_json::Value| {
            let error = query(&extra_args, &["a"]).unwrap_err();
            assert_eq!(error.status, rated_plugin::Status::InvalidRequest);
            error.message
        };

        let message = refused(serde_json::json!({"aggregation_method": "median"}));
        assert!(message.starts_with("metric `cpu`: unknown variant `median`, expected one of"));
        assert!(message.contains("`stdvar`"), "{message}");
        let message = refused(serde_json::json!({"aggregation": "max"}));
        assert!(message.contains("unknown field `aggregation`"), "{message}");
        let message = refused(serde_json::json!({"precision": 29}));
        assert_eq!(message, "metric `cpu`: `precision`: must be between 0 and 28, got 29");
        let message = refused(serde_json::json!({"query_prefix": "x".repeat(4097)}));
        assert!(message.contains("`query_prefix`: must have 0 to 4096 bytes"), "{message}");
    }

    #[test]
    fn names_that_are_none_never_reach_the_query() {
        let arguments = Arguments::default();
        let refused = |change: fn(&mut CollectRequest)| {
            let mut request = request(&serde_json::json!({}), &["a"]);
            change(&mut request);
            Query::new(&request, &arguments).unwrap_err().message
        };

        for change in [
            |request: &mut CollectRequest| request.metric.name = "cpu} or up".to_owned(),
            |request: &mut CollectRequest| request.metric.name = String::new(),
            |request: &mut CollectRequest| request.metric.groupby = vec!["a) or (b".to_owned()],
            |request: &mut CollectRequest| request.metric.metadata = vec!["1st".to_owned()],
            |request: &mut CollectRequest| request.scope_key = "project-id".to_owned(),
        ] {
            assert!(refused(change).contains("is not the name of a Prometheus"));
        }
        assert!(
            refused(|request| request.metric.metadata = vec!["id".to_owned()]).contains("twice")
        );
        assert!(refused(|request| request.scopes.push(String::new())).contains("without a name"));
        assert!(refused(|request| request.end = request.begin).contains("positive number"));
    }
}
