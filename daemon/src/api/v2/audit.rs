//! `/v2/audit`: everything rated again as it was rated, and compared.
//!
//! The answer is a line of JSON for whatever is found, sent when it is found, and one for progress
//! every second; the last one says how it ended. A caller who goes away ends the audit.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use warp::http::StatusCode;

use super::schema::Parameters;
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::outgoing::{self, Outgoing};
use crate::audit::{
    AuditCounts, AuditError, AuditRequest, Damaged, Difference, Finding, NotCompared,
    audit as rate_again,
};
use crate::ledger::{Filters, Ledger, RatedBy};
use crate::report::text::plain_decimal;
use crate::usage::ScopeId;

const LINES: &str = "application/x-ndjson";

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Longest range.
const DAYS_MAX: i64 = 36_600;

const PARAMETERS: &[Input] = &[
    Input::date("begin", "Periods that begin then or later.").required(),
    Input::date("end", "Periods that begin before.").required(),
    Input::list("scope_id", "Rows of these scopes only."),
    Input::list("type", "These metric types only."),
];

pub(crate) async fn audit(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let mut request = read(&Parameters::read(call, PARAMETERS)?)?;
    request.filters.scopes = call.sight.scopes().or(request.filters.scopes);
    let turn = context.audit_turn().ok_or_else(|| Failure::Refused {
        status: StatusCode::CONFLICT,
        text: "an audit is under way already".to_owned(),
    })?;
    let (rating, runtime, sight) = (context.rating.clone(), Handle::current(), call.sight.clone());
    let write = move |ledger: &dyn Ledger, out: &mut Outgoing| {
        let _turn = turn;
        let mut lines = Lines { out, told: Instant::now(), sight };
        let counts = rate_again((ledger, &rating, &runtime), &request, &mut |finding| match lines
            .tell(&finding)
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        match counts {
            Ok(counts) => {
                // Nobody reads it who went away.
                let _ = lines.write(&json!({"end": show_end(&counts)}));
                Ok(())
            }
            Err(AuditError::Stopped) => Ok(()),
            Err(AuditError::Ledger(error)) => Err(error.into()),
        }
    };
    Ok(Answer::with_status(StatusCode::OK, outgoing::send(context, LINES, write).await?))
}

fn read(parameters: &Parameters) -> Result<AuditRequest, Failure> {
    let date = |name: &str| {
        let missing = || parameters.refuse(name, "required key not provided");
        parameters.date(name)?.ok_or_else(missing)
    };
    let (begin, end) = (date("begin")?, date("end")?);
    if begin >= end {
        return Err(parameters.refuse("end", "must be after `begin`"));
    }
    if end - begin > TimeDelta::days(DAYS_MAX) {
        return Err(parameters.refuse("end", &format!("at most {DAYS_MAX} days after `begin`")));
    }
    let texts = |name: &str| -> Option<Vec<String>> {
        Some(parameters.multiple(name)?.into_iter().map(str::to_owned).collect())
    };
    let scope = |text: String| {
        ScopeId::new(&text).map_err(|error| parameters.refuse("scope_id", &error.to_string()))
    };
    let scopes = texts("scope_id").map(|ids| ids.into_iter().map(scope).collect());
    let filters =
        Filters { scopes: scopes.transpose()?, types: texts("type"), ..Filters::default() };
    Ok(AuditRequest { begin, end, filters })
}

struct Lines<'a> {
    out: &'a mut Outgoing,
    /// When progress was told last.
    told: Instant,
    sight: Sight,
}

impl Lines<'_> {
    fn tell(&mut self, finding: &Finding) -> io::Result<()> {
        match finding {
            Finding::Progress { .. } if self.told.elapsed() < PROGRESS_INTERVAL => {
                if self.out.is_stopped() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            }
            Finding::Progress { at, counts } => {
                self.told = Instant::now();
                let progress = json!({"at": dates::zoned(*at), "counts": show_counts(counts)});
                self.write(&json!({"progress": progress}))?;
                self.out.send_now()
            }
            Finding::Difference(difference) => {
                self.write(&json!({"difference": show_difference(difference)}))
            }
            Finding::Damage(damage) => {
                self.write(&json!({"damage": show_damage(damage, &self.sight)}))
            }
            Finding::NotCompared(rows) => {
                self.write(&json!({"not_compared": show_not_compared(rows, &self.sight)}))
            }
        }
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }
}

fn show_counts(counts: &AuditCounts) -> Value {
    json!({
        "rows": counts.rows,
        "equal": counts.equal,
        "different": counts.different,
        "equal_by_other_library": counts.equal_by_other_library,
        "different_by_other_library": counts.different_by_other_library,
        "pushed": counts.pushed,
        "not_compared": counts.not_compared,
        "damages": counts.damages,
        "days_without_rows": counts.days_without_rows,
    })
}

fn show_end(counts: &AuditCounts) -> Value {
    let mut end = show_counts(counts);
    end["outcome"] = json!(counts.outcome().name());
    end
}

fn show_rated_by(chain: &[RatedBy]) -> Value {
    let module =
        |by: &RatedBy| json!({"module": by.module, "revision": by.revision, "library": by.library});
    chain.iter().map(module).collect()
}

fn show_difference(difference: &Difference) -> Value {
    json!({
        "scope_id": difference.scope,
        "type": difference.metric_type,
        "metric": difference.metric_name,
        "begin": dates::zoned(difference.period.begin()),
        "end": dates::zoned(difference.period.end()),
        "row": difference.row,
        "qty": plain_decimal(difference.qty),
        "stored": plain_decimal(difference.stored),
        "computed": plain_decimal(difference.computed),
        "rated_by": show_rated_by(&difference.rated_by),
        "by_same_libraries": difference.is_by_same_libraries,
    })
}

/// A place may name others' scopes.
fn show_damage(damage: &Damaged, sight: &Sight) -> Value {
    let (module, revision) = damage.rules.clone().unzip();
    let (place, detail) = match sight {
        Sight::Everything => (damage.place.as_str(), damage.detail.as_str()),
        Sight::Own(_) | Sight::Nothing => ("the ledger", "something is damaged"),
    };
    json!({
        "place": place,
        "detail": detail,
        "module": module,
        "revision": revision,
    })
}

/// What a module says may name anything.
fn show_not_compared(rows: &NotCompared, sight: &Sight) -> Value {
    let reason = match sight {
        Sight::Everything => rows.reason.as_str(),
        Sight::Own(_) | Sight::Nothing => "they cannot be computed again at the moment",
    };
    json!({
        "type": rows.metric_type,
        "begin": dates::zoned(rows.period.begin()),
        "end": dates::zoned(rows.period.end()),
        "rated_by": show_rated_by(&rows.rated_by),
        "reason": reason,
    })
}

pub(crate) mod describe {
    use super::{LINES, PARAMETERS};
    use crate::api::openapi::{Operation, schemas};
    use crate::audit::{AuditOutcome, DIFFERENCES_TOLD_MAX};

    pub(crate) fn audit() -> Operation {
        let [proved, wrong, incomplete] =
            [AuditOutcome::Proved, AuditOutcome::Wrong, AuditOutcome::Incomplete]
                .map(AuditOutcome::name);
        let lines = format!(
            "a line of JSON for each finding, when it is found: an object with one member, \
             `difference` (at most {DIFFERENCES_TOLD_MAX} are told, all are counted), `damage`, \
             `not_compared` (each reason once), `progress` (every second), and at last `end` with \
             the counts and the `outcome`: `{proved}`, `{wrong}` (a difference, or damage), or \
             `{incomplete}` (nothing wrong was found, but not all rows were compared by the \
             libraries that rated them, or there were none); without that line it has not ended"
        );
        Operation::new("Rates a range again as it was rated, and compares")
            .says(
                "Rows are rated by the modules that rated them, in their order, with the rules \
                 that they had then. Nothing is changed. One audit runs at a time; it ends when \
                 its caller goes away. What a library of today computes because the one that rated \
                 is not here is counted apart. Damaged rows are counted as not compared, a whole \
                 part of them at once; callers who see one scope only are not told where.",
            )
            .inputs(PARAMETERS)
            .answers_with(200, &lines, vec![(LINES, schemas::text())])
            .refuses(400, "`end` is not after `begin`")
            .refuses(409, "an audit is under way already")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_one_scope_is_not_told_where_others_are_damaged() {
        let place = "block of metric `cpu`, scope `other`".to_owned();
        let detail = "scope `other`".to_owned();
        let damage = Damaged { place, detail: detail.clone(), rules: None };
        let period = crate::usage::Period::from_secs(0, 3600).unwrap();
        let metric_type = "cpu".to_owned();
        let rated_by = std::sync::Arc::new([]);
        let rows = NotCompared { period, metric_type, rated_by, reason: detail };
        let shown = |sight: &Sight| {
            [show_damage(&damage, sight), show_not_compared(&rows, sight)]
                .map(|shown| shown.to_string().contains("other"))
        };

        assert_eq!(shown(&Sight::Own(ScopeId::new("own").unwrap())), [false, false]);
        assert_eq!(shown(&Sight::Everything), [true, true]);
    }
}
