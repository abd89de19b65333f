//! The price of each row: the scripts in force, run over the rows of each scope apart.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rated_plugin::{
    Attribute, Call, Decimal, ENCODING_JSON, ENCODING_KEY, Error, Explanation, Level, PriceBatch,
    Purpose, RateRequest, Rater, RecordBatch, Result, Status, UsageBatch, serde_json, text_at,
};

use crate::Shared;
use crate::explain::{Reasons, Untold};
use crate::failures::Failures;
use crate::python::{Cell, Lease, Point, Points, Scripts, Wrong};
use crate::record::Id;

/// What is left of a call's time at least when another scope is begun, beside the time of its run.
const TIME_LEFT_MIN: Duration = Duration::from_secs(1);

/// The scripts in force at one moment.
#[derive(Debug)]
pub struct ScriptsRater {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scripts: Arc<Scripts>,
    /// The id and the checksum of each script.
    pub(crate) ids: Arc<[(Id, String)]>,
    pub(crate) failures: Failures,
}

impl Rater for ScriptsRater {
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let view = UsageBatch::new(usage)?;
        if self.scripts.0.is_empty() || view.rows() == 0 {
            return PriceBatch::unchanged(&view);
        }
        let columns = Columns::of(usage, &view);
        let scopes = rows_by_scope(&view);
        let mut prices = vec![Decimal::ZERO; view.rows()];
        let points = |rows: &[usize]| columns.points(request, &view, rows);
        let fail = |scope: &str, wrong: &Wrong| {
            self.log(request, scope, wrong, scopes.len());
            failed(wrong, &format!("scope `{scope}`"))
        };
        if !self.failures.is_empty() {
            for (scope, rows) in &scopes {
                if let Some(wrong) = self.failures.of(&points(rows)?, self.shared.host.now()) {
                    return Err(fail(scope, &wrong));
                }
            }
        }
        let mut lease = self.lend(call)?;
        for (index, (scope, rows)) in scopes.iter().enumerate() {
            call.check_cancelled()?;
            if index > 0 && self.is_late(call) {
                // The daemon asks again with fewer rows at a time.
                return Err(Error::split("the scripts take too long for so many scopes at once"));
            }
            let points = points(rows)?;
            let found = match lease.run(call, &points)? {
                Ok(found) => found,
                Err(wrong) => {
                    let error = fail(scope, &wrong);
                    self.failures.remember(&points, wrong, self.shared.host.now());
                    return Err(error);
                }
            };
            for (row, price) in rows.iter().zip(found) {
                prices[*row] = price;
            }
        }
        PriceBatch::from_prices(&prices)
    }

    fn explain(
        &self,
        call: &Call,
        request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        let view = UsageBatch::new(usage)?;
        let columns = Columns::of(usage, &view);
        let scopes = rows_by_scope(&view);
        let asked = scopes.iter().filter(|(_, of)| of.iter().any(|row| rows.contains(row)));
        let mut reasons = Reasons::new(self, &view, rows.clone());
        for (scope, of) in asked {
            let points = columns.points(request, &view, of)?;
            reasons.tell(call, of, &points).map_err(|wrong| match wrong {
                Untold::Call(error) => error,
                Untold::Script(wrong) => failed(&wrong, &format!("scope `{scope}`")),
            })?;
        }
        Ok(reasons.finish())
    }
}

/// The rows' data is at fault as far as the daemon can tell: it finds the scope and goes on with
/// the others.
fn failed(wrong: &Wrong, of: &str) -> Error {
    let script = match &wrong.script {
        Some(script) => format!("script `{script}`"),
        None => "the scripts".to_owned(),
    };
    let line = wrong.line.map_or_else(String::new, |line| format!(", line {line}"));
    Error::new(Status::BadData, format!("{of}: {script}{line}: {}", wrong.message))
}

impl ScriptsRater {
    /// A process that has the scripts.
    fn lend(&self, call: &Call) -> Result<Lease<'_>> {
        let mut lease = self.shared.python.lend(call)?;
        let loaded = lease.load(call, &self.scripts)?;
        loaded.map_err(|wrong| failed(&wrong, "all scopes"))?;
        Ok(lease)
    }

    /// Might a run take longer than the call may?
    fn is_late(&self, call: &Call) -> bool {
        let needed = self.shared.python.run_time_max() + TIME_LEFT_MIN;
        let left = call.deadline().map(|deadline| deadline - self.shared.host.now());
        left.is_some_and(|left| left.to_std().unwrap_or_default() < needed)
    }

    /// The traceback, once the daemon has found the scope: before, it asks again with fewer.
    fn log(&self, request: &RateRequest, scope: &str, wrong: &Wrong, scopes: usize) {
        if scopes > 1 && request.purpose != Purpose::Quote {
            return;
        }
        let mut text = format!(
            "A script failed: scope `{scope}`, metric `{}`, period {}: {}",
            request.metric,
            request.begin.format("%Y-%m-%dT%H:%M:%SZ"),
            failed(wrong, "rating").message,
        );
        // The mark tells a script's lines from the log's own.
        for line in wrong.traceback.lines() {
            text.push_str("\n  | ");
            text.push_str(line);
        }
        self.shared.host.log(Level::Warn, &text);
    }
}

/// Scopes in the order in which they come up first, each with its rows.
fn rows_by_scope<'a>(view: &UsageBatch<'a>) -> Vec<(&'a str, Vec<usize>)> {
    let mut scopes: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in 0..view.rows() {
        let scope = view.scope_at(row);
        let place = *places.entry(scope).or_insert(scopes.len());
        if place == scopes.len() {
            scopes.push((scope, Vec::new()));
        }
        scopes[place].1.push(row);
    }
    scopes
}

/// The attributes of a batch.
struct Columns<'a> {
    groupby: Vec<(&'a str, Texts<'a>)>,
    metadata: Vec<(&'a str, Texts<'a>)>,
    groupby_names: Vec<&'a str>,
    metadata_names: Vec<&'a str>,
    has_json: bool,
}

struct Texts<'a> {
    column: &'a Attribute,
    is_json: bool,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, view: &UsageBatch<'a>) -> Columns<'a> {
        let texts = |prefix: &str, (name, column): (&'a str, &'a Attribute)| {
            let field = batch.schema_ref().field_with_name(&format!("{prefix}{name}"));
            let encoding = field.ok().and_then(|field| field.metadata().get(ENCODING_KEY));
            let is_json = encoding.is_some_and(|encoding| encoding == ENCODING_JSON);
            (name, Texts { column, is_json })
        };
        let groupby: Vec<_> = view.groupby().map(|it| texts("groupby.", it)).collect();
        let metadata: Vec<_> = view.metadata().map(|it| texts("metadata.", it)).collect();
        let groupby_names = groupby.iter().map(|(name, _)| *name).collect();
        let metadata_names = metadata.iter().map(|(name, _)| *name).collect();
        let has_json = groupby.iter().chain(&metadata).any(|(_, texts)| texts.is_json);
        Columns { groupby, metadata, groupby_names, metadata_names, has_json }
    }

    fn points<'c>(
        &'c self,
        request: &'c RateRequest,
        view: &UsageBatch<'a>,
        rows: &[usize],
    ) -> Result<Points<'c>> {
        let point = |row: &usize| -> Result<Point<'c>> {
            let cells = |columns: &'c [(&'a str, Texts<'a>)]| {
                columns.iter().map(|(_, texts)| texts.cell(*row)).collect::<Result<Vec<_>>>()
            };
            let (qty, price) = (view.qty_at(*row).to_string(), view.price_at(*row).to_string());
            Ok((qty, price, cells(&self.groupby)?, cells(&self.metadata)?))
        };
        Ok(Points {
            metric: &request.metric,
            unit: view.unit(),
            begin_secs: request.begin.timestamp(),
            end_secs: request.end.timestamp(),
            groupby: &self.groupby_names,
            metadata: &self.metadata_names,
            has_json: self.has_json,
            rows: rows.iter().map(point).collect::<Result<Vec<_>>>()?,
        })
    }
}

impl<'a> Texts<'a> {
    fn cell(&self, row: usize) -> Result<Option<Cell<'a>>> {
        let Some(text) = text_at(self.column, row) else { return Ok(None) };
        if !self.is_json {
            return Ok(Some(Cell::Text(text)));
        }
        let value = serde_json::from_str(text)
            .map_err(|_| Error::bad_data(format!("an attribute is no JSON value: `{text}`")))?;
        Ok(Some(Cell::Json([value])))
    }
}
