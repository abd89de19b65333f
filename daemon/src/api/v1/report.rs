//! What was used and what it cost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::arguments::Arguments;
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::ledger::{Filters, GroupKey, Measures, RowsQuery, SummaryQuery};
use crate::report::{self, Frame, Frames, Points, SummaryRequest, text};

/// Fractional digits of a v1 summary.
const RATE_DIGITS: u32 = 5;

/// Most rows that `/v1/storage/dataframes`, which has no paging, answers with.
pub(crate) const DATAFRAME_ROWS_MAX: usize = 200_000;

const ALL: &str = "ALL";

const BEGIN: Input = Input::date("begin", "The begin of the range; else that of this month.");
const END: Input = Input::date("end", "The end of the range; else that of this month.");
const TENANT_ID: Input = Input::text("tenant_id", "One scope only.");
const SERVICE: Input = Input::text("service", "One metric type only.");
const ALL_TENANTS: Input = Input::text("all_tenants", "Any text: `tenant_id` does not count.");
const GROUPBY: Input =
    Input::text("groupby", "`tenant_id`, `res_type` or both; nothing else counts.");
const RESOURCE_TYPE: Input = Input::text("resource_type", "One metric type only.");

const TOTAL: &[Input] = &[BEGIN, END, TENANT_ID, SERVICE, ALL_TENANTS];
const SUMMARY: &[Input] = &[BEGIN, END, TENANT_ID, SERVICE, GROUPBY, ALL_TENANTS];
const TENANTS: &[Input] = &[BEGIN, END];
const DATAFRAMES: &[Input] = &[BEGIN, END, TENANT_ID, RESOURCE_TYPE];

pub(crate) async fn total(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, TOTAL, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "service");
    let total = context.ledger(move |ledger| report::total(ledger, begin, end, filters)).await?;
    Ok(Answer::document(json!(total.map_or_else(|| "0".to_owned(), text::exact))))
}

pub(crate) async fn summary(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, SUMMARY, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "service");
    // Any text will do; only these two words in it count, and the order is always the same.
    let groupby = arguments.joined("groupby");
    let by_tenant = groupby.contains("tenant_id");
    let by_type = groupby.contains("res_type");
    let mut keys = Vec::new();
    keys.extend(by_tenant.then_some(GroupKey::Scope));
    keys.extend(by_type.then_some(GroupKey::Type));
    let query = SummaryQuery { begin, end, filters, group_by: keys, measures: Measures::Sums };
    let request = SummaryRequest { query, offset: 0, limit: usize::MAX };
    let summary = context.ledger(move |ledger| report::summarize(ledger, request)).await?;
    let rows = summary.groups.iter().map(|group| {
        let mut keys = group.keys.iter();
        let mut key = |grouped: bool| {
            let key = if grouped { keys.next() } else { None };
            key.map_or(ALL, |key| &**key).to_owned()
        };
        json!({
            "begin": dates::naive(begin),
            "end": dates::naive(end),
            "tenant_id": key(by_tenant),
            "res_type": key(by_type),
            "rate": text::rounded_half_even(group.price, RATE_DIGITS),
        })
    });
    Ok(Answer::document(json!({"summary": rows.collect::<Vec<_>>()})))
}

/// The scopes that have rated rows in the time range.
pub(crate) async fn tenants(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, TENANTS, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let scopes = context.ledger(move |ledger| report::scopes_with_rows(ledger, begin, end)).await?;
    let scopes: Vec<Value> = scopes.iter().map(|scope| json!(&**scope)).collect();
    Ok(Answer::document(Value::Array(scopes)))
}

/// One frame for each period and tenant.
pub(crate) async fn dataframes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, DATAFRAMES, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "resource_type");
    let query = RowsQuery { begin, end, filters, offset: 0, limit: DATAFRAME_ROWS_MAX };
    let text = context
        .ledger(move |ledger| {
            let frames = report::frames(ledger, &query)?;
            let too_many = frames.rows_total > DATAFRAME_ROWS_MAX;
            Ok(if too_many { Err(frames.rows_total) } else { Ok(frames_text(&frames)) })
        })
        .await?;
    match text {
        Ok(text) => Ok(Answer::with_status(StatusCode::OK, AnswerBody::Json(text))),
        Err(rows) => Err(Failure::bad_request(format!(
            "{rows} data points are more than the {DATAFRAME_ROWS_MAX} that can be shown at once; \
             ask for a shorter period, one tenant or one resource type"
        ))),
    }
}

fn range(
    context: &Context,
    arguments: &Arguments,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Failure> {
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let begin = arguments.date("begin")?.unwrap_or(month_begin);
    let end = arguments.date("end")?.unwrap_or(month_end);
    Ok((begin, end))
}

fn filters(context: &Context, arguments: &Arguments, type_argument: &str) -> Filters {
    let mut filters = Filters::default();
    let scope_key = &context.config.collect.scope_key;
    if let Some(tenant) = arguments.text("tenant_id").filter(|_| !arguments.flag("all_tenants")) {
        report::add_filter(&mut filters, scope_key, scope_key, tenant);
    }
    if let Some(metric_type) = arguments.text(type_argument) {
        report::add_filter(&mut filters, scope_key, "type", metric_type);
    }
    filters
}

// ---- the shape of a frame -----------------------------------------------------------------------

#[derive(Serialize)]
struct FramesRecord<'a> {
    #[serde(serialize_with = "write_frames")]
    dataframes: (&'a Frames, Points<'a>),
}

#[derive(Serialize)]
struct FrameRecord<'a> {
    begin: String,
    end: String,
    tenant_id: &'a str,
    #[serde(serialize_with = "write_points")]
    resources: (&'a Points<'a>, &'a Frame),
}

#[derive(Serialize)]
struct ResourceRecord<'a> {
    rating: String,
    service: &'a str,
    desc: BTreeMap<&'a str, &'a str>,
    volume: String,
}

/// Rows become text one at a time: there may be very many.
fn frames_text(frames: &Frames) -> String {
    let record = FramesRecord { dataframes: (frames, frames.points()) };
    serde_json::to_string(&record).expect("texts and maps of texts are always JSON")
}

fn write_frames<S: Serializer>(
    (frames, points): &(&Frames, Points<'_>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(frames.frames.iter().map(|frame| FrameRecord {
        begin: dates::naive(frame.period.begin()),
        end: dates::naive(frame.period.end()),
        tenant_id: &frame.scope,
        resources: (points, frame),
    }))
}

fn write_points<S: Serializer>(
    (points, frame): &(&Points<'_>, &Frame),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut resources = serializer.serialize_seq(None)?;
    for point in points.of(frame) {
        // An attribute of both kinds is shown once: the groupby one wins.
        let attributes = point.metadata.iter().chain(&point.groupby);
        resources.serialize_element(&ResourceRecord {
            rating: text::exact_decimal(point.price),
            service: &point.metric_type,
            desc: attributes.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            volume: text::exact_decimal(point.qty),
        })?;
    }
    resources.end()
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::json;

    use super::{DATAFRAMES, SUMMARY, TENANTS, TOTAL};
    use crate::api::openapi::{Operation, named, schemas};

    pub(crate) fn total() -> Operation {
        Operation::new("What everything cost")
            .says("Nothing rated is `0`. Old: `/v2/summary` says more.")
            .inputs(TOTAL)
            .answers(200, "one text", schemas::decimal_text())
    }

    pub(crate) fn summary() -> Operation {
        let row = schemas::record(&json!({
            "begin": schemas::naive_date(),
            "end": schemas::naive_date(),
            "tenant_id": {"type": "string", "description": "`ALL` unless grouped by it"},
            "res_type": {"type": "string", "description": "`ALL` unless grouped by it"},
            "rate": schemas::decimal_text(),
        }));
        let rows = schemas::list_as("summary", &named("V1SummaryRow", &row));
        Operation::new("What everything cost, by scope and type")
            .says("Old: `/v2/summary` says more.")
            .inputs(SUMMARY)
            .answers(200, "a row for each group", rows)
    }

    pub(crate) fn tenants() -> Operation {
        Operation::new("The scopes that have rated data").inputs(TENANTS).answers(
            200,
            "their ids",
            schemas::list(&schemas::text()),
        )
    }

    pub(crate) fn dataframes() -> Operation {
        let resource = schemas::record(&json!({
            "rating": schemas::decimal_text(),
            "service": {"type": "string"},
            "desc": {"type": "object", "additionalProperties": {"type": "string"}},
            "volume": schemas::decimal_text(),
        }));
        let frame = schemas::record(&json!({
            "begin": schemas::naive_date(),
            "end": schemas::naive_date(),
            "tenant_id": {"type": "string"},
            "resources": schemas::list(&named("V1RatedResource", &resource)),
        }));
        let frames = schemas::list_as("dataframes", &named("V1Dataframe", &frame));
        Operation::new("What was used, with its price")
            .says("One frame for each period and scope. There is no paging: too many rows are 400.")
            .inputs(DATAFRAMES)
            .answers(200, "the frames", frames)
    }
}
