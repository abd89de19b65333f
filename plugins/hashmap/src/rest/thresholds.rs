//! Thresholds: the price from a certain quantity, or a certain number in a field, on.
//!
//! A threshold shows its start, end, name, description and who changed it once it was given one of
//! the first four: clients know thresholds without them.

use chrono::DateTime;
use rated_plugin::{Response, Result};
use serde_json::{Value, json};

use super::body::{Body, Shape};
use super::fault::{Fault, no_threshold};
use super::listing::{ARGUMENTS, Filter, Selector};
use super::{Context, changed, created, groups, rules};
use crate::amount::{self, COST_DECIMALS, LEVEL_DECIMALS};
use crate::moment;
use crate::record::{Change, Id, Parent, Record, Threshold, Version};
use crate::snapshot::Snapshot;

/// What makes a threshold a dated one.
const DATED: &[&str] = &["start", "end", "name", "description"];
const ATTRIBUTES: &[&str] = &[
    "threshold_id",
    "level",
    "type",
    "cost",
    "service_id",
    "field_id",
    "group_id",
    "tenant_id",
    "created_at",
    "start",
    "end",
    "name",
    "description",
    "deleted",
    "created_by",
    "updated_by",
    "deleted_by",
];
const ARGUMENT: &str = "threshold_data";
const NEW: Shape =
    Shape { argument: ARGUMENT, class: "Threshold", attributes: ATTRIBUTES, arguments: &["force"] };
const CHANGED: Shape = Shape { arguments: &["threshold_id"], ..NEW };

fn show(id: Id, threshold: &Threshold) -> Value {
    let rule = &threshold.rule;
    let mut shown = json!({
        "threshold_id": id,
        "level": amount::show(threshold.level, LEVEL_DECIMALS),
        "type": rule.kind.name(),
        "cost": amount::show(rule.cost, COST_DECIMALS),
        "service_id": rule.parent.service(),
        "field_id": rule.parent.field(),
        "group_id": rule.group,
        "tenant_id": rule.tenant,
    });
    let rest = json!({
        "created_at": moment::show(rule.created_at),
        "start": moment::show(rule.start),
        "end": rule.end.map(moment::show),
        "name": rule.name,
        "description": rule.description,
        "deleted": rule.deleted.map(moment::show),
        "created_by": rule.created_by,
        "updated_by": rule.updated_by,
        "deleted_by": rule.deleted_by,
    });
    if threshold.dated || rule.deleted.is_some() {
        let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) else {
            unreachable!("both are objects");
        };
        shown.extend(rest);
    }
    shown
}

pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    let arguments = context.arguments(ARGUMENTS)?;
    let filter = Filter::read(&arguments, context.id, Selector::Mandatory)?;
    listed(context, &filter)
}

pub(super) fn listed(context: &Context<'_>, filter: &Filter) -> Result<Response, Fault> {
    let now = context.now_seconds();
    let read = context.store.newest()?;
    let thresholds = read.snapshot.thresholds.iter().filter(|(_, it)| filter.admits(&it.rule, now));
    let thresholds: Vec<Value> = thresholds.map(|(id, threshold)| show(id, threshold)).collect();
    Ok(Response::json(200, &json!({"thresholds": thresholds})))
}

/// A deleted one is gone for whoever asks by id.
fn find<'a>(snapshot: &'a Snapshot, sent: &str) -> Result<(Id, &'a Threshold), Fault> {
    let found = Id::parse(sent).and_then(|id| Some((id, snapshot.thresholds.get(id)?)));
    found
        .filter(|(_, threshold)| threshold.rule.deleted.is_none())
        .ok_or_else(|| no_threshold(sent))
}

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["threshold_id"])?, "threshold_id")?;
    let read = context.store.newest()?;
    let (id, threshold) = find(&read.snapshot, &sent)?;
    Ok(Response::json(200, &show(id, threshold)))
}

pub(super) fn group(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["threshold_id"])?, "threshold_id")?;
    let read = context.store.newest()?;
    let (_, threshold) = find(&read.snapshot, &sent)?;
    let group = threshold.rule.group.and_then(|id| Some((id, read.snapshot.groups.get(id)?)));
    let (id, group) =
        group.ok_or_else(|| Fault::new(404, format!("Threshold has no group (UUID: {sent})")))?;
    Ok(Response::json(200, &groups::show(id, group)))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &NEW)?;
    body.id("threshold_id")?;
    let level = body.level()?;
    let mut rule = rules::new_rule(&body, ARGUMENT, context.now, context.caller())?;
    let dated = is_dated(&body)?;
    if !dated {
        rule.name = None;
        // Clients that know no dates for thresholds expect one to count for every period rated
        // from now on, the late ones too.
        rule.start = DateTime::UNIX_EPOCH.naive_utc();
    }
    let mut threshold = Threshold { v: Version, seq: 0, level, dated, rule };
    let id = Id::random();
    let threshold = context.store.edit(|snapshot| {
        rules::check_places(snapshot, threshold.rule.parent, threshold.rule.group)?;
        check_unique(snapshot, id, &threshold, &body.number_text("level"))?;
        threshold.seq = snapshot.next_seq();
        let change = Change::put(id, Record::Threshold(threshold.clone()));
        Ok::<_, Fault>((vec![change], threshold.clone()))
    })?;
    Ok(created("thresholds", id, &show(id, &threshold)))
}

fn is_dated(body: &Body) -> Result<bool, Fault> {
    for name in DATED {
        if body.text(name)?.value().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A tenant has a level once at a time, whatever the groups; of the levels for everybody the oldest
/// counts.
fn check_unique(
    snapshot: &Snapshot,
    id: Id,
    new: &Threshold,
    level_sent: &str,
) -> Result<(), Fault> {
    let clashes = |known_id: Id, known: &Threshold| {
        let is_for_the_same = new.rule.tenant.is_some()
            && known.rule.tenant == new.rule.tenant
            && known.rule.parent == new.rule.parent
            && known.level == new.level
            && rules::overlap(&known.rule, &new.rule);
        let has_its_name = new.rule.name.is_some() && known.rule.name == new.rule.name;
        known_id != id && known.rule.deleted.is_none() && (is_for_the_same || has_its_name)
    };
    if !snapshot.thresholds.iter().any(|(id, known)| clashes(id, known)) {
        return Ok(());
    }
    let parent = match new.rule.parent {
        Parent::Service(id) => format!("service '{id}'"),
        Parent::Field(id) => format!("field '{id}'"),
    };
    // Clients are told no tenant there, whichever it is.
    let text = format!("Threshold '{level_sent}' already exists for {parent}, tenant: 'None'");
    Err(Fault::new(409, text))
}

pub(super) fn update(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &CHANGED)?;
    let sent = context.id_or(&body.arguments, "threshold_id")?;
    let level = body.level()?;
    body.cost()?;
    let caller = context.caller();
    context.store.edit(|snapshot| {
        let (id, stored) = find(snapshot, &sent)?;
        let mut threshold = stored.clone();
        if stored.dated && stored.rule.start <= context.now.naive_utc() {
            let is_same = level == stored.level;
            rules::update(&mut threshold.rule, &body, ARGUMENT, context.now, is_same)?;
        } else {
            rewrite(context, &body, &mut threshold)?;
            rules::check_group(snapshot, threshold.rule.group)?;
        }
        if threshold == *stored {
            return Ok::<_, Fault>((Vec::new(), ()));
        }
        check_unique(snapshot, id, &threshold, &body.number_text("level"))?;
        threshold.rule.updated_by = Some(caller.clone());
        Ok((vec![Change::put(id, Record::Threshold(threshold))], ()))
    })?;
    Ok(changed(context))
}

/// What is not sent is reset: type, group and tenant, and of a dated one that has not started, end
/// and description.
fn rewrite(context: &Context<'_>, body: &Body, threshold: &mut Threshold) -> Result<(), Fault> {
    let rule = &mut threshold.rule;
    threshold.level = body.level()?;
    if threshold.dated {
        rules::update(rule, body, ARGUMENT, context.now, true)?;
    } else if let Some(end) = body.end()?.value() {
        // An end is all that a threshold without dates can be given while it counts.
        rules::check_end(end.at, context.now)?;
        rule.end = Some(end.at);
        threshold.dated = true;
    }
    rule.cost = body.cost()?;
    rule.kind = body.kind()?;
    rule.group = body.id("group_id")?;
    rule.tenant = body.text("tenant_id")?.value();
    Ok(())
}

/// Marks it: it prices no more, and is listed with `deleted` only.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["threshold_id"])?, "threshold_id")?;
    let caller = context.caller();
    context.store.edit(|snapshot| {
        let (id, stored) = find(snapshot, &sent)?;
        let mut threshold = stored.clone();
        threshold.rule.deleted = Some(context.now_seconds());
        threshold.rule.deleted_by = Some(caller.clone());
        Ok::<_, Fault>((vec![Change::put(id, Record::Threshold(threshold))], ()))
    })?;
    Ok(Response::empty(204))
}
