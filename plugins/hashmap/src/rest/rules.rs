//! What mappings and thresholds have in common: parents, groups, validity, how a running rule may
//! change.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::body::{Body, Given};
use super::fault::{Fault, no_field, no_group, no_service};
use crate::moment;
use crate::record::{Id, Parent, Rule, random_name};
use crate::snapshot::Snapshot;

/// Checks what needs the stored objects: parent and group must be there.
pub(super) fn check_places(
    snapshot: &Snapshot,
    parent: Parent,
    group: Option<Id>,
) -> Result<(), Fault> {
    match parent {
        Parent::Service(id) if !snapshot.services.contains(id) => {
            Err(no_service(400, &id.to_string()))
        }
        Parent::Field(id) if !snapshot.fields.contains(id) => Err(no_field(400, &id.to_string())),
        _ => check_group(snapshot, group),
    }
}

pub(super) fn check_group(snapshot: &Snapshot, group: Option<Id>) -> Result<(), Fault> {
    match group {
        Some(id) if !snapshot.groups.contains(id) => Err(no_group(400, &id.to_string())),
        _ => Ok(()),
    }
}

/// The one parent that a new rule must have.
fn parent(body: &Body) -> Result<Parent, Fault> {
    match (body.id("service_id")?, body.id("field_id")?) {
        (Some(_), Some(_)) => Err(Fault::bad("You can only specify one parent.")),
        (None, None) => Err(Fault::bad("You must specify one parent.")),
        (Some(service), None) => Ok(Parent::Service(service)),
        (None, Some(field)) => Ok(Parent::Field(field)),
    }
}

/// A new rule as its maker described it; `argument` names the body in texts.
pub(super) fn new_rule(
    body: &Body,
    argument: &str,
    now: DateTime<Utc>,
    caller: String,
) -> Result<Rule, Fault> {
    let (kind, cost) = (body.kind()?, body.cost()?);
    let (start, end) = (body.start(argument)?.value(), body.end()?.value());
    if start.is_none() && end.is_some() {
        return Err(Fault::bad("You must specify a start with an end."));
    }
    if let Some(start) = start
        && !body.arguments.flag("force")?
    {
        check_not_past(start.at, now)?;
    }
    let seconds = moment::whole_seconds(now);
    let rule = Rule {
        parent: parent(body)?,
        kind,
        cost,
        group: body.id("group_id")?,
        tenant: body.text("tenant_id")?.value(),
        start: start.map_or(seconds, |start| start.at),
        end: end.map(|end| end.at),
        name: Some(body.text("name")?.value().unwrap_or_else(random_name)),
        description: body.text("description")?.value(),
        created_at: seconds,
        created_by: caller,
        updated_by: None,
        deleted: None,
        deleted_by: None,
    };
    check_order(rule.start, rule.end)?;
    Ok(rule)
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

/// Do the times of two rules have a moment in common? Ends count as included.
pub(super) fn overlap(a: &Rule, b: &Rule) -> bool {
    a.end.is_none_or(|end| b.start <= end) && b.end.is_none_or(|end| a.start <= end)
}

/// Changes a rule as a PUT asks: a rule that has started accepts an end only, one that has not
/// accepts cost, start, end and description.
///
/// `is_same` says whether everything of the body that this function does not know equals what is
/// stored.
pub(super) fn update(
    rule: &mut Rule,
    body: &Body,
    argument: &str,
    now: DateTime<Utc>,
    is_same: bool,
) -> Result<(), Fault> {
    let cost = body.cost()?;
    let kind = body.kind()?;
    let start = body.start(argument)?;
    let end = body.end()?;
    let description = body.text("description")?;
    if rule.start > now.naive_utc() {
        if let Given::Value(start) = start {
            if start.at != rule.start {
                check_not_past(start.at, now)?;
            }
            rule.start = start.at;
        }
        rule.cost = cost;
        rule.end = end.value().map(|end| end.at);
        rule.description = description.value();
        return check_order(rule.start, rule.end);
    }
    let start_is_same = match start {
        Given::Absent => true,
        Given::Null => false,
        Given::Value(start) => start.at == rule.start,
    };
    let is_same = is_same
        && start_is_same
        && cost == rule.cost
        && kind == rule.kind
        && is_text_same(body, "description", rule.description.as_deref())?
        && is_text_same(body, "name", rule.name.as_deref())?
        && is_text_same(body, "tenant_id", rule.tenant.as_deref())?
        && is_id_same(body, "group_id", rule.group)?
        && is_id_same(body, "service_id", rule.parent.service())?
        && is_id_same(body, "field_id", rule.parent.field())?;
    end_running(rule, &end, now, is_same)
}

fn end_running(
    rule: &mut Rule,
    end: &Given<moment::Sent>,
    now: DateTime<Utc>,
    is_same: bool,
) -> Result<(), Fault> {
    let end = match end {
        Given::Absent => rule.end,
        Given::Null => None,
        Given::Value(sent) => Some(sent.at),
    };
    // Clients send an update again and again: the second time it changes nothing.
    if is_same && end == rule.end {
        return Ok(());
    }
    if rule.end.is_some() {
        return Err(Fault::bad(
            "Cannot update a rule that was already processed and has a defined end date.",
        ));
    }
    if !is_same {
        return Err(Fault::bad(format!(
            "You are allowed to update only the attribute [end] as this rule is already running as \
             it started on [{}]",
            moment::show_in_text(rule.start)
        )));
    }
    match end {
        None => Ok(()),
        Some(end) => {
            check_end(end, now)?;
            rule.end = Some(end);
            Ok(())
        }
    }
}

/// A running rule cannot be ended before now.
pub(super) fn check_end(end: NaiveDateTime, now: DateTime<Utc>) -> Result<(), Fault> {
    if end > now.naive_utc() {
        return Ok(());
    }
    Err(Fault::bad(format!(
        "End date must be in the future. end=[{}] current time=[{}]",
        moment::show_in_text(end),
        moment::show_now_in_text(now)
    )))
}

/// An attribute that is not sent is the same; null is none.
pub(super) fn is_text_same(body: &Body, name: &str, stored: Option<&str>) -> Result<bool, Fault> {
    Ok(match body.text(name)? {
        Given::Absent => true,
        sent => sent.value().as_deref() == stored,
    })
}

fn is_id_same(body: &Body, name: &str, stored: Option<Id>) -> Result<bool, Fault> {
    Ok(!body.has(name) || body.id(name)? == stored)
}
