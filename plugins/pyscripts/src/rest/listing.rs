//! Which scripts a list has.

use chrono::NaiveDateTime;

use super::arguments::Arguments;
use super::fault::Fault;
use crate::record::Script;

/// What may be asked of a list of scripts.
pub(super) const ARGUMENTS: &[&str] = &[
    "no_data",
    "start",
    "end",
    "is_active",
    "deleted",
    "description",
    "created_by",
    "updated_by",
    "deleted_by",
];

/// What scripts must be like.
#[derive(Debug, Default)]
pub(super) struct Filter {
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
    pub(super) fn read(arguments: &Arguments) -> Result<Filter, Fault> {
        Ok(Filter {
            start: arguments.moment("start")?,
            end: arguments.moment("end")?,
            is_active: arguments.flag("is_active")?,
            with_deleted: arguments.flag("deleted")?,
            description: arguments.text("description").map(|text| text.to_lowercase()),
            created_by: arguments.text("created_by"),
            updated_by: arguments.text("updated_by"),
            deleted_by: arguments.text("deleted_by"),
        })
    }

    pub(super) fn admits(&self, script: &Script, now: NaiveDateTime) -> bool {
        self.admits_time(script, now) && self.admits_words(script)
    }

    fn admits_time(&self, script: &Script, now: NaiveDateTime) -> bool {
        (self.with_deleted || script.deleted.is_none())
            && self.start.is_none_or(|start| script.start >= start)
            && self.end.is_none_or(|end| script.end.is_some_and(|it| it < end))
            && (!self.is_active || script.is_active(now))
    }

    fn admits_words(&self, script: &Script) -> bool {
        let description = script.description.as_deref().unwrap_or_default().to_lowercase();
        self.description.as_ref().is_none_or(|wanted| description.contains(wanted))
            && self.created_by.as_ref().is_none_or(|wanted| script.created_by == *wanted)
            && self.updated_by.as_ref().is_none_or(|it| script.updated_by.as_ref() == Some(it))
            && self.deleted_by.as_ref().is_none_or(|it| script.deleted_by.as_ref() == Some(it))
    }
}
