//! What was used and what it cost.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::arguments::Arguments;
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::policy::{self, Action};
use crate::api::remembered::Question;
use crate::ledger::{Filters, GroupKey, Ledger, Measures, PageOf, SummaryQuery};
use crate::report::{self, SummaryRequest, text};

/// Fractional digits of a v1 summary.
const RATE_DIGITS: u32 = 5;

const ALL: &str = "ALL";

pub(super) const BEGIN: Input =
    Input::date("begin", "The begin of the range; else that of this month.");
pub(super) const END: Input = Input::date("end", "The end of the range; else that of this month.");
pub(super) const TENANT_ID: Input = Input::text("tenant_id", "One scope only.");
const SERVICE: Input = Input::text("service", "One metric type only.");
const ALL_TENANTS: Input = Input::text("all_tenants", "Any text: `tenant_id` does not count.");
const GROUPBY: Input =
    Input::text("groupby", "`tenant_id`, `res_type` or both; nothing else counts.");

const TOTAL: &[Input] = &[BEGIN, END, TENANT_ID, SERVICE, ALL_TENANTS];
const SUMMARY: &[Input] = &[BEGIN, END, TENANT_ID, SERVICE, GROUPBY, ALL_TENANTS];
const TENANTS: &[Input] = &[BEGIN, END];

pub(crate) async fn total(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, TOTAL, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let tenant = tenant(call, &arguments, &policy::GET_TOTAL, call.caller.project_id())?;
    let filters = filters(context, &arguments, tenant, "service");
    let question = Question::Total { begin, end, filters: filters.clone() };
    let make = async || {
        let total = move |ledger: &dyn Ledger| report::total(ledger, begin, end, filters);
        let total = context.ledger(total).await?;
        let total = json!(total.map_or_else(|| "0".to_owned(), text::exact));
        Ok::<_, Failure>(Bytes::from(total.to_string()))
    };
    let total = context.remembered.answer(&*context.ledger, question, make).await?;
    Ok(Answer::with_status(StatusCode::OK, AnswerBody::Json(total)))
}

pub(crate) async fn summary(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, SUMMARY, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let tenant = tenant(call, &arguments, &policy::GET_V1_SUMMARY, call.caller.project_id())?;
    let filters = filters(context, &arguments, tenant, "service");
    // Any text will do; only these two words in it count, and the order is always the same.
    let groupby = arguments.joined("groupby");
    let by_tenant = groupby.contains("tenant_id");
    let by_type = groupby.contains("res_type");
    let mut keys = Vec::new();
    keys.extend(by_tenant.then_some(GroupKey::Scope));
    keys.extend(by_type.then_some(GroupKey::Type));
    let query = SummaryQuery { begin, end, filters, group_by: keys, measures: Measures::Sums };
    let request = SummaryRequest { query, page: PageOf::ALL };
    let summary = context.ledger(move |ledger| report::summarize(ledger, &request)).await?;
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
    let scopes = scopes.iter().filter(|scope| call.sight.covers(scope));
    let scopes: Vec<Value> = scopes.map(|scope| json!(&**scope)).collect();
    Ok(Answer::document(Value::Array(scopes)))
}

pub(super) fn range(
    context: &Context,
    arguments: &Arguments,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Failure> {
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let begin = arguments.date("begin")?.unwrap_or(month_begin);
    let end = arguments.date("end")?.unwrap_or(month_end);
    Ok((begin, end))
}

/// The one scope that is asked for, if it is one: what the arguments say, else `usual`. Another one
/// than the caller may see is refused, and so are all of them.
pub(super) fn tenant<'a>(
    call: &'a Call,
    arguments: &'a Arguments,
    action: &'static Action,
    usual: Option<&'a str>,
) -> Result<Option<&'a str>, Failure> {
    let named = arguments.text("tenant_id").or(usual);
    let tenant = named.filter(|_| !arguments.flag("all_tenants"));
    let is_seen = match tenant {
        Some(tenant) => call.sight.covers(tenant),
        None => call.sight == Sight::Everything,
    };
    if is_seen { Ok(tenant) } else { Err(Failure::Forbidden(action)) }
}

pub(super) fn filters(
    context: &Context,
    arguments: &Arguments,
    tenant: Option<&str>,
    type_argument: &str,
) -> Filters {
    let mut filters = Filters::default();
    let scope_key = &context.config.collect.scope_key;
    if let Some(tenant) = tenant {
        report::add_filter(&mut filters, scope_key, scope_key, tenant);
    }
    if let Some(metric_type) = arguments.text(type_argument) {
        report::add_filter(&mut filters, scope_key, "type", metric_type);
    }
    filters
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::json;

    use super::{SUMMARY, TENANTS, TOTAL};
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
}
