//! What was used and what it cost.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::arguments::Arguments;
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::ledger::{Filters, GroupKey, RowsQuery, SummaryQuery};
use crate::report::{self, Frame, Point, SummaryRequest, text};

/// Fractional digits of a v1 summary.
const RATE_DIGITS: u32 = 5;

/// Most rows that `/v1/storage/dataframes`, which has no paging, answers with.
pub(crate) const DATAFRAME_ROWS_MAX: usize = 200_000;

const ALL: &str = "ALL";

pub(crate) async fn total(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let names = ["begin", "end", "tenant_id", "service", "all_tenants"];
    let arguments = Arguments::all(call, &names, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "service");
    let total = context.ledger(move |ledger| report::total(ledger, begin, end, filters)).await?;
    Ok(Answer::document(json!(total.map_or_else(|| "0".to_owned(), text::exact))))
}

pub(crate) async fn summary(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let names = ["begin", "end", "tenant_id", "service", "groupby", "all_tenants"];
    let arguments = Arguments::all(call, &names, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "service");
    // Any text will do; only these two words in it count, and the order is always the same.
    let groupby = arguments.joined("groupby");
    let by_tenant = groupby.contains("tenant_id");
    let by_type = groupby.contains("res_type");
    let mut keys = Vec::new();
    keys.extend(by_tenant.then_some(GroupKey::Scope));
    keys.extend(by_type.then_some(GroupKey::Type));
    let query = SummaryQuery { begin, end, filters, group_by: keys };
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
    let arguments = Arguments::all(call, &["begin", "end"], &[])?;
    let (begin, end) = range(context, &arguments)?;
    let scopes = context.ledger(move |ledger| report::scopes_with_rows(ledger, begin, end)).await?;
    let scopes: Vec<Value> = scopes.iter().map(|scope| json!(&**scope)).collect();
    Ok(Answer::document(Value::Array(scopes)))
}

/// One frame for each period and tenant.
pub(crate) async fn dataframes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let names = ["begin", "end", "tenant_id", "resource_type"];
    let arguments = Arguments::all(call, &names, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let filters = filters(context, &arguments, "resource_type");
    let query = RowsQuery { begin, end, filters, offset: 0, limit: DATAFRAME_ROWS_MAX };
    let text = context
        .ledger(move |ledger| {
            let frames = report::frames(ledger, &query)?;
            let too_many = frames.rows_total > DATAFRAME_ROWS_MAX;
            Ok(if too_many { Err(frames.rows_total) } else { Ok(frames_text(&frames.frames)) })
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
struct FramesRecord {
    dataframes: Vec<FrameRecord>,
}

#[derive(Serialize)]
struct FrameRecord {
    begin: String,
    end: String,
    tenant_id: String,
    resources: Vec<ResourceRecord>,
}

#[derive(Serialize)]
struct ResourceRecord {
    rating: String,
    service: String,
    desc: Map<String, Value>,
    volume: String,
}

fn frames_text(frames: &[Frame]) -> String {
    let frame = |frame: &Frame| FrameRecord {
        begin: dates::naive(frame.period.begin()),
        end: dates::naive(frame.period.end()),
        tenant_id: frame.scope.clone(),
        resources: frame.points.iter().map(resource).collect(),
    };
    let record = FramesRecord { dataframes: frames.iter().map(frame).collect() };
    serde_json::to_string(&record).expect("texts and maps of texts are always JSON")
}

fn resource(point: &Point) -> ResourceRecord {
    // An attribute of both kinds is shown once: the groupby one wins.
    let attributes = point.metadata.iter().chain(&point.groupby);
    ResourceRecord {
        rating: text::exact_decimal(point.price),
        service: point.metric_type.clone(),
        desc: attributes.map(|(name, value)| (name.clone(), json!(value))).collect(),
        volume: text::exact_decimal(point.qty),
    }
}
