//! Services: the metric types that have rules.

use rated_plugin::{Response, Result};
use serde_json::{Value, json};

use super::body::{Body, Shape};
use super::fault::{Fault, no_service};
use super::{Context, created};
use crate::record::{Change, Id, Record, Service, Version};

const SHAPE: Shape = Shape {
    argument: "service_data",
    class: "Service",
    attributes: &["service_id", "name"],
    arguments: &[],
};

fn show(id: Id, service: &Service) -> Value {
    json!({"service_id": id, "name": service.name})
}

pub(super) fn list(context: &Context<'_>) -> Result<Response, Fault> {
    context.arguments(&[])?;
    let read = context.store.newest()?;
    let services: Vec<Value> =
        read.snapshot.services.iter().map(|(id, service)| show(id, service)).collect();
    Ok(Response::json(200, &json!({"services": services})))
}

pub(super) fn get(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["service_id"])?, "service_id")?;
    let read = context.store.newest()?;
    let id = Id::parse(&sent);
    let found = id.and_then(|id| Some((id, read.snapshot.services.get(id)?)));
    let (id, service) = found.ok_or_else(|| no_service(404, &sent))?;
    Ok(Response::json(200, &show(id, service)))
}

pub(super) fn create(context: &Context<'_>) -> Result<Response, Fault> {
    let body = Body::read(context.request, &SHAPE)?;
    body.id("service_id")?;
    let name = body.mandatory_text("name")?;
    let id = Id::random();
    let service = context.store.edit(|snapshot| {
        if let Some(known) = snapshot.service_named(&name) {
            let text = format!("Service {name} already exists (UUID: {known})");
            return Err(Fault::new(409, text));
        }
        let service = Service { v: Version, seq: snapshot.next_seq(), name: name.clone() };
        Ok((vec![Change::put(id, Record::Service(service.clone()))], service))
    })?;
    Ok(created("services", id, &show(id, &service)))
}

/// Takes fields and rules along.
pub(super) fn delete(context: &Context<'_>) -> Result<Response, Fault> {
    let sent = context.id_or(&context.arguments(&["service_id"])?, "service_id")?;
    context.store.edit(|snapshot| {
        let id = Id::parse(&sent).filter(|id| snapshot.services.contains(*id));
        let id = id.ok_or_else(|| no_service(404, &sent))?;
        Ok::<_, Fault>((snapshot.removal_of_service(id), ()))
    })?;
    Ok(Response::empty(204))
}
