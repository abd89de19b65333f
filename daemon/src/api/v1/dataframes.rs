//! `/v1/storage/dataframes`: everything that was rated, period by period. It has no paging.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;

use serde::{Serialize, Serializer};
use warp::http::StatusCode;

use super::arguments::Arguments;
use super::report::{BEGIN, END, TENANT_ID, filters, range, tenant};
use crate::api::answer::{Answer, AnswerBody, JSON};
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::{Context, LongCall};
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::negotiate::{Accepts, Format};
use crate::api::openapi::Input;
use crate::api::outgoing;
use crate::api::policy;
use crate::ledger::{Ledger, LedgerError, RowsQuery};
use crate::report::{self, AttributeKind, Frame, Rows, text};

/// Most rows that are shown in XML, which is not sent while it is made.
pub(crate) const XML_ROWS_MAX: usize = 200_000;

const RESOURCE_TYPE: Input = Input::text("resource_type", "One metric type only.");
const DATAFRAMES: &[Input] = &[BEGIN, END, TENANT_ID, RESOURCE_TYPE];

/// One frame for each period and tenant.
pub(crate) async fn dataframes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, DATAFRAMES, &[])?;
    let (begin, end) = range(context, &arguments)?;
    let usual = match &call.sight {
        Sight::Own(own) => Some(own.as_str()),
        Sight::Everything | Sight::Nothing => None,
    };
    let tenant = tenant(call, &arguments, &policy::LIST_DATA_FRAMES, usual)?;
    let filters = filters(context, &arguments, tenant, "resource_type");
    let query = RowsQuery { begin, end, filters, offset: 0, limit: usize::MAX };
    let body = match Accepts::of(call).format() {
        Some(Format::Xml(_)) => {
            let job = move |ledger: &dyn Ledger| in_memory(ledger, &query);
            context.ledger_for_long(LongCall::WritesAnswer, job).await?
        }
        Some(Format::Json) | None => {
            let write = move |ledger: &dyn Ledger, out: &mut outgoing::Outgoing| {
                // Of a caller who is gone nobody hears.
                write_frames(ledger, &query, out).or_else(Stop::into_result)
            };
            outgoing::send(context, JSON, write).await?
        }
    };
    Ok(Answer::with_status(StatusCode::OK, body))
}

fn in_memory(ledger: &dyn Ledger, query: &RowsQuery) -> Result<AnswerBody, Failure> {
    let rows = ledger.rows(&RowsQuery { limit: 0, ..query.clone() })?.total;
    if rows > XML_ROWS_MAX {
        return Err(Failure::bad_request(format!(
            "{rows} data points are more than the {XML_ROWS_MAX} that can be shown in XML; ask for \
             JSON, a shorter period, one tenant or one resource type"
        )));
    }
    let mut text = Vec::new();
    write_frames(ledger, query, &mut text).or_else(Stop::into_result)?;
    Ok(AnswerBody::Json(text.into()))
}

/// Why the frames were not all written.
enum Stop {
    Ledger(LedgerError),
    /// Nobody reads any more.
    Gone,
}

impl Stop {
    fn into_result(self) -> Result<(), Failure> {
        match self {
            Stop::Ledger(error) => Err(error.into()),
            Stop::Gone => Ok(()),
        }
    }
}

fn write_frames(ledger: &dyn Ledger, query: &RowsQuery, out: &mut impl Write) -> Result<(), Stop> {
    let gone = |_: io::Error| Stop::Gone;
    out.write_all(br#"{"dataframes":["#).map_err(gone)?;
    let (mut comma, mut written): (&[u8], _) = (b"", Ok(()));
    let visited = report::visit_frames(ledger, query, &mut |frame| {
        written = out.write_all(comma).and_then(|()| {
            serde_json::to_writer(&mut *out, &FrameRecord::of(frame)).map_err(io::Error::from)
        });
        comma = b",";
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    visited.map_err(Stop::Ledger)?;
    written.and_then(|()| out.write_all(b"]}")).map_err(gone)
}

// ---- the shape of a frame -----------------------------------------------------------------------

#[derive(Serialize)]
struct FrameRecord<'a> {
    begin: String,
    end: String,
    tenant_id: &'a str,
    resources: Resources<'a>,
}

#[derive(Serialize)]
struct ResourceRecord<'a> {
    rating: String,
    service: &'a str,
    desc: BTreeMap<&'a str, String>,
    volume: String,
}

impl<'a> FrameRecord<'a> {
    fn of(frame: &'a Frame<'a>) -> FrameRecord<'a> {
        FrameRecord {
            begin: dates::naive(frame.period.begin()),
            end: dates::naive(frame.period.end()),
            tenant_id: frame.scope,
            resources: Resources(frame),
        }
    }
}

/// Rows become text one at a time: there may be very many.
struct Resources<'a>(&'a Frame<'a>);

impl Serialize for Resources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows().map(|(rows, row)| ResourceRecord {
            rating: text::exact_decimal(rows.price(row)),
            service: &rows.group.metric_type,
            desc: description(rows, row),
            volume: text::exact_decimal(rows.qty(row)),
        }))
    }
}

/// An attribute of both kinds is shown once: the groupby one wins.
fn description<'a>(rows: &'a Rows<'_>, row: usize) -> BTreeMap<&'a str, String> {
    let mut description = BTreeMap::new();
    for kind in [AttributeKind::Metadata, AttributeKind::Groupby] {
        for attribute in rows.attributes.iter().filter(|attribute| attribute.kind == kind) {
            if let Some(text) = rows.text(attribute, row) {
                let text = if attribute.is_json { unquoted(text) } else { text.to_owned() };
                description.insert(attribute.name, text);
            }
        }
    }
    description
}

/// A JSON string is what it says; any other JSON is its text.
fn unquoted(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::json;

    use super::DATAFRAMES;
    use crate::api::openapi::{Operation, named, schemas};

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
            .says(
                "One frame for each period and scope. There is no paging; XML shows at most \
                 200,000 rows.",
            )
            .inputs(DATAFRAMES)
            .answers(200, "the frames", frames)
    }
}
