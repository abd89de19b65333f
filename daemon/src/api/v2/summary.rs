//! `/v2/summary`: sums by any attribute.

use serde_json::{Map, Number, Value, json};

use super::schema::Parameters;
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::ledger::{Filters, GroupKey, Measures, SummaryGroup, SummaryQuery};
use crate::report::{self, SummaryRequest, text};
use crate::usage::Sum;

const PARAMETERS: [&str; 8] =
    ["begin", "end", "groupby", "filters", "custom_fields", "response_format", "limit", "offset"];

/// Most attributes in one `groupby`.
const GROUPS_MAX: usize = 32;

pub(crate) async fn summary(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, &PARAMETERS)?;
    let as_objects = match parameters.single("response_format")? {
        None | Some("table") => false,
        Some("object") => true,
        Some(_) => return Err(parameters.refuse("response_format", "expected table or object")),
    };
    if parameters.single("custom_fields")?.is_some() {
        let reason = "custom fields are not offered by this version; leave the parameter out";
        return Err(parameters.refuse("custom_fields", reason));
    }
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let begin = parameters.date("begin")?.unwrap_or(month_begin);
    let end = parameters.date("end")?.unwrap_or(month_end);
    let scope_key = &context.config.collect.scope_key;
    let mut filters = Filters::default();
    for (name, value) in parameters.pairs("filters")? {
        report::add_filter(&mut filters, scope_key, attribute(name), value);
    }
    let (offset, limit) = parameters.page()?;
    let (names, group_by) = grouping(&parameters, scope_key)?;
    let query = SummaryQuery { begin, end, filters, group_by, measures: Measures::Sums };
    let request = SummaryRequest { query, offset, limit };
    let summary = context.ledger(move |ledger| report::summarize(ledger, request)).await?;
    let rows = summary.groups.iter().map(|group| {
        let (begin, end) =
            group.period.map_or((begin, end), |period| (period.begin(), period.end()));
        row(group, json!(dates::zoned(begin)), json!(dates::zoned(end)))
    });
    let columns: Vec<&str> = ["begin", "end", "qty", "rate"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    if as_objects {
        let objects: Vec<Value> = rows.map(|row| object(&columns, row)).collect();
        let shown = json!({"total": summary.total, "results": objects, "format": "object"});
        return Ok(Answer::document(shown));
    }
    let rows: Vec<Value> = rows.map(Value::Array).collect();
    // A table without rows has no columns either.
    let columns = if rows.is_empty() { Vec::new() } else { columns };
    let total = summary.total;
    let shown = json!({"total": total, "columns": columns, "results": rows, "format": "table"});
    Ok(Answer::document(shown))
}

/// Column names beside the four that are always there, and what the ledger shall group by.
fn grouping(
    parameters: &Parameters,
    scope_key: &str,
) -> Result<(Vec<String>, Vec<GroupKey>), Failure> {
    let (mut names, mut group_by) = (Vec::new(), Vec::new());
    for wanted in parameters.multiple("groupby").unwrap_or_default() {
        let name = attribute(wanted);
        let unknown_time =
            name == wanted && name.strip_prefix("time-").is_some_and(|unit| !unit.contains('-'));
        if unknown_time {
            return Err(Failure::bad_request(format!(
                "Invalid groupby time option. There is no groupby processing for [{wanted}]."
            )));
        }
        let key = match name {
            "time" => GroupKey::Time,
            "type" => GroupKey::Type,
            name if name == scope_key => GroupKey::Scope,
            name => GroupKey::Attribute(name.to_owned()),
        };
        if group_by.contains(&key) {
            continue;
        }
        if key != GroupKey::Time {
            names.push(name.to_owned());
        }
        group_by.push(key);
    }
    if group_by.len() > GROUPS_MAX {
        let reason = format!("length of value must be at most {GROUPS_MAX}");
        return Err(parameters.refuse("groupby", &reason));
    }
    Ok((names, group_by))
}

/// `time-d` and its like are attributes of the period's begin.
fn attribute(name: &str) -> &str {
    match name {
        "time-d" => "day_of_the_year",
        "time-w" => "week_of_the_year",
        "time-m" => "month",
        "time-y" => "year",
        other => other,
    }
}

fn row(group: &SummaryGroup, begin: Value, end: Value) -> Vec<Value> {
    let mut row = vec![begin, end, number(group.qty), number(group.price)];
    row.extend(group.keys.iter().map(|key| json!(&**key)));
    row
}

/// A JSON number whose text is the exact decimal.
fn number(sum: Sum) -> Value {
    let number: Number =
        text::exact(sum).parse().expect("a decimal text of digits and a point is a JSON number");
    Value::Number(number)
}

fn object(columns: &[&str], row: Vec<Value>) -> Value {
    let members: Map<String, Value> =
        columns.iter().map(|column| (*column).to_owned()).zip(row).collect();
    Value::Object(members)
}
