//! `CloudKitty`'s metrics file in the form of ours.
//!
//! What has a counterpart is taken over to the digit; what has none stands in a comment where it
//! was. The result is checked as the daemon would check it, before it is written.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::yaml::{self, Node, Yaml};
use crate::cli::prices::quoted;
use crate::cli::{Outcome, terminal};
use crate::config::{self, Place, Problem};

/// Largest file that is read, bytes.
const FILE_SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Arguments of `CloudKitty`'s collectors that ours have too, by what their values are.
const TEXT_ARGUMENTS: [&str; 9] = [
    "aggregation_method",
    "range_function",
    "query_function",
    "query_prefix",
    "query_suffix",
    "re_aggregation_method",
    "resource_type",
    "resource_key",
    "custom_query",
];
const NUMBER_ARGUMENT: &str = "force_granularity";
const SWITCH_ARGUMENT: &str = "use_all_resource_revisions";

#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("cannot read `{}`: more than {FILE_SIZE_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("cannot read `{}`: line {line}: {reason}", path.display())]
    Place { path: PathBuf, line: usize, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("`{}` is there already\n(hint: `--output` writes a new file)", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

pub(super) fn run(path: &Path, output: Option<&Path>, scope_key: &str) -> Outcome {
    let text = convert(path, &read(path)?, scope_key)?;
    let Some(output) = output else {
        terminal::print(&text)?;
        return Ok(());
    };
    let file = std::fs::File::create_new(output);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let path = output.to_owned();
        match error.kind() {
            ErrorKind::AlreadyExists => ImportError::Exists { path },
            _ => ImportError::Write { path, error },
        }
    })?;
    Ok(())
}

fn read(path: &Path) -> Result<String, ImportError> {
    let unreadable = |error| ImportError::Read { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_SIZE_MAX {
        return Err(ImportError::TooLong { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// A line that is wrong, and why.
type Fault = (usize, String);

pub(super) fn convert(path: &Path, text: &str, scope_key: &str) -> Result<String, ImportError> {
    let placed = |(line, reason)| ImportError::Place { path: path.to_owned(), line, reason };
    // What ends too early is found behind the last line.
    let lines = text.lines().count().max(1);
    let root = yaml::parse(text).map_err(|error| placed((error.line.min(lines), error.reason)))?;
    let mut file = File::default();
    let from = path.file_name().unwrap_or_default().to_string_lossy();
    file.line(1, format!("# What is measured, converted from {}.", quoted(&from)));
    file.metrics(&root).map_err(placed)?;
    let text = file.text();
    config::check_metrics(&text, path, scope_key).map_err(|error| {
        let texts = error.problems().iter().map(|problem| file.explain(path, problem));
        ImportError::Refused(texts.collect::<Vec<_>>().join("\n"))
    })?;
    Ok(text)
}

/// The new file, and of each of its lines the one it comes from.
#[derive(Debug, Default)]
struct File(Vec<(String, usize)>);

impl File {
    fn line(&mut self, from: usize, text: String) {
        self.0.push((text, from));
    }

    /// What was there and is not taken over.
    fn left(&mut self, node: &Node, what: &str, why: &str) {
        let value = one_line(node);
        self.line(node.line, format!("# {what}: {value}  # left out: {why}"));
    }

    fn text(&self) -> String {
        self.0.iter().flat_map(|(line, _)| [line.as_str(), "\n"]).collect()
    }

    /// A problem of the new file as one of the old.
    fn explain(&self, path: &Path, problem: &Problem) -> String {
        let line = match problem.place {
            Place::Line(line) => self.0.get(line.saturating_sub(1)).map(|(_, from)| *from),
            Place::File | Place::Variable(_) => None,
        };
        let mut text = format!("cannot read `{}`: ", path.display());
        text.extend(line.map(|line| format!("line {line}: ")));
        text.extend(problem.metric.as_ref().map(|metric| format!("metric `{metric}`: ")));
        if !problem.field.is_empty() {
            text.extend(["`", &problem.field, "`: "]);
        }
        text + &problem.kind.to_string()
    }

    fn metrics(&mut self, root: &Node) -> Result<(), Fault> {
        let mut metrics = None;
        for (key, value) in map(root, "the file")? {
            match key.text() {
                Some("metrics") => metrics = Some(value),
                _ => self.left(value, &one_line(key), "no counterpart"),
            }
        }
        let metrics = metrics.ok_or_else(|| (root.line, "`metrics`: missing".to_owned()))?;
        for (name, definitions) in map(metrics, "`metrics`")? {
            match &definitions.value {
                Yaml::List(list) => list.iter().try_for_each(|it| self.metric(name, it))?,
                _ => self.metric(name, definitions)?,
            }
        }
        Ok(())
    }

    fn metric(&mut self, name: &Node, definition: &Node) -> Result<(), Fault> {
        let members = map(definition, &format!("metric `{}`", one_line(name)))?;
        self.line(name.line, String::new());
        self.line(definition.line, "[[metric]]".to_owned());
        self.line(name.line, format!("name = {}", quoted(name.text().unwrap_or_default())));
        let groupby = members.iter().find(|(key, _)| key.text() == Some("groupby"));
        let groupby = groupby.map(|(_, value)| texts(value)).transpose()?.unwrap_or_default();
        let mut arguments = None;
        for (key, value) in members {
            let field = key.text().unwrap_or_default();
            match field {
                _ if value.is_null() => {}
                "alt_name" | "unit" | "description" | "mutate" => {
                    let text = scalar(value, field)?;
                    self.line(value.line, format!("{field} = {}", quoted(text)));
                }
                "factor" | "offset" => {
                    let text = number(scalar(value, field)?);
                    self.line(value.line, format!("{field} = {text}"));
                }
                "groupby" => self.attributes(value, field, &groupby),
                "metadata" => self.metadata(value, &groupby)?,
                "mutate_map" => self.mutate_map(value)?,
                "extra_args" => arguments = Some(value),
                _ => self.left(value, field, "no counterpart"),
            }
        }
        // A table ends what can be said of the metric itself.
        arguments.map_or(Ok(()), |arguments| self.arguments(arguments))
    }

    fn attributes(&mut self, node: &Node, field: &str, names: &[String]) {
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        self.line(node.line, format!("{field} = [{}]", names.join(", ")));
    }

    /// An attribute is kept once.
    fn metadata(&mut self, node: &Node, groupby: &[String]) -> Result<(), Fault> {
        let (double, names): (Vec<String>, Vec<String>) =
            texts(node)?.into_iter().partition(|name| groupby.contains(name));
        self.attributes(node, "metadata", &names);
        for name in double {
            let text = format!("# metadata: {}  # left out: it stands in `groupby`", quoted(&name));
            self.line(node.line, text);
        }
        Ok(())
    }

    fn mutate_map(&mut self, node: &Node) -> Result<(), Fault> {
        let mut entries = Vec::new();
        for (from, to) in map(node, "`mutate_map`")? {
            let to = number(scalar(to, "mutate_map")?);
            entries.push(format!("{} = {to}", quoted(from.text().unwrap_or_default())));
        }
        self.line(node.line, format!("mutate_map = {{ {} }}", entries.join(", ")));
        Ok(())
    }

    /// Those of other collectors stand in comments.
    fn arguments(&mut self, node: &Node) -> Result<(), Fault> {
        let members = map(node, "`extra_args`")?;
        let is_ours = |key: &Node| {
            key.text().is_some_and(|key| {
                TEXT_ARGUMENTS.contains(&key) || [NUMBER_ARGUMENT, SWITCH_ARGUMENT].contains(&key)
            })
        };
        if members.iter().any(|(key, _)| is_ours(key)) {
            self.line(node.line, "[metric.extra_args]".to_owned());
        }
        for (key, value) in members {
            let field = key.text().unwrap_or_default();
            if value.is_null() {
                continue;
            }
            if is_ours(key) {
                let text = match field {
                    NUMBER_ARGUMENT => number(scalar(value, field)?),
                    SWITCH_ARGUMENT => switch(value, field)?.to_string(),
                    _ => quoted(scalar(value, field)?),
                };
                self.line(value.line, format!("{field} = {text}"));
            } else {
                let why = "an argument of a collector that is not here";
                self.left(value, &format!("extra_args.{field}"), why);
            }
        }
        Ok(())
    }
}

fn map<'a>(node: &'a Node, what: &str) -> Result<&'a [(Node, Node)], Fault> {
    match &node.value {
        Yaml::Map(map) => Ok(map),
        _ => Err((node.line, format!("{what}: must be a mapping of names"))),
    }
}

fn scalar<'a>(node: &'a Node, field: &str) -> Result<&'a str, Fault> {
    let text = node.text();
    text.ok_or_else(|| (node.line, format!("`{field}`: must be one value, not a list or mapping")))
}

fn texts(node: &Node) -> Result<Vec<String>, Fault> {
    let fault = |node: &Node| (node.line, "must be a list of attributes".to_owned());
    if node.is_null() {
        return Ok(Vec::new());
    }
    let Yaml::List(list) = &node.value else { return Err(fault(node)) };
    list.iter().map(|it| it.text().map(str::to_owned).ok_or_else(|| fault(it))).collect()
}

/// As YAML 1.1, which `CloudKitty` reads, takes it.
fn switch(node: &Node, field: &str) -> Result<bool, Fault> {
    let text = scalar(node, field)?;
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (is_one_of(["true", "yes", "on"]), is_one_of(["false", "no", "off"])) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err((node.line, format!("`{field}`: must be true or false"))),
    }
}

/// As TOML reads it: a plain number as it stands, all else as a text.
fn number(text: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_plain = digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'));
    // TOML has no integers beyond 64 bits.
    if is_plain && text.len() <= 18 { text.to_owned() } else { quoted(text) }
}

/// A value in a comment.
fn one_line(node: &Node) -> String {
    match &node.value {
        Yaml::Plain(text) | Yaml::Quoted(text) => {
            let quoted = quoted(text);
            quoted[1..quoted.len() - 1].to_owned()
        }
        Yaml::List(list) => {
            format!("[{}]", list.iter().map(one_line).collect::<Vec<_>>().join(", "))
        }
        Yaml::Map(map) => {
            let pairs = map.iter().map(|(key, value)| [one_line(key), one_line(value)].join(": "));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(text: &str) -> Result<String, String> {
        convert(Path::new("metrics.yml"), text, "project_id").map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_converted_to_the_digit() {
        let text = converted(
            "\
metrics:
  cpu:
    unit: instance
    alt_name: instance
    groupby: [id, project_id]
    metadata:
      - flavor_id
      - id
    mutate: NUMBOOL
    colour: [red, {a: b}]
    extra_args:
      aggregation_method: max
      resource_type: instance
      force_granularity: 300
      use_all_resource_revisions: No
      custom_query: \"(aggregate max (metric METRIC_NAME mean))\"
      colour: red
  image.size:
    - unit: MiB
      factor: 1/1048576
      offset: 0.10
      description: null
    - unit: 'GiB'
      alt_name: \"image \\\"big\\\"\"
      factor: 0.00000000000000000000000001
      mutate: MAP
      mutate_map: {0.0: 1.0, 11: 1}
",
        );

        let expected = "\
# What is measured, converted from \"metrics.yml\".

[[metric]]
name = \"cpu\"
unit = \"instance\"
alt_name = \"instance\"
groupby = [\"id\", \"project_id\"]
metadata = [\"flavor_id\"]
# metadata: \"id\"  # left out: it stands in `groupby`
mutate = \"NUMBOOL\"
# colour: [red, {a: b}]  # left out: no counterpart
[metric.extra_args]
aggregation_method = \"max\"
resource_type = \"instance\"
force_granularity = 300
use_all_resource_revisions = false
custom_query = \"(aggregate max (metric METRIC_NAME mean))\"
# extra_args.colour: red  # left out: an argument of a collector that is not here

[[metric]]
name = \"image.size\"
unit = \"MiB\"
factor = \"1/1048576\"
offset = 0.10

[[metric]]
name = \"image.size\"
unit = \"GiB\"
alt_name = \"image \\\"big\\\"\"
factor = \"0.00000000000000000000000001\"
mutate = \"MAP\"
mutate_map = { \"0.0\" = 1.0, \"11\" = 1 }
";
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line_it_stands_on() {
        let check = |text: &str, message: &str| {
            let error = converted(text).unwrap_err();
            assert!(error.contains(message), "{error}");
        };
        check("metrics: 1", "line 1: `metrics`: must be a mapping");
        check("a: 1", "line 1: `metrics`: missing");
        check("metrics:\n  m:\n    unit: [a]", "line 3: `unit`: must be one value");
        check("metrics:\n  m:\n    groupby: a", "line 3: must be a list");
        check(
            "metrics:\n  m:\n    unit: u\n    extra_args:\n      use_all_resource_revisions: 1",
            "line 5: `use_all_resource_revisions`: must be true or false",
        );
        check("metrics:\n  m:\n    groupby: [a]", "metric `m`: `unit`: is missing");
        check(
            "metrics:\n  m:\n    unit: u\n\n    factor: x",
            "cannot read `metrics.yml`: line 5: metric `m`: `factor`: must be a number",
        );
        check("metrics:\n  m:\n    unit: u\n    mutate: OFTEN", "line 4: metric `m`: `mutate`");
        check("metrics:\n  m: {unit: u}\n  m: {unit: v}", "line 3: `m` is set twice");
        check("metrics:\n  m: [{unit: u}, {unit: v}]", "`alt_name`: another metric has the same");
        check("metrics:\n  m:\n  unit: [", "line 3: ");
    }
}
