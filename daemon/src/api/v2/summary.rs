//! `/v2/summary`: sums by any attribute.

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value, json};
use warp::http::{StatusCode, header};

use super::schema::{LIMIT, LIMIT_DEFAULT, OFFSET, Parameters};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::csv;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::negotiate::{Accepts, Decimals, Figures};
use crate::api::openapi::{Input, Kind};
use crate::api::outgoing::{self, Outgoing};
use crate::ledger::{
    Filters, GroupKey, Ledger, LedgerError, PageOf, SummaryGroup, SummaryPage, SummaryQuery,
};
use crate::report::{self, FieldValue, Fields, SummaryRequest, text};

const PARAMETERS: &[Input] = &[
    Input::date("begin", "The begin of the range; else that of this month."),
    Input::date("end", "The end of the range; else that of this month."),
    Input::list("groupby", "Attributes, `type`, the scope key, or `time` and its parts."),
    Input::new("filters", Kind::Schema(describe::filters), "`name:value` pairs."),
    Input::text("custom_fields", "Columns, as in `SUM(price) AS cost, MAX(qty) AS most`."),
    Input::new("response_format", Kind::Words(&FORMATS), "How rows are shown.")
        .default("\"table\""),
    LIMIT,
    OFFSET,
];

const FORMATS: [&str; 2] = ["table", "object"];

/// What is summed when nobody says.
const FIELDS_USUAL: &str = "SUM(qty) AS qty, SUM(price) AS rate";

/// Most attributes in one `groupby`.
const GROUPS_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Object,
}

/// What was asked for.
struct Question {
    parameters: Parameters,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    fields: Fields,
    /// Of the groups.
    names: Vec<String>,
    request: SummaryRequest,
}

pub(crate) async fn summary(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let figures = Accepts::of(call).figures();
    let parameters = Parameters::read(call, PARAMETERS)?;
    let format = match parameters.single("response_format")? {
        None | Some("table") => Format::Table,
        Some("object") => Format::Object,
        Some(_) => return Err(parameters.refuse("response_format", "expected table or object")),
    };
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let begin = parameters.date("begin")?.unwrap_or(month_begin);
    let end = parameters.date("end")?.unwrap_or(month_end);
    let scope_key = &context.config.collect.scope_key;
    let mut filters = Filters::default();
    for (name, value) in parameters.pairs("filters")? {
        report::add_filter(&mut filters, scope_key, attribute(name), value);
    }
    filters.scopes = call.sight.scopes().or(filters.scopes);
    let limit_default = if figures == Figures::Csv { usize::MAX } else { LIMIT_DEFAULT };
    let (offset, limit) = parameters.page_or(limit_default)?;
    let (names, group_by) = grouping(&parameters, scope_key)?;
    let fields = fields(&parameters, &names)?;
    let measures = fields.measures();
    let query = SummaryQuery { begin, end, filters, group_by, measures };
    let request = SummaryRequest { query, page: PageOf { offset, limit } };
    let question = Question { parameters, begin, end, fields, names, request };
    let content_type = figures.content_type();
    let answer = match figures {
        Figures::Csv => {
            let write = move |ledger: &dyn Ledger, out: &mut Outgoing| question.write(ledger, out);
            let body = outgoing::send(context, content_type, write).await?;
            Answer::with_status(StatusCode::OK, body)
        }
        Figures::Json(decimals) => {
            let answer = move |ledger: &dyn Ledger| Ok(question.answer(ledger, decimals, format));
            let document = context.ledger(answer).await??;
            Answer::text(content_type, document.to_string())
        }
    };
    Ok(answer.header(header::VARY, "Accept"))
}

impl Question {
    fn columns(&self) -> Vec<&str> {
        let groups = self.names.iter().map(String::as_str);
        ["begin", "end"].into_iter().chain(self.fields.names()).chain(groups).collect()
    }

    fn summarize(&self, ledger: &dyn Ledger) -> Result<SummaryPage, LedgerError> {
        if self.fields.is_about_nothing() {
            return Ok(SummaryPage::default());
        }
        report::summarize(ledger, &self.request)
    }

    fn row(&self, group: &SummaryGroup, decimals: Decimals) -> Result<Vec<Value>, Failure> {
        let (begin, end) =
            group.period.map_or((self.begin, self.end), |period| (period.begin(), period.end()));
        let figures = self.fields.values(group);
        let figures =
            figures.map_err(|error| self.parameters.refuse("custom_fields", &error.to_string()))?;
        let mut row = vec![json!(dates::zoned(begin)), json!(dates::zoned(end))];
        row.extend(figures.into_iter().map(|figure| number(figure, decimals)));
        row.extend(group.keys.iter().map(|key| json!(&**key)));
        Ok(row)
    }

    fn answer(
        &self,
        ledger: &dyn Ledger,
        decimals: Decimals,
        format: Format,
    ) -> Result<Value, Failure> {
        let summary = self.summarize(ledger)?;
        let rows = summary.groups.iter().map(|group| self.row(group, decimals));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(show(summary.total, &self.columns(), rows, format))
    }

    /// A line for each group, all of them unless the caller wants fewer.
    fn write(&self, ledger: &dyn Ledger, out: &mut Outgoing) -> Result<(), Failure> {
        let summary = self.summarize(ledger)?;
        let mut written = csv::write_line(out, self.columns());
        for group in &summary.groups {
            if written.is_err() {
                break;
            }
            let row = self.row(group, Decimals::Texts)?;
            let row: Vec<String> = row.iter().map(field).collect();
            written = csv::write_line(out, row.iter().map(String::as_str));
        }
        // Writing fails when nobody reads any more.
        Ok(())
    }
}

fn show(total: usize, columns: &[&str], rows: Vec<Vec<Value>>, format: Format) -> Value {
    match format {
        Format::Object => {
            let objects: Vec<Value> = rows.into_iter().map(|row| object(columns, row)).collect();
            json!({"total": total, "results": objects, "format": "object"})
        }
        Format::Table => {
            // A table without rows has no columns either.
            let columns = if rows.is_empty() { &[] } else { columns };
            json!({"total": total, "columns": columns, "results": rows, "format": "table"})
        }
    }
}

/// Column names of the groups, and what the ledger shall group by.
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
        if group_by.len() > GROUPS_MAX {
            let reason = format!("length of value must be at most {GROUPS_MAX}");
            return Err(parameters.refuse("groupby", &reason));
        }
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

/// The columns of figures: those that the caller made up, or the usual ones.
fn fields(parameters: &Parameters, group_names: &[String]) -> Result<Fields, Failure> {
    let text = parameters.single("custom_fields")?.unwrap_or(FIELDS_USUAL);
    let fields = Fields::parse(text)
        .map_err(|error| parameters.refuse("custom_fields", &error.to_string()))?;
    let is_taken = |name: &&str| {
        ["begin", "end"].contains(name) || group_names.iter().any(|group| group == name)
    };
    if let Some(name) = fields.names().find(is_taken) {
        let reason = format!("`{name}` is the name of another column; give it another with AS");
        return Err(parameters.refuse("custom_fields", &reason));
    }
    Ok(fields)
}

/// The exact decimal; a count is a whole number.
fn number(value: Option<FieldValue>, decimals: Decimals) -> Value {
    let Some(FieldValue { value, is_count }) = value else { return Value::Null };
    let text = if is_count { value.to_text(0) } else { text::exact(value) };
    if decimals == Decimals::Texts && !is_count {
        return Value::String(text);
    }
    let number: Number =
        text.parse().expect("a decimal text of digits and a point is a JSON number");
    Value::Number(number)
}

/// A value as CSV has it.
fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn object(columns: &[&str], row: Vec<Value>) -> Value {
    let members: Map<String, Value> =
        columns.iter().map(|column| (*column).to_owned()).zip(row).collect();
    Value::Object(members)
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::PARAMETERS;
    use crate::api::openapi::{Operation, named, schemas};

    pub(crate) fn summary() -> Operation {
        let total = json!({"type": "integer", "minimum": 0, "description": "of all pages"});
        let table = schemas::record(&json!({
            "total": total,
            "columns": schemas::list(&schemas::text()),
            "results": schemas::list(&json!({"type": "array"})),
            "format": {"const": "table"},
        }));
        let row = json!({
            "type": "object",
            "description": "`begin`, `end`, the figures (`qty` and `rate` unless others were \
                            asked for) and the groups, by their names",
            "properties": {"begin": schemas::date(), "end": schemas::date()},
            "required": ["begin", "end"],
            "additionalProperties": {"type": ["number", "string", "null"]},
        });
        let objects = schemas::record(&json!({
            "total": total,
            "results": schemas::list(&named("V2SummaryRow", &row)),
            "format": {"const": "object"},
        }));
        let both = json!({"oneOf": [
            named("V2SummaryTable", &table),
            named("V2SummaryObjects", &objects),
        ]});
        Operation::new("Sums by any attribute")
            .says(
                "Sorted by time, then by the groups in the order asked for. With `Accept: \
                 application/json; decimal=string` figures are texts; with `Accept: text/csv` the \
                 answer has a line for each group, and no limit unless one is given.",
            )
            .inputs(PARAMETERS)
            .answers_figures(200, "a row for each group", both)
    }

    pub(super) fn filters() -> Value {
        let pair = json!({"type": "string", "pattern": "^[^:,]*:[^:,]*$"});
        json!({"type": "array", "items": pair, "minItems": 1})
    }
}
