//! Takes a table apart, field by field, and notes everything that is wrong with it.
//!
//! A field that is wrong gives its default, so that reading goes on and finds the other problems;
//! whoever reads must look at the problems before using what was read.

use std::ops::RangeInclusive;

#[cfg(test)]
use super::asked;
use super::document::{Entry, Table, Value};
use super::problem::{Place, Problem, ProblemKind, Problems, nearest};
use super::variables;

#[derive(Debug)]
pub(super) struct TableReader<'p> {
    problems: &'p Problems,
    /// Where the table stands.
    place: Place,
    /// Dotted; empty for the file's root.
    path: String,
    metric: Option<String>,
    table: Table,
    known: Vec<&'static str>,
}

/// A value that was there, with all that is needed to find fault with it.
#[derive(Debug)]
pub(super) struct Field<T> {
    pub(super) value: T,
    pub(super) place: Place,
    pub(super) name: String,
}

impl<'p> TableReader<'p> {
    pub(super) fn root(table: Table, problems: &'p Problems) -> TableReader<'p> {
        let (path, known) = (String::new(), Vec::new());
        TableReader { problems, place: Place::File, path, metric: None, table, known }
    }

    /// Fields are then named without a path, after the metric.
    pub(super) fn of_metric(
        name: String,
        place: Place,
        table: Table,
        problems: &'p Problems,
    ) -> TableReader<'p> {
        TableReader { place, metric: Some(name), ..TableReader::root(table, problems) }
    }

    /// An entry of a list; `path` is its name.
    pub(super) fn of_entry(path: String, entry: Entry, problems: &'p Problems) -> TableReader<'p> {
        TableReader::root(Table::new(), problems).inner(path, entry)
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn path(&self) -> String {
        self.path.clone()
    }

    /// Of a field, or of the table when it is absent.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(&self.place, |entry| &entry.place).clone()
    }

    /// Is the key there?
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes a value out, converted; `None` when it is absent or wrong.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(Value) -> Result<T, ProblemKind>,
    ) -> Option<Field<T>> {
        self.know(key);
        let Entry { place, value } = self.table.remove(key)?;
        let name = self.name_of(key);
        match convert(value) {
            Ok(value) => Some(Field { value, place, name }),
            Err(kind) => {
                self.fault(place, &name, kind, None);
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Field<String>> {
        self.take(key, into_text)
    }

    /// Notes that it is missing, if so.
    pub(super) fn required_text(&mut self, key: &'static str) -> Option<Field<String>> {
        if !self.has(key) {
            self.know(key);
            self.fault(self.place.clone(), &self.name_of(key), ProblemKind::Missing, None);
            return None;
        }
        let field = self.text(key)?;
        if field.value.is_empty() {
            self.refuse(&field, ProblemKind::Empty, None);
            return None;
        }
        Some(field)
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let convert = |value: Value| match &value {
            Value::Boolean(value) => Ok(*value),
            Value::Variable(text) if text == "true" => Ok(true),
            Value::Variable(text) if text == "false" => Ok(false),
            _ => Err(wrong_type("true or false", &value)),
        };
        self.take(key, convert).map_or(default, |field| field.value)
    }

    /// `hint` says the unit or the reason of the bounds.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<T>,
        default: T,
        hint: &str,
    ) -> T
    where
        T: TryFrom<i128> + Into<i128> + Copy,
    {
        let (min, max) = ((*bounds.start()).into(), (*bounds.end()).into());
        #[cfg(test)]
        asked::note_number(self.name_of(key), asked::Number { min, max, default: default.into() });
        let convert = |value: Value| match &value {
            Value::Integer(text) => Ok(text.clone()),
            Value::Variable(text) if is_integer(text) => Ok(text.clone()),
            _ => Err(wrong_type("an integer", &value)),
        };
        let Some(field) = self.take(key, convert) else { return default };
        let number = field.value.parse::<i128>().ok().filter(|number| (min..=max).contains(number));
        if let Some(number) = number.and_then(|number| T::try_from(number).ok()) {
            return number;
        }
        let kind = ProblemKind::OutOfBounds { min, max, got: field.value.clone() };
        self.refuse(&field, kind, Some(hint.to_owned()));
        default
    }

    /// One of a few words; `default` when absent or wrong.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        names: &'static [&'static str],
        values: &[T],
        default: T,
    ) -> T {
        let Some(field) = self.text(key) else { return default };
        if let Some(index) = names.iter().position(|name| *name == field.value) {
            return values.get(index).copied().unwrap_or(default);
        }
        let hint = nearest(&field.value, names.iter().copied()).map(did_you_mean);
        let kind = ProblemKind::NotOneOf { choices: names, got: field.value.clone() };
        self.refuse(&field, kind, hint);
        default
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Field<Vec<Field<String>>>> {
        self.list(key, |value| Err(wrong_type("a list of texts", &value)))
    }

    /// One text stands for a list of one.
    pub(super) fn text_or_texts(&mut self, key: &'static str) -> Option<Field<Vec<Field<String>>>> {
        self.list(key, |value| match value {
            Value::Text(text) => {
                Ok(vec![Entry { place: Place::File, value: Value::Variable(text) }])
            }
            _ => Err(wrong_type("text or a list of texts", &value)),
        })
    }

    fn list(
        &mut self,
        key: &'static str,
        otherwise: impl FnOnce(Value) -> Result<Vec<Entry>, ProblemKind>,
    ) -> Option<Field<Vec<Field<String>>>> {
        let list = self.take(key, |value| match value {
            Value::List(list) => Ok(list),
            Value::Variable(_) => Ok(vec![Entry { place: Place::File, value }]),
            _ => otherwise(value),
        })?;
        let mut texts = Vec::new();
        for (index, entry) in list.value.into_iter().enumerate() {
            let name = format!("{}[{index}]", list.name);
            match entry.value {
                Value::Variable(text) => {
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    texts.extend(parts.map(|part| Field {
                        value: part.to_owned(),
                        place: list.place.clone(),
                        name: list.name.clone(),
                    }));
                }
                Value::Text(value) => texts.push(Field { value, place: entry.place, name }),
                other => self.fault(entry.place, &name, wrong_type("text", &other), None),
            }
        }
        Some(Field { value: texts, place: list.place, name: list.name })
    }

    /// An absent table is an empty one.
    pub(super) fn table(&mut self, key: &'static str) -> TableReader<'p> {
        let absent = Entry { place: self.place.clone(), value: Value::Table(Table::new()) };
        let name = self.name_of(key);
        self.know(key);
        let entry = self.table.remove(key).unwrap_or(absent);
        self.inner(name, entry)
    }

    /// A table whose presence says something.
    pub(super) fn optional_table(&mut self, key: &'static str) -> Option<TableReader<'p>> {
        if self.has(key) {
            return Some(self.table(key));
        }
        self.know(key);
        None
    }

    /// What is left, each a table, with their keys; for tables whose keys the user chooses.
    pub(super) fn into_tables(mut self) -> Vec<(String, TableReader<'p>)> {
        let table = std::mem::take(&mut self.table);
        table
            .into_iter()
            .map(|(key, entry)| {
                let name = self.name_of(&key);
                let inner = self.inner(name, entry);
                (key, inner)
            })
            .collect()
    }

    /// What is left, for a plugin.
    pub(super) fn into_json(mut self) -> serde_json::Map<String, serde_json::Value> {
        let mut map = serde_json::Map::new();
        for (key, entry) in std::mem::take(&mut self.table) {
            match entry.value.into_json() {
                Ok(value) => {
                    map.insert(key, value);
                }
                Err(kind) => self.fault(entry.place, &self.name_of(&key), kind, None),
            }
        }
        map
    }

    /// Whatever is left is unknown.
    pub(super) fn finish(mut self) {
        for (key, entry) in std::mem::take(&mut self.table) {
            let meant = nearest(&key, self.known.iter().copied());
            let hint = match (&entry.place, meant) {
                (Place::Variable(variable), Some(meant)) => {
                    let depth = self.path.split('.').filter(|part| !part.is_empty()).count();
                    Some(did_you_mean(&variables::renamed(variable, depth, meant)))
                }
                (_, meant) => meant.map(did_you_mean),
            };
            self.fault(entry.place, &self.name_of(&key), ProblemKind::UnknownField, hint);
        }
    }

    /// Finds fault with a field that was taken.
    pub(super) fn refuse<T>(&self, field: &Field<T>, kind: ProblemKind, hint: Option<String>) {
        self.fault(field.place.clone(), &field.name, kind, hint);
    }

    /// Was fault found with a field, or with that of a file that stands for it?
    pub(super) fn has_fault(&self, name: &str) -> bool {
        self.problems.names(|field| {
            field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest == "_file")
        })
    }

    pub(super) fn fault(&self, place: Place, field: &str, kind: ProblemKind, hint: Option<String>) {
        self.problems.add_problem(Problem {
            file: self.problems.file().to_owned(),
            place,
            metric: self.metric.clone(),
            field: field.to_owned(),
            kind,
            hint,
        });
    }

    fn know(&mut self, key: &'static str) {
        #[cfg(test)]
        asked::note(self.name_of(key));
        self.known.push(key);
    }

    pub(super) fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn inner(&self, path: String, entry: Entry) -> TableReader<'p> {
        let table = match entry.value {
            Value::Table(table) => table,
            other => {
                self.fault(entry.place.clone(), &path, wrong_type("a table", &other), None);
                Table::new()
            }
        };
        TableReader {
            problems: self.problems,
            place: entry.place,
            path,
            metric: self.metric.clone(),
            table,
            known: Vec::new(),
        }
    }
}

pub(super) fn into_text(value: Value) -> Result<String, ProblemKind> {
    match value {
        Value::Text(text) | Value::Variable(text) => Ok(text),
        other => Err(wrong_type("text", &other)),
    }
}

pub(super) fn wrong_type(wanted: &'static str, value: &Value) -> ProblemKind {
    ProblemKind::WrongType { wanted, got: value.type_name() }
}

pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
