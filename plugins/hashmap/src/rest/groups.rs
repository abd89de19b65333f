//! Groups: rules that make one price together.

use rated_plugin::{Response, Result};
use serde_json::{Value, json};

use super::body::{Body, Shape};
use super::fault::{Fault, no_group};
use super::listing::Filter;
use super::{Context, created, mappings, thresholds};
use crate::record::{Change, Group, Id, Record, Version};
use crate::snapshot::Snapshot;

const SHAPE: Shape = Shape {
    argument: "group_data",
    class: "Group",
    attributes: &["group_id", "name"],
    arguments: &[],
};

pub(super) fn show(id: Id, group: &Group) -> Value {
    json!({"group_id": id, "name": group.name})
}

pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    context.arguments(&[])?;
    let read = context.store.newest()?;
    let groups: Vec<Value> =
        read.snapshot.groups.iter().map(|(id, group)| show(id, group)).collect();
    Ok(Response::json(200, &json!({"groups": groups})))
}

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["group_id"])?, "group_id")?;
    let read = context.store.newest()?;
    let found = Id::parse(&sent).and_then(|id| Some((id, read.snapshot.groups.get(id)?)));
    let (id, group) = found.ok_or_else(|| no_group(404, &sent))?;
    Ok(Response::json(200, &show(id, group)))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &SHAPE)?;
    body.id("group_id")?;
    let name = body.mandatory_text("name")?;
    let id = Id::random();
    let group = context.store.edit(|snapshot| {
        if let Some(known) = snapshot.group_named(&name) {
            let text = format!("Group {name} already exists (UUID: {known})");
            return Err(Fault::new(409, text));
        }
        let group = Group { v: Version, seq: snapshot.next_seq(), name: name.clone() };
        Ok((vec![Change::put(id, Record::Group(group.clone()))], group))
    })?;
    Ok(created("groups", id, &show(id, &group)))
}

/// With `recursive` its rules go as well, else they stay without group.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let arguments = context.arguments(&["group_id", "recursive"])?;
    let sent = context.id_or(&arguments, "group_id")?;
    let removal = if arguments.flag("recursive")? {
        Snapshot::removal_of_group_and_rules
    } else {
        Snapshot::removal_of_group
    };
    context.store.edit(|snapshot| {
        let id = Id::parse(&sent).filter(|id| snapshot.groups.contains(*id));
        let id = id.ok_or_else(|| no_group(404, &sent))?;
        Ok::<_, Fault>((removal(snapshot, id), ()))
    })?;
    Ok(Response::empty(204))
}

pub(super) fn mappings(context: &Context<'_>) -> Result<Response, Fault> {
    let filter = Filter::of_group(&group_asked(context)?);
    mappings::listed(context, &filter)
}

pub(super) fn thresholds(context: &Context<'_>) -> Result<Response, Fault> {
    let filter = Filter::of_group(&group_asked(context)?);
    thresholds::listed(context, &filter)
}

fn group_asked(context: &Context<'_>) -> Result<String, Fault> {
    context.id_or(&context.arguments(&["group_id"])?, "group_id")
}
