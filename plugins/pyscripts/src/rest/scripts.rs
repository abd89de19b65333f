//! Scripts: made, listed, changed before they run, ended, deleted.

use chrono::{DateTime, NaiveDateTime, Utc};
use rated_plugin::{Host, Response, Result};
use serde_json::{Value, json};

use super::Context;
use super::arguments::Arguments;
use super::body::{Body, Given};
use super::fault::{Fault, no_script};
use super::listing::{ARGUMENTS, Filter};
use crate::moment;
use crate::python::NamedText;
use crate::record::{self, Id, Script, Version};
use crate::store::Snapshot;

/// Most scripts that are not deleted.
const SCRIPTS_MAX: usize = 1000;
/// Most bytes that their texts have together, and most bytes of texts in a list.
const DATA_SIZE_MAX: usize = 16 << 20;

/// The script as answers have it; without `data` where it is not asked for.
fn show(id: Id, script: &Script, data: Option<&str>) -> Value {
    let mut shown = json!({"script_id": id.to_string(), "name": script.name});
    if let Some(data) = data {
        shown["data"] = json!(data);
    }
    let rest = json!({
        "checksum": script.checksum,
        "created_at": moment::show(script.created_at),
        "start": moment::show(script.start),
        "end": script.end.map(moment::show),
        "description": script.description,
        "deleted": script.deleted.map(moment::show),
        "created_by": script.created_by,
        "updated_by": script.updated_by,
        "deleted_by": script.deleted_by,
    });
    if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
        shown.extend(rest);
    }
    shown
}

pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    let arguments = Arguments::of_call(context.request, ARGUMENTS)?;
    let filter = Filter::read(&arguments)?;
    let without_data = arguments.flag("no_data")?;
    let now = context.now_seconds();
    let read = context.store.newest()?;
    let found: Vec<(Id, &Script)> =
        read.iter().filter(|(_, script)| filter.admits(script, now)).collect();
    let size: usize = found.iter().map(|(_, script)| script.size).sum();
    if !without_data && size > DATA_SIZE_MAX {
        return Err(Fault::bad(format!(
            "The scripts asked for have {size} bytes together, at most {DATA_SIZE_MAX} are listed. \
             Ask with no_data."
        )));
    }
    let mut scripts = Vec::with_capacity(found.len());
    for (id, script) in found {
        let data = (!without_data).then(|| context.store.data(read.revision, id)).transpose()?;
        scripts.push(show(id, script, data.as_deref()));
    }
    Ok(Response::json(200, &json!({"scripts": scripts})))
}

/// The script of that id, if it is not deleted.
fn find<'a>(read: &'a Snapshot, sent: &str) -> Result<(Id, &'a Script), Fault> {
    Id::parse(sent)
        .and_then(|id| Some((id, read.get(id)?)))
        .filter(|(_, script)| script.deleted.is_none())
        .ok_or_else(|| no_script(sent))
}

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&Arguments::of_call(context.request, &["script_id"])?)?;
    let read = context.store.newest()?;
    let (id, script) = find(&read, &sent)?;
    let data = context.store.data(read.revision, id)?;
    Ok(Response::json(200, &show(id, script, Some(&data))))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, "force")?;
    let name = body.mandatory_text("name")?;
    let data = body.long_text("data")?.value().ok_or_else(|| Fault::missing("data"))?;
    let (start, end) = (body.start()?.value(), body.end()?.value());
    if let Some(start) = start
        && !body.arguments.flag("force")?
    {
        check_not_past(start.at, context.now)?;
    }
    let seconds = context.now_seconds();
    let mut script = Script {
        v: Version,
        seq: 0,
        name,
        size: data.len(),
        checksum: record::checksum(&data),
        start: start.map_or(seconds, |start| start.at),
        end: end.map(|end| end.at),
        description: body.text("description")?.value(),
        created_at: seconds,
        created_by: context.caller(),
        updated_by: None,
        deleted: None,
        deleted_by: None,
    };
    check_order(script.start, script.end)?;
    check_syntax(context, &script.name, &data)?;
    let id = Id::random();
    context.store.edit(|read| {
        if let Some((known, _)) = read.kept().find(|(_, known)| known.name == script.name) {
            let text = format!("Script {} already exists (UUID: {known})", script.name);
            return Err(Fault::new(409, text));
        }
        check_room(read, None, data.len())?;
        script.seq = read.next_seq();
        Ok((record::edits(id, &script, Some(&data)), ()))
    })?;
    let mut shown = show(id, &script, Some(&data));
    // What is "now" is shown in full once, as there.
    shown["created_at"] = json!(moment::show_now(context.now));
    if start.is_none() {
        shown["start"] = shown["created_at"].clone();
    }
    Ok(Response::json(201, &shown).with_location(format!("/scripts/{id}")))
}

/// Is there room for a script of that size, in place of one or as another?
fn check_room(read: &Snapshot, instead_of: Option<Id>, size: usize) -> Result<(), Fault> {
    let others = || read.kept().filter(|(id, _)| Some(*id) != instead_of);
    let count = others().count() + 1;
    if count > SCRIPTS_MAX {
        let text = format!("There are {SCRIPTS_MAX} scripts already, delete some of them first.");
        return Err(Fault::bad(text));
    }
    let total = size + others().map(|(_, script)| script.size).sum::<usize>();
    if total > DATA_SIZE_MAX {
        return Err(Fault::bad(format!(
            "The scripts would have {total} bytes together, at most {DATA_SIZE_MAX} are accepted."
        )));
    }
    Ok(())
}

/// Asks a Python process whether that is Python; it is not run.
fn check_syntax(context: &Context<'_>, name: &str, data: &str) -> Result<(), Fault> {
    let script = NamedText { name: name.to_owned(), data: data.to_owned() };
    let wrong = context.python.check(context.call, &script)?;
    let Some(wrong) = wrong else { return Ok(()) };
    let place = wrong.line.map_or_else(String::new, |line| format!("Line {line}: "));
    let message = wrong.message;
    Err(Fault::bad(format!("Invalid input for field/attribute data. {place}{message}")))
}

fn check_not_past(start: NaiveDateTime, now: DateTime<Utc>) -> Result<(), Fault> {
    if start >= now.naive_utc() {
        return Ok(());
    }
    Err(Fault::bad(format!(
        "Cannot create a rule with start in the past. start=[{}] current time=[{}].",
        moment::show_in_text(start),
        moment::show_now_in_text(now)
    )))
}

fn check_order(start: NaiveDateTime, end: Option<NaiveDateTime>) -> Result<(), Fault> {
    match end {
        Some(end) if start > end => Err(Fault::bad(format!(
            "Cannot create a rule with start after end. start=[{}] end=[{}].",
            moment::show_in_text(start),
            moment::show_in_text(end)
        ))),
        _ => Ok(()),
    }
}

/// Changes a script as a PUT asks: one that has started accepts an end only, one that has not
/// accepts data, start, end and description. Nobody changes a name.
pub(super) fn update(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, "script_id")?;
    let sent = context.id_or(&body.arguments)?;
    let name = body.mandatory_text("name")?;
    let data = body.long_text("data")?.value();
    let read = context.store.newest()?;
    let (id, known) = find(&read, &sent)?;
    // Compiled outside of the edit, which others wait for.
    if let Some(data) = &data
        && record::checksum(data) != known.checksum
        && known.start > context.now.naive_utc()
    {
        check_syntax(context, &known.name, data)?;
    }
    let script = context.store.edit(|read| {
        let (_, stored) = find(read, &sent)?;
        let mut script = stored.clone();
        let new_data = if stored.start > context.now.naive_utc() {
            let data = data.as_deref().ok_or_else(|| Fault::missing("data"))?;
            check_room(read, Some(id), data.len())?;
            change(&mut script, &body, data, context.now)?;
            Some(data).filter(|_| script.checksum != stored.checksum)
        } else {
            let is_same = name == stored.name && is_same(&body, stored, data.as_deref())?;
            end_running(&mut script, &body, context.now, is_same)?;
            None
        };
        if script == *stored {
            return Ok((Vec::new(), script));
        }
        script.updated_by = Some(context.caller());
        Ok::<_, Fault>((record::edits(id, &script, new_data), script))
    })?;
    let data = match data {
        Some(data) if record::checksum(&data) == script.checksum => data,
        // One that runs: its text stays what it is.
        _ => context.store.data(Host::NOW, id)?,
    };
    let location = format!("{}/{id}", context.request.path.trim_end_matches('/'));
    Ok(Response::json(201, &show(id, &script, Some(&data))).with_location(location))
}

/// A script that has not started.
fn change(script: &mut Script, body: &Body, data: &str, now: DateTime<Utc>) -> Result<(), Fault> {
    if let Given::Value(start) = body.start()? {
        if start.at != script.start {
            check_not_past(start.at, now)?;
        }
        script.start = start.at;
    }
    script.set_data(data);
    script.end = body.end()?.value().map(|end| end.at);
    script.description = body.text("description")?.value();
    check_order(script.start, script.end)
}

/// Does everything of the body but the end equal what is stored? What is not sent is the same.
fn is_same(body: &Body, stored: &Script, data: Option<&str>) -> Result<bool, Fault> {
    let start_is_same = match body.start()? {
        Given::Absent => true,
        Given::Null => false,
        Given::Value(start) => start.at == stored.start,
    };
    let description_is_same = match body.text("description")? {
        Given::Absent => true,
        sent => sent.value() == stored.description,
    };
    let data_is_same = data.is_none_or(|data| record::checksum(data) == stored.checksum);
    Ok(start_is_same && description_is_same && data_is_same)
}

/// A script that has started.
fn end_running(
    script: &mut Script,
    body: &Body,
    now: DateTime<Utc>,
    is_same: bool,
) -> Result<(), Fault> {
    let end = body.end()?.value().map(|end| end.at);
    if script.end.is_some() {
        // The same once more changes nothing.
        if is_same && end == script.end {
            return Ok(());
        }
        return Err(Fault::bad(
            "Cannot update a rule that was already processed and has a defined end date.",
        ));
    }
    if !is_same {
        return Err(Fault::bad(format!(
            "You are allowed to update only the attribute [end] as this rule is already running as \
             it started on [{}]",
            moment::show_in_text(script.start)
        )));
    }
    let Some(end) = end else { return Ok(()) };
    if end <= now.naive_utc() {
        return Err(Fault::bad(format!(
            "End date must be in the future. end=[{}] current time=[{}]",
            moment::show_in_text(end),
            moment::show_now_in_text(now)
        )));
    }
    script.end = Some(end);
    Ok(())
}

/// Marks it: it prices no more.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&Arguments::of_call(context.request, &["script_id"])?)?;
    context.store.edit(|read| {
        let (id, stored) = find(read, &sent)?;
        let mut script = stored.clone();
        script.deleted = Some(context.now_seconds());
        script.deleted_by = Some(context.caller());
        Ok::<_, Fault>((record::edits(id, &script, None), ()))
    })?;
    Ok(Response::empty(204))
}
