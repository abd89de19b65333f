//! Fields: the attributes of a service that have rules.

use rated_plugin::{Response, Result};
use serde_json::{Value, json};

use super::body::{Body, Shape};
use super::fault::{Fault, no_field, no_service};
use super::{Context, created};
use crate::record::{Change, Field, Id, Record, Version};

const SHAPE: Shape = Shape {
    argument: "field_data",
    class: "Field",
    attributes: &["field_id", "name", "service_id"],
    arguments: &[],
};

fn show(id: Id, field: &Field) -> Value {
    json!({"field_id": id, "name": field.name, "service_id": field.service})
}

/// Of one service; of an unknown one there are none.
pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    let service = context.id_or(&context.arguments(&["service_id"])?, "service_id")?;
    let service = Id::parse(&service);
    let read = context.store.newest()?;
    let fields = read.snapshot.fields.iter().filter(|(_, field)| Some(field.service) == service);
    let fields: Vec<Value> = fields.map(|(id, field)| show(id, field)).collect();
    Ok(Response::json(200, &json!({"fields": fields})))
}

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["field_id"])?, "field_id")?;
    let read = context.store.newest()?;
    let found = Id::parse(&sent).and_then(|id| Some((id, read.snapshot.fields.get(id)?)));
    let (id, field) = found.ok_or_else(|| no_field(404, &sent))?;
    Ok(Response::json(200, &show(id, field)))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &SHAPE)?;
    body.id("field_id")?;
    let name = body.mandatory_text("name")?;
    let service = body.mandatory_id("service_id")?;
    let id = Id::random();
    let field = context.store.edit(|snapshot| {
        if !snapshot.services.contains(service) {
            return Err(no_service(400, &service.to_string()));
        }
        if let Some(known) = snapshot.field_named(service, &name) {
            let text = format!("Field {name} already exists (UUID: {known})");
            return Err(Fault::new(409, text));
        }
        let seq = snapshot.next_seq();
        let field = Field { v: Version, seq, service, name: name.clone() };
        Ok((vec![Change::put(id, Record::Field(field.clone()))], field))
    })?;
    Ok(created("fields", id, &show(id, &field)))
}

/// Takes its rules along.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["field_id"])?, "field_id")?;
    context.store.edit(|snapshot| {
        let id = Id::parse(&sent).filter(|id| snapshot.fields.contains(*id));
        let id = id.ok_or_else(|| no_field(404, &sent))?;
        Ok::<_, Fault>((snapshot.removal_of_field(id), ()))
    })?;
    Ok(Response::empty(204))
}
