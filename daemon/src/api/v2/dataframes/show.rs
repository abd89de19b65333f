use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use warp::http::{StatusCode, header};

use super::describe;
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::csv;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::negotiate::{Accepts, Decimals, Figures};
use crate::api::openapi::{Input, Kind};
use crate::api::outgoing::{self, Outgoing};
use crate::api::v2::schema::{LIMIT, LIMIT_DEFAULT, OFFSET, Parameters};
use crate::ledger::{Filters, Ledger, LedgerError, RowsGroup, RowsPage, RowsQuery};
use crate::report::{self, AttributeKind, Rows, matches_nothing, text};
use crate::usage::Period;

pub(super) const PARAMETERS: &[Input] = &[
    Input::date("begin", "The begin of the range; else that of this month."),
    Input::date("end", "The end of the range; else that of this month."),
    Input::new("filters", Kind::Schema(describe::filters), "`name:value` pairs."),
    LIMIT,
    OFFSET,
];

/// Most points of a page that is made in memory; a longer one is sent while it is made.
const PAGE_ROWS_MAX: usize = 1000;

/// Most columns of CSV.
const CSV_COLUMNS_MAX: usize = 1024;

/// The columns of CSV that are always there; attributes follow.
const CSV_COLUMNS: [&str; 6] = ["begin", "end", "type", "unit", "qty", "price"];

/// One page of points, as frames or as lines.
pub(crate) async fn dataframes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let figures = Accepts::of(call).figures();
    let parameters = Parameters::read(call, PARAMETERS)?;
    let (month_begin, month_end) = dates::month_of(context.clock.now());
    let begin = parameters.date("begin")?.unwrap_or(month_begin);
    let end = parameters.date("end")?.unwrap_or(month_end);
    let mut filters = filters(&parameters, &context.config.collect.scope_key)?;
    filters.scopes = call.sight.scopes().or(filters.scopes);
    let limit = if figures == Figures::Csv { usize::MAX } else { LIMIT_DEFAULT };
    let (offset, limit) = parameters.page_or(limit)?;
    let query = RowsQuery { begin, end, filters, offset, limit };
    let body = match figures {
        Figures::Json(decimals) if limit <= PAGE_ROWS_MAX => {
            let page = move |ledger: &dyn Ledger| Ok(page(ledger, &query, decimals));
            let bytes = context.ledger(page).await??.into();
            AnswerBody::Ready { content_type: figures.content_type().to_owned(), bytes }
        }
        _ => {
            let write = move |ledger: &dyn Ledger, out: &mut Outgoing| {
                let total = count(ledger, &query)?;
                match figures {
                    _ if total == 0 => Err(nothing_found()),
                    Figures::Json(decimals) => write_json(ledger, &query, (total, decimals), out),
                    Figures::Csv => write_csv(ledger, &query, out),
                }
            };
            outgoing::send(context, figures.content_type(), write).await?
        }
    };
    Ok(Answer::with_status(StatusCode::OK, body).header(header::VARY, "Accept"))
}

fn nothing_found() -> Failure {
    Failure::not_found("No resource found for provided filters.")
}

fn filters(parameters: &Parameters, scope_key: &str) -> Result<Filters, Failure> {
    let mut filters = Filters::default();
    let mut names = BTreeSet::new();
    for (name, value) in parameters.pairs("filters")? {
        if !names.insert(name) {
            return Err(parameters.refuse("filters", &format!("key {name} already provided")));
        }
        report::add_filter(&mut filters, scope_key, name, value);
    }
    Ok(filters)
}

fn is_about_nothing(query: &RowsQuery) -> bool {
    query.begin >= query.end || matches_nothing(&query.filters)
}

/// Points that match, on any page.
fn count(ledger: &dyn Ledger, query: &RowsQuery) -> Result<usize, LedgerError> {
    if is_about_nothing(query) {
        return Ok(0);
    }
    let nothing = RowsQuery { offset: 0, limit: 0, ..query.clone() };
    Ok(ledger.rows(&nothing)?.total)
}

/// Why the rows were not all written.
enum Stop {
    Ledger(LedgerError),
    Refused(Failure),
    /// Nobody reads any more.
    Gone,
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Stop {
        Stop::Ledger(error)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Stop {
        Stop::Gone
    }
}

impl Stop {
    fn into_result(self) -> Result<(), Failure> {
        match self {
            Stop::Ledger(error) => Err(error.into()),
            Stop::Refused(failure) => Err(failure),
            Stop::Gone => Ok(()),
        }
    }
}

/// Gives every group to `visit` until it stops.
fn visit(
    ledger: &dyn Ledger,
    query: &RowsQuery,
    mut visit: impl FnMut(&Rows<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut stopped = None;
    ledger.visit_rows(query, &mut |group: RowsGroup| {
        let visited = Rows::new(&group).map_err(Stop::from).and_then(|rows| visit(&rows));
        match visited {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                stopped = Some(stop);
                ControlFlow::Break(())
            }
        }
    })?;
    stopped.map_or(Ok(()), Err)
}

// ---- JSON ---------------------------------------------------------------------------------------

/// A page in one piece, counted and read at one moment.
fn page(ledger: &dyn Ledger, query: &RowsQuery, decimals: Decimals) -> Result<Vec<u8>, Failure> {
    let page = if is_about_nothing(query) { RowsPage::default() } else { ledger.rows(query)? };
    if page.total == 0 {
        return Err(nothing_found());
    }
    let mut text = Vec::new();
    let mut frames = FramesWriter { out: &mut text, decimals, open: None };
    let mut write = || {
        frames.begin(page.total)?;
        for group in &page.groups {
            frames.write(&Rows::new(group)?)?;
        }
        Ok(frames.end()?)
    };
    write().or_else(Stop::into_result)?;
    Ok(text)
}

fn write_json(
    ledger: &dyn Ledger,
    query: &RowsQuery,
    (total, decimals): (usize, Decimals),
    out: &mut Outgoing,
) -> Result<(), Failure> {
    let mut frames = FramesWriter { out, decimals, open: None };
    let mut write = || {
        frames.begin(total)?;
        visit(ledger, query, |rows| Ok(frames.write(rows)?))?;
        Ok(frames.end()?)
    };
    write().or_else(Stop::into_result)
}

/// Frames are groups of points that follow each other: the ledger has them in order of period and
/// type.
struct FramesWriter<'w, W> {
    out: &'w mut W,
    decimals: Decimals,
    /// Whose points are being written.
    open: Option<(Period, String)>,
}

impl<W: Write> FramesWriter<'_, W> {
    fn begin(&mut self, total: usize) -> io::Result<()> {
        write!(self.out, "{{\"total\":{total},\"dataframes\":[")
    }

    fn write(&mut self, rows: &Rows<'_>) -> io::Result<()> {
        for row in 0..rows.count() {
            self.begin_point(rows.group)?;
            self.write_point(rows, row)?;
        }
        Ok(())
    }

    fn begin_point(&mut self, group: &RowsGroup) -> io::Result<()> {
        match &self.open {
            Some((period, name)) if *period == group.period && *name == group.metric_type => {
                return self.out.write_all(b",");
            }
            Some((period, _)) if *period == group.period => self.out.write_all(b"],")?,
            open => {
                self.out.write_all(if open.is_some() { b"]}}," } else { b"" })?;
                let begin = dates::zoned(group.period.begin());
                let end = dates::zoned(group.period.end());
                write!(self.out, r#"{{"period":{{"begin":"{begin}","end":"{end}"}},"usage":{{"#)?;
            }
        }
        write_text(self.out, &group.metric_type)?;
        self.open = Some((group.period, group.metric_type.clone()));
        self.out.write_all(b":[")
    }

    fn write_point(&mut self, rows: &Rows<'_>, row: usize) -> io::Result<()> {
        self.out.write_all(br#"{"vol":{"unit":"#)?;
        write_text(self.out, &rows.group.unit)?;
        let quote = match self.decimals {
            Decimals::Numbers => "",
            Decimals::Texts => "\"",
        };
        let qty = text::exact_decimal(rows.qty(row));
        let price = text::exact_decimal(rows.price(row));
        write!(
            self.out,
            r#","qty":{quote}{qty}{quote}}},"rating":{{"price":{quote}{price}{quote}"#
        )?;
        self.out.write_all(br#"},"groupby":{"#)?;
        self.write_attributes(rows, row, AttributeKind::Groupby)?;
        self.out.write_all(br#"},"metadata":{"#)?;
        self.write_attributes(rows, row, AttributeKind::Metadata)?;
        self.out.write_all(b"}}")
    }

    fn write_attributes(
        &mut self,
        rows: &Rows<'_>,
        row: usize,
        kind: AttributeKind,
    ) -> io::Result<()> {
        let mut comma: &[u8] = b"";
        for attribute in rows.attributes.iter().filter(|attribute| attribute.kind == kind) {
            let Some(text) = rows.text(attribute, row) else { continue };
            self.out.write_all(comma)?;
            write_text(self.out, attribute.name)?;
            self.out.write_all(b":")?;
            if attribute.is_json {
                self.out.write_all(text.as_bytes())?;
            } else {
                write_text(self.out, text)?;
            }
            comma = b",";
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(if self.open.is_some() { b"]}}]}" } else { b"]}" })
    }
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

// ---- CSV ----------------------------------------------------------------------------------------

/// One line for each point, a column for each attribute that any point has: that is what one can
/// filter, sort and pivot by. The names are found first, by reading twice; points that came in
/// between with yet another attribute break the answer off.
fn write_csv(ledger: &dyn Ledger, query: &RowsQuery, out: &mut Outgoing) -> Result<(), Failure> {
    let mut write = || {
        let columns = attribute_columns(ledger, query)?;
        let names = columns.iter().map(|(kind, name)| match kind {
            AttributeKind::Groupby => format!("groupby.{name}"),
            AttributeKind::Metadata => format!("metadata.{name}"),
        });
        let names: Vec<String> = names.collect();
        csv::write_line(out, CSV_COLUMNS.into_iter().chain(names.iter().map(String::as_str)))?;
        visit(ledger, query, |rows| write_lines(rows, &columns, out))
    };
    write().or_else(Stop::into_result)
}

type CsvColumns = BTreeSet<(AttributeKind, String)>;

fn attribute_columns(ledger: &dyn Ledger, query: &RowsQuery) -> Result<CsvColumns, Stop> {
    let mut columns = CsvColumns::new();
    visit(ledger, query, |rows| {
        for attribute in &rows.attributes {
            let key = (attribute.kind, attribute.name.to_owned());
            columns.insert(key);
        }
        if columns.len() + CSV_COLUMNS.len() <= CSV_COLUMNS_MAX {
            return Ok(());
        }
        Err(Stop::Refused(Failure::bad_request(format!(
            "these points have more attributes than the {CSV_COLUMNS_MAX} columns that CSV may \
             have; ask for fewer types"
        ))))
    })?;
    Ok(columns)
}

fn write_lines(rows: &Rows<'_>, columns: &CsvColumns, out: &mut Outgoing) -> Result<(), Stop> {
    let place = |attribute: &report::ShownAttribute<'_>| {
        let is_it = |(kind, name): &(AttributeKind, String)| {
            (*kind, name.as_str()) == (attribute.kind, attribute.name)
        };
        let place = columns.iter().position(is_it);
        place.ok_or_else(|| {
            let log = "points with another attribute were stored while CSV was written";
            Stop::Refused(Failure::internal(log))
        })
    };
    let places: Vec<usize> = rows.attributes.iter().map(place).collect::<Result<_, _>>()?;
    let date = |date: DateTime<Utc>| dates::zoned(date);
    let (begin, end) = (date(rows.group.period.begin()), date(rows.group.period.end()));
    for row in 0..rows.count() {
        let (qty, price) = (rows.qty(row), rows.price(row));
        let (qty, price) = (text::exact_decimal(qty), text::exact_decimal(price));
        let mut fields = vec![""; CSV_COLUMNS.len() + columns.len()];
        let (fixed, attributes) = fields.split_at_mut(CSV_COLUMNS.len());
        fixed.copy_from_slice(&[
            begin.as_str(),
            end.as_str(),
            rows.group.metric_type.as_str(),
            rows.group.unit.as_str(),
            qty.as_str(),
            price.as_str(),
        ]);
        for (attribute, place) in rows.attributes.iter().zip(&places) {
            if let Some(text) = rows.text(attribute, row) {
                attributes[*place] = text;
            }
        }
        csv::write_line(out, fields)?;
    }
    Ok(())
}
