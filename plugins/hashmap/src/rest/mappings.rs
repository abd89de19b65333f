//! Mappings: the price of a service, or of a value of a field.

use rated_plugin::{Response, Result};
use serde_json::{Value, json};

use super::body::{Body, Shape};
use super::fault::{Fault, no_mapping};
use super::listing::{ARGUMENTS, Filter, Selector};
use super::{Context, changed, created, groups, rules};
use crate::amount::{self, COST_DECIMALS};
use crate::moment;
use crate::record::{Change, Id, Mapping, Parent, Record, Version};
use crate::snapshot::Snapshot;

const ATTRIBUTES: &[&str] = &[
    "mapping_id",
    "value",
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
const ARGUMENT: &str = "mapping_data";
const NEW: Shape =
    Shape { argument: ARGUMENT, class: "Mapping", attributes: ATTRIBUTES, arguments: &["force"] };
const CHANGED: Shape = Shape { arguments: &["mapping_id"], ..NEW };

fn show(id: Id, mapping: &Mapping) -> Value {
    let rule = &mapping.rule;
    json!({
        "mapping_id": id,
        "value": mapping.value,
        "type": rule.kind.name(),
        "cost": amount::show(rule.cost, COST_DECIMALS),
        "service_id": rule.parent.service(),
        "field_id": rule.parent.field(),
        "group_id": rule.group,
        "tenant_id": rule.tenant,
        "created_at": moment::show(rule.created_at),
        "start": moment::show(rule.start),
        "end": rule.end.map(moment::show),
        "name": rule.name,
        "description": rule.description,
        "deleted": rule.deleted.map(moment::show),
        "created_by": rule.created_by,
        "updated_by": rule.updated_by,
        "deleted_by": rule.deleted_by,
    })
}

pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    let arguments = context.arguments(ARGUMENTS)?;
    let filter = Filter::read(&arguments, context.id, Selector::Optional)?;
    listed(context, &filter)
}

pub(super) fn listed(context: &Context<'_>, filter: &Filter) -> Result<Response, Fault> {
    let now = context.now_seconds();
    let read = context.store.newest()?;
    let mappings = read.snapshot.mappings.iter().filter(|(_, it)| filter.admits(&it.rule, now));
    let mappings: Vec<Value> = mappings.map(|(id, mapping)| show(id, mapping)).collect();
    Ok(Response::json(200, &json!({"mappings": mappings})))
}

/// Deleted ones as well.
pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["mapping_id"])?, "mapping_id")?;
    let read = context.store.newest()?;
    let found = Id::parse(&sent).and_then(|id| Some((id, read.snapshot.mappings.get(id)?)));
    let (id, mapping) = found.ok_or_else(|| no_mapping(&sent))?;
    Ok(Response::json(200, &show(id, mapping)))
}

pub(super) fn group(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["mapping_id"])?, "mapping_id")?;
    let read = context.store.newest()?;
    let mapping = Id::parse(&sent).and_then(|id| read.snapshot.mappings.get(id));
    let mapping = mapping.ok_or_else(|| no_mapping(&sent))?;
    let group = mapping.rule.group.and_then(|id| Some((id, read.snapshot.groups.get(id)?)));
    let (id, group) =
        group.ok_or_else(|| Fault::new(404, format!("Mapping has no group (UUID: {sent})")))?;
    Ok(Response::json(200, &groups::show(id, group)))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &NEW)?;
    body.id("mapping_id")?;
    let given = body.text("value")?;
    let value = if body.has("value") { given.value() } else { Some(String::new()) };
    let rule = rules::new_rule(&body, ARGUMENT, context.now, context.caller())?;
    let has_value = value.as_ref().is_some_and(|value| !value.is_empty());
    match rule.parent {
        Parent::Service(_) if has_value => {
            return Err(Fault::bad("You can't specify a value and a service_id."));
        }
        Parent::Field(_) if !has_value => {
            return Err(Fault::bad("You must specify a value for a field mapping."));
        }
        _ => {}
    }
    let mut mapping = Mapping { v: Version, seq: 0, value, rule };
    let id = Id::random();
    let mapping = context.store.edit(|snapshot| {
        rules::check_places(snapshot, mapping.rule.parent, mapping.rule.group)?;
        check_unique(snapshot, &mapping)?;
        mapping.seq = snapshot.next_seq();
        Ok::<_, Fault>((vec![Change::put(id, Record::Mapping(mapping.clone()))], mapping.clone()))
    })?;
    Ok(created("mappings", id, &show(id, &mapping)))
}

/// One rule for the same at a time; names are unique among the rules that are not deleted.
fn check_unique(snapshot: &Snapshot, new: &Mapping) -> Result<(), Fault> {
    let value = |mapping: &Mapping| mapping.value.clone().unwrap_or_default();
    let clashes = |known: &Mapping| {
        let is_for_the_same = known.rule.parent == new.rule.parent
            && known.rule.tenant == new.rule.tenant
            && known.rule.group == new.rule.group
            && value(known) == value(new)
            && rules::overlap(&known.rule, &new.rule);
        known.rule.deleted.is_none() && (is_for_the_same || known.rule.name == new.rule.name)
    };
    if !snapshot.mappings.iter().any(|(_, known)| clashes(known)) {
        return Ok(());
    }
    let parent = match new.rule.parent {
        Parent::Service(id) => format!("service '{id}'"),
        Parent::Field(id) => format!("field '{id}'"),
    };
    Err(Fault::new(
        409,
        format!(
            "Mapping '{}' already exists for {parent}, tenant: '{}'",
            value(new),
            new.rule.tenant.as_deref().unwrap_or("None")
        ),
    ))
}

pub(super) fn update(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &CHANGED)?;
    let sent = context.id_or(&body.arguments, "mapping_id")?;
    body.cost()?;
    let caller = context.caller();
    context.store.edit(|snapshot| {
        let found = Id::parse(&sent).and_then(|id| Some((id, snapshot.mappings.get(id)?)));
        let (id, stored) = found
            .filter(|(_, mapping)| mapping.rule.deleted.is_none())
            .ok_or_else(|| no_mapping(&sent))?;
        let is_same = rules::is_text_same(&body, "value", stored.value.as_deref())?;
        let mut mapping = stored.clone();
        rules::update(&mut mapping.rule, &body, ARGUMENT, context.now, is_same)?;
        if mapping == *stored {
            return Ok::<_, Fault>((Vec::new(), ()));
        }
        mapping.rule.updated_by = Some(caller.clone());
        Ok((vec![Change::put(id, Record::Mapping(mapping))], ()))
    })?;
    Ok(changed(context))
}

/// Marks it: it prices no more, and stays readable.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["mapping_id"])?, "mapping_id")?;
    let caller = context.caller();
    context.store.edit(|snapshot| {
        let found = Id::parse(&sent).and_then(|id| Some((id, snapshot.mappings.get(id)?)));
        let (id, stored) = found
            .filter(|(_, mapping)| mapping.rule.deleted.is_none())
            .ok_or_else(|| no_mapping(&sent))?;
        let mut mapping = stored.clone();
        mapping.rule.deleted = Some(context.now_seconds());
        mapping.rule.deleted_by = Some(caller.clone());
        Ok::<_, Fault>((vec![Change::put(id, Record::Mapping(mapping))], ()))
    })?;
    Ok(Response::empty(204))
}
