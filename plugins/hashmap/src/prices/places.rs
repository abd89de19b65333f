//! What rules hang on: services, fields and groups by name, made and removed with the list.

use std::collections::{HashMap, HashSet};

use super::apply::Plan;
use super::document::Document;
use super::overlap::unique;
use super::step::Step;
use crate::record::{Change, Field, Group, Id, Parent, Record, Rule, Service, Table, Version};
use crate::snapshot::Snapshot;

#[derive(Debug)]
pub(super) struct Places {
    services: HashMap<String, Id>,
    /// By service and name.
    fields: HashMap<(String, String), Id>,
    groups: HashMap<String, Id>,
    /// The place of the next object in the order of creation.
    seq: u64,
}

/// Everything that a document names, in its order.
struct Named<'a> {
    services: Vec<&'a str>,
    fields: Vec<(&'a str, &'a str)>,
    groups: Vec<&'a str>,
}

impl<'a> Named<'a> {
    fn of(document: &'a Document) -> Named<'a> {
        let (listed, rules) = (&document.services, &document.rules);
        let services = listed.iter().map(|service| service.name.as_str());
        let services = services.chain(rules.iter().map(|(rule, _)| rule.service.as_str()));
        let fields = listed.iter().flat_map(|service| {
            service.fields.iter().map(|field| (service.name.as_str(), field.as_str()))
        });
        let fields = fields.chain(
            rules
                .iter()
                .filter_map(|(rule, _)| Some((rule.service.as_str(), rule.field.as_deref()?))),
        );
        let groups = document.groups.iter().map(String::as_str);
        let groups = groups.chain(rules.iter().filter_map(|(rule, _)| rule.group.as_deref()));
        Named { services: unique(services), fields: unique(fields), groups: unique(groups) }
    }
}

impl Places {
    pub(super) fn of(snapshot: &Snapshot) -> Places {
        let mut places = Places {
            services: HashMap::new(),
            fields: HashMap::new(),
            groups: HashMap::new(),
            seq: snapshot.next_seq(),
        };
        for (id, service) in snapshot.services.iter() {
            places.services.entry(service.name.clone()).or_insert(id);
        }
        for (id, field) in snapshot.fields.iter() {
            let Some(service) = snapshot.services.get(field.service) else { continue };
            places.fields.entry((service.name.clone(), field.name.clone())).or_insert(id);
        }
        for (id, group) in snapshot.groups.iter() {
            places.groups.entry(group.name.clone()).or_insert(id);
        }
        places
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        seq
    }

    /// Makes what the document names and is not there.
    pub(super) fn add(&mut self, document: &Document, plan: &mut Plan) {
        let named = Named::of(document);
        for name in named.services {
            if self.services.contains_key(name) {
                continue;
            }
            let (v, seq, id) = (Version, self.next_seq(), Id::random());
            let name = name.to_owned();
            self.services.insert(name.clone(), id);
            plan.steps.push(Step::AddService { name: name.clone() });
            plan.changes.push(Change::put(id, Record::Service(Service { v, seq, name })));
        }
        for (service, name) in named.fields {
            let key = (service.to_owned(), name.to_owned());
            if self.fields.contains_key(&key) {
                continue;
            }
            let (v, seq, id) = (Version, self.next_seq(), Id::random());
            let parent = self.services[service];
            let (service, name) = key.clone();
            self.fields.insert(key, id);
            plan.steps.push(Step::AddField { service, name: name.clone() });
            let field = Field { v, seq, service: parent, name };
            plan.changes.push(Change::put(id, Record::Field(field)));
        }
        for name in named.groups {
            if self.groups.contains_key(name) {
                continue;
            }
            let (v, seq, id) = (Version, self.next_seq(), Id::random());
            let name = name.to_owned();
            self.groups.insert(name.clone(), id);
            plan.steps.push(Step::AddGroup { name: name.clone() });
            plan.changes.push(Change::put(id, Record::Group(Group { v, seq, name })));
        }
    }

    /// Where a rule of the document hangs; its places have been added.
    pub(super) fn parent(&self, service: &str, field: Option<&str>) -> Parent {
        match field {
            None => Parent::Service(self.services[service]),
            Some(field) => Parent::Field(self.fields[&(service.to_owned(), field.to_owned())]),
        }
    }

    pub(super) fn group(&self, name: Option<&str>) -> Option<Id> {
        name.map(|name| self.groups[name])
    }
}

/// Removes what the document does not name, unless a rule hangs on it, be it an ended one: prices
/// of the past are made of those.
pub(super) fn remove(snapshot: &Snapshot, document: &Document, plan: &mut Plan) {
    let named = Named::of(document);
    let services: HashSet<&str> = named.services.into_iter().collect();
    let fields: HashSet<(&str, &str)> = named.fields.into_iter().collect();
    let groups: HashSet<&str> = named.groups.into_iter().collect();
    let rules = snapshot.mappings.iter().map(|(_, it)| &it.rule);
    let rules: Vec<&Rule> =
        rules.chain(snapshot.thresholds.iter().map(|(_, it)| &it.rule)).collect();
    let parents: HashSet<Parent> = rules.iter().map(|rule| rule.parent).collect();
    let used_groups: HashSet<Id> = rules.iter().filter_map(|rule| rule.group).collect();

    let mut services_with_fields = HashSet::new();
    for (id, field) in snapshot.fields.iter() {
        let service = snapshot.services.get(field.service).map_or("", |it| it.name.as_str());
        if fields.contains(&(service, &field.name)) || parents.contains(&Parent::Field(id)) {
            services_with_fields.insert(field.service);
            continue;
        }
        let (service, name) = (service.to_owned(), field.name.clone());
        plan.steps.push(Step::RemoveField { service, name });
        plan.changes.push(Change::Remove(id, Table::Field));
    }
    for (id, service) in snapshot.services.iter() {
        let is_used = parents.contains(&Parent::Service(id)) || services_with_fields.contains(&id);
        if !is_used && !services.contains(service.name.as_str()) {
            plan.steps.push(Step::RemoveService { name: service.name.clone() });
            plan.changes.push(Change::Remove(id, Table::Service));
        }
    }
    for (id, group) in snapshot.groups.iter() {
        if !groups.contains(group.name.as_str()) && !used_groups.contains(&id) {
            plan.steps.push(Step::RemoveGroup { name: group.name.clone() });
            plan.changes.push(Change::Remove(id, Table::Group));
        }
    }
}
