//! `/v2/explain`: why prices are what they are.
//!
//! Rows are rated again as they were rated, and every step that is told was computed again: what
//! does not lead to the price is not told as its reason.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::schema::{OFFSET, Parameters};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::{Context, LongCall};
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::audit::{
    EXPLAINED_ROWS_MAX, ExplainError, ExplainRequest, ExplainedGroup, ExplainedPage, ExplainedRow,
    Verdict, Way, explain as explain_rows,
};
use crate::ledger::Origin;
use crate::rating::{ModuleReasons, Told};
use crate::report::{AttributeKind, Rows, text::plain_decimal};
use crate::usage::ScopeId;

const PARAMETERS: &[Input] = &[
    Input::name("scope_id", "Whose rows; a caller who sees one scope only is told of that one."),
    Input::date("begin", "Periods that begin then or later; default: this month's begin."),
    Input::date("end", "Periods that begin before; default: the next month's begin."),
    Input::list("type", "These metric types only."),
    LIMIT,
    OFFSET,
];

/// A page that takes longer to compute ends with the period that was begun: others wait.
const TIME_MAX: Duration = Duration::from_secs(10);

const LIMIT: Input = Input::new(
    "limit",
    Kind::Integer { min: 1, max: 1000 },
    "How many results at most; fewer come when they take more than 10 seconds: go on behind them.",
)
.default("100");
const _: () = assert!(EXPLAINED_ROWS_MAX == 1000);

pub(crate) async fn explain(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, PARAMETERS)?;
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let (offset, limit) = parameters.page()?;
    if limit > EXPLAINED_ROWS_MAX {
        let text = format!("value must be at most {EXPLAINED_ROWS_MAX}");
        return Err(parameters.refuse("limit", &text));
    }
    let types = parameters.multiple("type");
    let request = ExplainRequest {
        scope: scope(&parameters, &call.sight)?,
        begin: parameters.date("begin")?.unwrap_or(month_begin),
        end: parameters.date("end")?.unwrap_or(month_end),
        types: types.map(|types| types.into_iter().map(str::to_owned).collect()),
        offset,
        limit,
    };
    // Nothing is computed for a caller who has gone.
    let waits = Arc::new(());
    let caller = Arc::downgrade(&waits);
    let (rating, runtime, sight) = (context.rating.clone(), Handle::current(), call.sight.clone());
    let job = context.ledger_for_long(LongCall::Explains, move |ledger| {
        let begun = Instant::now();
        let goes_on = || begun.elapsed() < TIME_MAX && Weak::strong_count(&caller) > 0;
        let page = explain_rows((ledger, &rating, &runtime), &request, &goes_on)?;
        show(&page, &sight)
    });
    Ok(Answer::document(job.await?))
}

fn scope(parameters: &Parameters, sight: &Sight) -> Result<ScopeId, Failure> {
    if let Sight::Own(own) = sight {
        return Ok(own.clone());
    }
    let text = parameters.single("scope_id")?;
    let text = text.ok_or_else(|| parameters.refuse("scope_id", "required key not provided"))?;
    ScopeId::new(text).map_err(|error| parameters.refuse("scope_id", &error.to_string()))
}

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Failure {
        match error {
            ExplainError::Ledger(error) => error.into(),
            ExplainError::TooMany => Failure::bad_request(error.to_string()),
            ExplainError::Changing => Failure::busy(),
        }
    }
}

fn show(page: &ExplainedPage, sight: &Sight) -> Result<Value, Failure> {
    let mut results = Vec::new();
    for group in &page.groups {
        let rows = Rows::new(&group.group)?;
        for (index, row) in group.rows.iter().enumerate() {
            results.push(show_row((group, &rows), (group.first_row + index, row), sight));
        }
    }
    Ok(json!({"total": page.total, "results": results}))
}

fn show_row(
    (group, rows): (&ExplainedGroup, &Rows<'_>),
    (place, row): (usize, &ExplainedRow),
    sight: &Sight,
) -> Value {
    let verdict = row.verdict;
    let computed = matches!(group.way, Way::Again { .. }).then(|| plain_decimal(row.computed()));
    let of = &group.group;
    json!({
        "scope_id": rows.scope(place),
        "type": of.metric_type,
        "metric": of.metric_name,
        "begin": dates::zoned(of.period.begin()),
        "end": dates::zoned(of.period.end()),
        "row": place,
        "unit": of.unit,
        "qty": plain_decimal(row.qty),
        "price": plain_decimal(row.stored),
        "groupby": attributes(rows, place, AttributeKind::Groupby),
        "metadata": attributes(rows, place, AttributeKind::Metadata),
        "origin": match of.origin {
            Origin::Collected => "collected",
            Origin::Pushed => "pushed",
        },
        "verdict": verdict.name(),
        "text": verdict.text(group, sight),
        "computed": computed,
        "modules": modules(group, row, sight),
    })
}

fn attributes(rows: &Rows<'_>, place: usize, kind: AttributeKind) -> Value {
    let mut shown = Map::new();
    for attribute in rows.attributes.iter().filter(|attribute| attribute.kind == kind) {
        let Some(text) = rows.text(attribute, place) else { continue };
        let value = if attribute.is_json {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        } else {
            json!(text)
        };
        shown.insert(attribute.name.to_owned(), value);
    }
    Value::Object(shown)
}

/// The chain that rated the row, as the ledger kept it.
fn modules(group: &ExplainedGroup, row: &ExplainedRow, sight: &Sight) -> Vec<Value> {
    let used = match &group.way {
        Way::Again { used, .. } => Some(used),
        Way::Pushed | Way::Lost { .. } => None,
    };
    let module = |(index, by): (usize, &crate::ledger::RatedBy)| {
        let reasons = row.reasons.get(index);
        let number = |number: fn(&ModuleReasons) -> rust_decimal::Decimal| {
            reasons.map(|reasons| plain_decimal(number(reasons)))
        };
        let (steps, note) = match reasons.map(|reasons| &reasons.told) {
            Some(Told::Steps(steps)) => (json!(steps), Value::Null),
            Some(Told::Nothing) => (Value::Null, json!("this module gives no reasons")),
            Some(Told::Wrong(why)) => {
                let why =
                    if *sight == Sight::Everything { format!(": {why}") } else { String::new() };
                let text = format!("the reasons that this module gives do not hold{why}");
                (Value::Null, json!(text))
            }
            None => (Value::Null, Value::Null),
        };
        json!({
            "module": by.module,
            "revision": by.revision,
            "library": by.library,
            "computed_by": used.and_then(|used| used.get(index)).map(|used| &used.library),
            "before": number(|reasons| reasons.before),
            "after": number(|reasons| reasons.after),
            "steps": steps,
            "note": note,
        })
    };
    group.group.rated_by.iter().enumerate().map(module).collect()
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::EqualByOtherLibrary => "equal_by_other_library",
            Verdict::Different => "different",
            Verdict::DifferentByOtherLibrary => "different_by_other_library",
            Verdict::NotComputed => "not_computed",
            Verdict::Pushed => "pushed",
        }
    }

    fn text(self, group: &ExplainedGroup, sight: &Sight) -> String {
        match (self, &group.way) {
            (Verdict::Equal, _) => {
                "computed again as it was rated: the same price comes out".to_owned()
            }
            (Verdict::Different, _) => {
                "computed again as it was rated: another price comes out, so these are not the \
                 reasons of the price that was kept"
                    .to_owned()
            }
            (Verdict::EqualByOtherLibrary, Way::Again { used, .. }) => {
                format!("{}: the same price comes out", by_other(group, used))
            }
            (Verdict::DifferentByOtherLibrary, Way::Again { used, .. }) => {
                format!(
                    "{}: another price comes out, so these are not the reasons of the price that \
                     was kept",
                    by_other(group, used)
                )
            }
            (Verdict::NotComputed, Way::Again { doubt: Some(doubt), .. }) => {
                format!("cannot be computed again: {doubt}")
            }
            (_, Way::Lost { reason }) if *sight == Sight::Everything => {
                format!("cannot be computed again: {reason}")
            }
            (Verdict::Pushed, _) => "rated elsewhere, and pushed".to_owned(),
            _ => "cannot be computed again at the moment".to_owned(),
        }
    }
}

/// `rated by library ab12… of `hashmap`, which is not here; computed with cd34…`
fn by_other(group: &ExplainedGroup, used: &[crate::ledger::RatedBy]) -> String {
    let pairs = group.group.rated_by.iter().zip(used);
    let others = pairs.filter(|(kept, used)| kept.library != used.library).map(|(kept, used)| {
        let (module, library, other) = (&kept.module, &kept.library, &used.library);
        format!(
            "rated by library {library} of `{module}`, which is not here; computed with {other}"
        )
    });
    others.collect::<Vec<_>>().join("; ")
}

pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{PARAMETERS, Verdict};
    use crate::api::openapi::{Operation, named, schemas};
    use crate::audit::EXPLAINED_ROWS_MAX;

    fn decimal() -> Value {
        schemas::decimal_text()
    }

    fn or_null(kind: &str) -> Value {
        json!({"type": [kind, "null"]})
    }

    fn step() -> Value {
        let operand = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "the number of that name, as it is then"},
                "rule": {
                    "type": "object",
                    "description": "who says the number, and what helps to find it again",
                    "properties": {"kind": {"type": "string"}, "id": {"type": "string"}},
                    "required": ["kind", "id"],
                    "additionalProperties": {"type": "string"},
                },
                "value": decimal(),
            },
            "required": ["value"],
            "additionalProperties": false,
        });
        let step = schemas::record(&json!({
            "sets": {"type": "string", "description": "the number that is set"},
            "operation": {"enum": ["take", "add", "multiply", "max"]},
            "operands": schemas::list(&operand),
            "result": decimal(),
        }));
        named("V2Step", &step)
    }

    fn module() -> Value {
        let steps = json!({"anyOf": [schemas::list(&step()), {"type": "null"}]});
        let price = json!({"anyOf": [decimal(), {"type": "null"}]});
        let module = schemas::record(&json!({
            "module": {"type": "string"},
            "revision": {"type": "integer", "description": "of the module's rules"},
            "library": {"type": "string", "description": "SHA-256 of the library that rated"},
            "computed_by": or_null("string"),
            "before": price,
            "after": price,
            "steps": steps,
            "note": or_null("string"),
        }));
        named("V2ModuleReasons", &module)
    }

    fn row() -> Value {
        let attributes = json!({"type": "object"});
        let row = schemas::record(&json!({
            "scope_id": schemas::text(),
            "type": schemas::text(),
            "metric": schemas::text(),
            "begin": schemas::date(),
            "end": schemas::date(),
            "row": {"type": "integer", "description": "among the scope's of metric and period"},
            "unit": schemas::text(),
            "qty": decimal(),
            "price": decimal(),
            "groupby": attributes,
            "metadata": attributes,
            "origin": {"enum": ["collected", "pushed"]},
            "verdict": {"enum": Verdict::ALL.map(Verdict::name)},
            "text": schemas::text(),
            "computed": {"anyOf": [decimal(), {"type": "null"}]},
            "modules": schemas::list(&module()),
        }));
        named("V2ExplainedRow", &row)
    }

    pub(crate) fn explain() -> Operation {
        let answer = json!({
            "total": {"type": "integer", "description": "rows before paging"},
            "results": schemas::list(&row()),
        });
        Operation::new("Why prices are what they are")
            .says(
                "Each row is rated again by the modules that rated it, in their order, with the \
                 rules that they had then. `steps` begin with the numbers `qty` and `price` (the \
                 price before the module) and end with `price`; the daemon has computed every one \
                 of them again, and tells none that do not lead to the price after the module. \
                 `verdict` says whether the price that was kept came out. The quantity is as it \
                 was rated: after factor, offset and mutation, which are not kept with it; \
                 nor is the key of the push that a row came with.",
            )
            .inputs(PARAMETERS)
            .answers(200, "the rows asked for", schemas::record(&answer))
            .refuses(
                400,
                &format!("no scope is named, or more than {EXPLAINED_ROWS_MAX} rows are asked for"),
            )
    }
}
