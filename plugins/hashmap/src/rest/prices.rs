//! The whole price list: read as one document, replaced by one change or not at all.

use rated_plugin::{Response, Result};
use serde_json::json;

use super::Context;
use super::arguments::{Arguments, boolean_of, media_type, parse_json, unknown_type};
use super::fault::Fault;
use crate::prices::{self, Author, Document, Past};

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    context.arguments(&[])?;
    let read = context.store.newest()?;
    let shown = prices::show(&read.snapshot, read.revision, context.now_seconds());
    Ok(Response::json(200, &shown))
}

/// Says what is done, or with `dry_run` what would be. A list made from another revision than the
/// newest is refused, unless there is nothing to do.
pub(super) fn put(context: &Context<'_>) -> Result<Response, Fault> {
    let arguments = Arguments::beside_body(context.request, &["dry_run", "force"])?;
    let media_type = media_type(context.request);
    if media_type != "application/json" {
        return Err(unknown_type(&media_type));
    }
    let document = Document::read(parse_json(context.request)?).map_err(Fault::bad)?;
    let past = if switch(&arguments, "force")? { Past::Open } else { Past::Closed };
    let is_dry = switch(&arguments, "dry_run")?;
    let author = Author { name: context.caller(), now: context.now_seconds(), past };
    let (revision, steps) = context.store.edit_read(|read| {
        let plan = prices::plan(&read.snapshot, &document, &author)
            .map_err(|(index, detail)| Fault::bad(format!("`rules[{index}]`: {detail}")))?;
        let is_stale = document.revision.is_some_and(|revision| revision != read.revision);
        if is_stale && !plan.steps.is_empty() {
            return Err(Fault::new(
                409,
                format!(
                    "The price list is at revision {}, yours was made from revision {}: read it \
                     again",
                    read.revision,
                    document.revision.unwrap_or_default()
                ),
            ));
        }
        let changes = if is_dry { Vec::new() } else { plan.changes };
        Ok::<_, Fault>((changes, plan.steps))
    })?;
    Ok(Response::json(200, &json!({"revision": revision, "changes": steps})))
}

/// A word for yes or no; this path is ours, so `false` is no.
fn switch(arguments: &Arguments, name: &str) -> Result<bool, Fault> {
    let Some(text) = arguments.text(name) else { return Ok(false) };
    boolean_of(&text).ok_or_else(|| Fault::invalid(name, &text, "Value must be true or false"))
}
