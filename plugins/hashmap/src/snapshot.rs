//! All objects as they were at one revision of the store.
//!
//! A snapshot never changes; an edit makes a new one that shares what stayed the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::record::{
    Change, Field, Group, Id, Mapping, Parent, Record, Rule, Service, Table, Threshold,
};

/// The objects of one kind, found by id and listed in the order they were made.
#[derive(Debug)]
pub(crate) struct Objects<T> {
    in_order: BTreeMap<(u64, Id), Arc<T>>,
    seqs: HashMap<Id, u64>,
}

impl<T> Clone for Objects<T> {
    fn clone(&self) -> Objects<T> {
        Objects { in_order: self.in_order.clone(), seqs: self.seqs.clone() }
    }
}

impl<T> Default for Objects<T> {
    fn default() -> Objects<T> {
        Objects { in_order: BTreeMap::new(), seqs: HashMap::new() }
    }
}

impl<T> Objects<T> {
    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let seq = self.seqs.get(&id)?;
        self.in_order.get(&(*seq, id)).map(AsRef::as_ref)
    }

    pub(crate) fn contains(&self, id: Id) -> bool {
        self.seqs.contains_key(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.in_order.iter().map(|((_, id), object)| (*id, object.as_ref()))
    }

    fn seq_max(&self) -> u64 {
        self.in_order.last_key_value().map_or(0, |((seq, _), _)| *seq)
    }

    fn put(&mut self, id: Id, seq: u64, object: T) {
        self.remove(id);
        self.seqs.insert(id, seq);
        self.in_order.insert((seq, id), Arc::new(object));
    }

    fn remove(&mut self, id: Id) {
        if let Some(seq) = self.seqs.remove(&id) {
            self.in_order.remove(&(seq, id));
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) services: Objects<Service>,
    pub(crate) fields: Objects<Field>,
    pub(crate) groups: Objects<Group>,
    pub(crate) mappings: Objects<Mapping>,
    pub(crate) thresholds: Objects<Threshold>,
}

impl Snapshot {
    /// Objects of all kinds.
    pub(crate) fn count(&self) -> usize {
        self.services.seqs.len()
            + self.fields.seqs.len()
            + self.groups.seqs.len()
            + self.mappings.seqs.len()
            + self.thresholds.seqs.len()
    }

    pub(crate) fn contains(&self, id: Id) -> bool {
        self.services.contains(id)
            || self.fields.contains(id)
            || self.groups.contains(id)
            || self.mappings.contains(id)
            || self.thresholds.contains(id)
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(id, record) => self.put(*id, record.as_ref().clone()),
            Change::Remove(id, table) => match table {
                Table::Service => self.services.remove(*id),
                Table::Field => self.fields.remove(*id),
                Table::Group => self.groups.remove(*id),
                Table::Mapping => self.mappings.remove(*id),
                Table::Threshold => self.thresholds.remove(*id),
            },
        }
    }

    pub(crate) fn put(&mut self, id: Id, record: Record) {
        match record {
            Record::Service(service) => self.services.put(id, service.seq, service),
            Record::Field(field) => self.fields.put(id, field.seq, field),
            Record::Group(group) => self.groups.put(id, group.seq, group),
            Record::Mapping(mapping) => self.mappings.put(id, mapping.seq, mapping),
            Record::Threshold(threshold) => self.thresholds.put(id, threshold.seq, threshold),
        }
    }

    /// The place of the next object in the order of creation.
    pub(crate) fn next_seq(&self) -> u64 {
        let seqs = [
            self.services.seq_max(),
            self.fields.seq_max(),
            self.groups.seq_max(),
            self.mappings.seq_max(),
            self.thresholds.seq_max(),
        ];
        1 + seqs.into_iter().max().unwrap_or(0)
    }

    pub(crate) fn service_named(&self, name: &str) -> Option<Id> {
        self.services.iter().find(|(_, service)| service.name == name).map(|(id, _)| id)
    }

    pub(crate) fn field_named(&self, service: Id, name: &str) -> Option<Id> {
        let is_it = |field: &Field| field.service == service && field.name == name;
        self.fields.iter().find(|(_, field)| is_it(field)).map(|(id, _)| id)
    }

    pub(crate) fn group_named(&self, name: &str) -> Option<Id> {
        self.groups.iter().find(|(_, group)| group.name == name).map(|(id, _)| id)
    }

    /// Removes a service with all that hangs on it.
    pub(crate) fn removal_of_service(&self, id: Id) -> Vec<Change> {
        let fields = self.fields.iter().filter(|(_, field)| field.service == id);
        let mut changes: Vec<Change> =
            fields.flat_map(|(field, _)| self.removal_of_field(field)).collect();
        changes.extend(self.removal_of_rules(|rule| rule.parent == Parent::Service(id)));
        changes.push(Change::Remove(id, Table::Service));
        changes
    }

    /// Removes a field with its rules.
    pub(crate) fn removal_of_field(&self, id: Id) -> Vec<Change> {
        let mut changes = self.removal_of_rules(|rule| rule.parent == Parent::Field(id));
        changes.push(Change::Remove(id, Table::Field));
        changes
    }

    /// Removes a group with its rules.
    pub(crate) fn removal_of_group_and_rules(&self, id: Id) -> Vec<Change> {
        let mut changes = self.removal_of_rules(|rule| rule.group == Some(id));
        changes.push(Change::Remove(id, Table::Group));
        changes
    }

    /// Removes a group; its rules stay, without group.
    pub(crate) fn removal_of_group(&self, id: Id) -> Vec<Change> {
        let mut changes = Vec::new();
        for (rule_id, mapping) in self.mappings.iter().filter(|(_, it)| it.rule.group == Some(id)) {
            let mut mapping = mapping.clone();
            mapping.rule.group = None;
            changes.push(Change::put(rule_id, Record::Mapping(mapping)));
        }
        for (rule_id, threshold) in
            self.thresholds.iter().filter(|(_, it)| it.rule.group == Some(id))
        {
            let mut threshold = threshold.clone();
            threshold.rule.group = None;
            changes.push(Change::put(rule_id, Record::Threshold(threshold)));
        }
        changes.push(Change::Remove(id, Table::Group));
        changes
    }

    fn removal_of_rules(&self, goes: impl Fn(&Rule) -> bool) -> Vec<Change> {
        let mappings = self.mappings.iter().filter(|(_, it)| goes(&it.rule));
        let thresholds = self.thresholds.iter().filter(|(_, it)| goes(&it.rule));
        let mappings = mappings.map(|(id, _)| Change::Remove(id, Table::Mapping));
        let thresholds = thresholds.map(|(id, _)| Change::Remove(id, Table::Threshold));
        mappings.chain(thresholds).collect()
    }
}
