//! Which rules a list has.

use chrono::NaiveDateTime;

use super::arguments::Arguments;
use super::fault::Fault;
use crate::record::{Id, Rule};

/// What may be asked of a list of rules.
pub(super) const ARGUMENTS: &[&str] = &[
    "service_id",
    "field_id",
    "group_id",
    "no_group",
    "tenant_id",
    "filter_tenant",
    "start",
    "end",
    "is_active",
    "deleted",
    "description",
    "created_by",
    "updated_by",
    "deleted_by",
    "all",
];

/// Does a list need a service, field or group?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selector {
    Optional,
    Mandatory,
}

/// An id that rules must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Any,
    Id(Id),
    /// What was asked for is no UUID, so it is nobody's.
    Nobodys,
}

impl Wanted {
    fn parse(text: Option<&str>) -> Wanted {
        match text {
            None => Wanted::Any,
            Some(text) => Id::parse(text).map_or(Wanted::Nobodys, Wanted::Id),
        }
    }

    fn admits(self, id: Option<Id>) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Id(wanted) => id == Some(wanted),
            Wanted::Nobodys => false,
        }
    }
}

/// The tenant that rules must have.
#[derive(Debug, Default)]
enum Tenant {
    #[default]
    Any,
    /// `None` = rules for everybody.
    Is(Option<String>),
}

/// What rules must be like.
#[derive(Debug, Default)]
pub(super) struct Filter {
    service: Wanted,
    field: Wanted,
    group: Wanted,
    without_group: bool,
    tenant: Tenant,
    start: Option<NaiveDateTime>,
    end: Option<NaiveDateTime>,
    is_active: bool,
    with_deleted: bool,
    /// In lower case.
    description: Option<String>,
    created_by: Option<String>,
    updated_by: Option<String>,
    deleted_by: Option<String>,
}

impl Filter {
    pub(super) fn of_group(group: &str) -> Filter {
        Filter { group: Wanted::parse(Some(group)), ..Filter::default() }
    }

    pub(super) fn read(
        arguments: &Arguments,
        service: Option<&str>,
        selector: Selector,
    ) -> Result<Filter, Fault> {
        let id = |name: &str| Wanted::parse(arguments.text(name).as_deref());
        let filter = Filter {
            service: service.map_or_else(|| id("service_id"), |it| Wanted::parse(Some(it))),
            field: id("field_id"),
            group: id("group_id"),
            without_group: arguments.flag("no_group")?,
            tenant: if arguments.flag("filter_tenant")? {
                Tenant::Is(arguments.text("tenant_id"))
            } else {
                Tenant::Any
            },
            start: arguments.moment("start")?,
            end: arguments.moment("end")?,
            is_active: arguments.flag("is_active")?,
            with_deleted: arguments.flag("deleted")?,
            description: arguments.text("description").map(|text| text.to_lowercase()),
            created_by: arguments.text("created_by"),
            updated_by: arguments.text("updated_by"),
            deleted_by: arguments.text("deleted_by"),
        };
        let selectors = [filter.service, filter.field, filter.group];
        let selected = selectors.iter().any(|selector| *selector != Wanted::Any);
        let needed = selector == Selector::Mandatory || !arguments.flag_unless_empty("all")?;
        if needed && !selected {
            return Err(Fault::bad(
                "You must specify either service_uuid, field_uuid or group_uuid.",
            ));
        }
        Ok(filter)
    }

    pub(super) fn admits(&self, rule: &Rule, now: NaiveDateTime) -> bool {
        self.admits_place(rule) && self.admits_time(rule, now) && self.admits_words(rule)
    }

    /// A service wins over a field.
    fn admits_place(&self, rule: &Rule) -> bool {
        let is_of_parent = match self.service {
            Wanted::Any => self.field.admits(rule.parent.field()),
            service => service.admits(rule.parent.service()),
        };
        let is_of_tenant = match &self.tenant {
            Tenant::Any => true,
            Tenant::Is(tenant) => *tenant == rule.tenant,
        };
        is_of_parent
            && is_of_tenant
            && self.group.admits(rule.group)
            && (!self.without_group || rule.group.is_none())
    }

    fn admits_time(&self, rule: &Rule, now: NaiveDateTime) -> bool {
        (self.with_deleted || rule.deleted.is_none())
            && self.start.is_none_or(|start| rule.start >= start)
            && self.end.is_none_or(|end| rule.end.is_some_and(|it| it < end))
            && (!self.is_active || rule.is_active(now))
    }

    fn admits_words(&self, rule: &Rule) -> bool {
        let description = rule.description.as_deref().unwrap_or_default().to_lowercase();
        self.description.as_ref().is_none_or(|wanted| description.contains(wanted))
            && self.created_by.as_ref().is_none_or(|wanted| rule.created_by == *wanted)
            && self.updated_by.as_ref().is_none_or(|it| rule.updated_by.as_ref() == Some(it))
            && self.deleted_by.as_ref().is_none_or(|it| rule.deleted_by.as_ref() == Some(it))
    }
}
