//! A scenario, and what becomes of it when the daemon is killed on the way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rated_tests::{build_folder, example_library};
use tempfile::TempDir;

use crate::client::{Client, Driven, Gone};

/// More kills of each scenario than one at each of its steps.
const MORE_KILLS: &str = "RATED_TEST_KILLS";
const SEED: &str = "RATED_TEST_SEED";
const SEED_DEFAULT: u64 = 20_261_126;

const SIGKILL: i32 = 9;
/// How long the system may take to end the processes of one that was killed.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(5);

/// Steps that every start passes: where the second kill comes.
const RECOVERY: [&str; 12] = [
    "start.locked",
    "start.leftovers_removed",
    "start.sled_opened",
    "start.header_written",
    "start.trees_opened",
    "start.folders_synced",
    "group.flushed",
    "start.synced",
    "start.ledger_loaded",
    "plugin.mapped",
    "start.plugins_loaded",
    "cycle.begun",
];

/// What a daemon has acknowledged; each looks whether it is still there.
type Check = Box<dyn Fn(&mut Client) -> Driven<()>>;

#[derive(Default)]
pub(crate) struct Acknowledged(BTreeMap<&'static str, Check>);

impl Acknowledged {
    /// A later one of the same name takes the place of an earlier one.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        check: impl Fn(&mut Client) -> Driven<()> + 'static,
    ) {
        self.0.insert(name, Box::new(check));
    }

    fn check(&self, client: &mut Client) -> Driven<()> {
        self.0.values().try_for_each(|check| check(client))
    }
}

/// What is done to a daemon, again and again until it is done.
pub(crate) trait Scenario {
    /// `rated.toml`; see `Site::new` for what stands beside it.
    fn config(&self) -> String;

    /// What is there before: nothing, if it is not said.
    fn prepare(&self, _: &Site) {}

    /// Goes on with whatever is not done yet.
    fn drive(
        &self,
        client: &mut Client,
        folder: &Path,
        acknowledged: &mut Acknowledged,
    ) -> Driven<()>;

    /// Kills beside those at its own steps, if nobody says how many.
    fn more_kills(&self) -> u64 {
        8
    }

    /// What is compared at the end.
    fn picture(&self, client: &mut Client) -> Driven<String>;
}

/// Where a scenario takes place.
pub(crate) struct Site {
    root: TempDir,
    program: PathBuf,
}

/// How one run has ended.
enum End {
    Done(String),
    Killed,
}

impl Site {
    pub(crate) fn new(scenario: &dyn Scenario) -> Site {
        let root = TempDir::new().unwrap();
        let built = build_folder();
        let (programs, template) = (root.path().join("bin"), root.path().join("template"));
        for folder in [&programs, &template.join("plugins"), &template.join("state")] {
            fs::create_dir_all(folder).unwrap();
        }
        // Only the plugins that are needed: those of a development build are large.
        for name in ["rated", "librated_hashmap.so"] {
            give(&built.join(name), &programs.join(name));
        }
        let steady = template.join("plugins/libsteady_plugin.so");
        give(&example_library("steady_plugin"), &steady);
        let metric = |index| {
            format!(
                "[[metric]]\nname = \"metric_{index}\"\nunit = \"unit\"\n\
                 groupby = [\"id\"]\nmetadata = [\"flavor\"]\n"
            )
        };
        fs::write(template.join("metrics.toml"), metric(0) + &metric(1)).unwrap();
        fs::write(template.join("rated.toml"), scenario.config()).unwrap();
        Site { program: programs.join("rated"), root }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn template(&self) -> PathBuf {
        self.root.path().join("template")
    }

    /// A daemon on the template itself, with another configuration.
    pub(crate) fn on_template(&self, config: &str, act: impl FnOnce(&mut Client) -> Driven<()>) {
        let file = self.template().join("prepare.toml");
        fs::write(&file, config).unwrap();
        let mut client = Client::spawn(&self.program, &file, None, "info");
        client.serves().and_then(|()| act(&mut client)).expect("nobody kills it");
        client.terminate();
        assert!(client.end().success(), "{}", client.output());
    }

    fn copy_of_template(&self) -> PathBuf {
        let copy = self.root.path().join("run");
        let _ = fs::remove_dir_all(&copy);
        copy_tree(&self.template(), &copy);
        copy
    }

    /// One life of a daemon.
    fn live(
        &self,
        scenario: &dyn Scenario,
        (folder, kill_at, log): (&Path, Option<&str>, &str),
        acknowledged: &mut Acknowledged,
    ) -> (End, String) {
        let mut client = Client::spawn(&self.program, &folder.join("rated.toml"), kill_at, log);
        let mut live = || {
            client.serves()?;
            acknowledged.check(&mut client)?;
            scenario.drive(&mut client, folder, acknowledged)?;
            let picture = scenario.picture(&mut client)?;
            client.terminate();
            Ok(picture)
        };
        let outcome: Driven<String> = live();
        let status = client.end();
        let said = client.output();
        expect_nobody_runs(&self.program);
        let end = match outcome {
            Ok(picture) if status.success() => End::Done(picture),
            _ if status.signal() == Some(SIGKILL) && kill_at.is_some() => End::Killed,
            Ok(_) | Err(Gone) => panic!("{kill_at:?}: ended with {status}\n{said}"),
        };
        (end, said)
    }
}

/// A scenario undisturbed, then with kills: one at each of its own steps, each of them followed by
/// another in the recovery, and some more at random.
pub(crate) fn kill_everywhere(scenario: &dyn Scenario, own_steps: &[&str]) {
    let site = Site::new(scenario);
    scenario.prepare(&site);
    let folder = site.copy_of_template();
    let log = "info,rated::fault=trace";
    let undisturbed = (&*folder, None, log);
    let (end, said) = site.live(scenario, undisturbed, &mut Acknowledged::default());
    let End::Done(expected) = end else { panic!("killed by nobody") };
    let passes = passes(&said);
    let seed = variable(SEED).unwrap_or(SEED_DEFAULT);
    let mut random = Random(seed);
    let mut plan = Vec::new();
    for step in own_steps {
        assert!(passes.contains_key(*step), "`{step}` is not passed in\n{passes:?}");
        plan.push(((*step).to_owned(), 1));
    }
    let all: Vec<(&String, &u64)> = passes.iter().collect();
    for _ in 0..variable(MORE_KILLS).unwrap_or_else(|| scenario.more_kills()) {
        let (step, count) = all[random.below(all.len() as u64)];
        plan.push((step.clone(), 1 + random.below(*count) as u64));
    }

    let (mut kills, mut missed) = (0, 0);
    for (step, count) in plan {
        let kill_at = format!("{step}:{count}");
        let second = format!("{}:1", RECOVERY[random.below(RECOVERY.len() as u64)]);
        println!("{SEED}={seed}: {kill_at}, then {second}");
        let folder = site.copy_of_template();
        let mut acknowledged = Acknowledged::default();
        let first = (&*folder, Some(&*kill_at), "info");
        let (end, said) = site.live(scenario, first, &mut acknowledged);
        if let End::Done(picture) = end {
            // What runs side by side is not passed equally often in every run.
            assert!(count > 1, "`{kill_at}` was not reached:\n{said}");
            assert_eq!(picture, expected, "undisturbed");
            missed += 1;
            continue;
        }
        let (end, said) = site.live(scenario, (&folder, Some(&second), "info"), &mut acknowledged);
        assert!(matches!(end, End::Killed), "`{second}` was not reached:\n{said}");
        kills += 2;
        let (end, said) = site.live(scenario, (&folder, None, "info"), &mut acknowledged);
        let End::Done(picture) = end else { unreachable!("nobody kills it") };
        assert!(picture == expected, "{kill_at}: {}\n{said}", difference(&picture, &expected));
    }
    println!("{kills} kills at {} steps; {missed} were not reached", passes.len());
}

/// How often each step was passed.
fn passes(said: &str) -> BTreeMap<String, u64> {
    let mut passes = BTreeMap::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("step=\"") {
            let name = rest.split('"').next().unwrap_or_default();
            *passes.entry(name.to_owned()).or_default() += 1;
        }
    }
    passes
}

/// The first line that one has and the other has not.
fn difference(actual: &str, expected: &str) -> String {
    let (actual, expected): (Vec<&str>, Vec<&str>) =
        (actual.lines().collect(), expected.lines().collect());
    let extra = actual.iter().find(|line| !expected.contains(line));
    let missing = expected.iter().find(|line| !actual.contains(line));
    format!("{} lines, expected {}: {extra:?}, not {missing:?}", actual.len(), expected.len())
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Enough to choose by; a seed gives the same choices for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from((self.0 >> 33) % limit).expect("a small number")
    }
}

/// Whatever a daemon has started ends with it.
fn expect_nobody_runs(program: &Path) {
    let begin = Instant::now();
    loop {
        let running = running(program);
        if running.is_empty() {
            return;
        }
        assert!(begin.elapsed() < ORPHANS_PATIENCE, "{running:?} outlive their daemon");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Who runs this program, with what it was started with.
pub(crate) fn running(program: &Path) -> Vec<(u32, String)> {
    let mut running = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        // One that ends meanwhile has neither.
        let is_it = fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program);
        if let (Some(id), true) = (id, is_it) {
            let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
            running.push((id, String::from_utf8_lossy(&arguments).replace('\0', " ")));
        }
    }
    running
}

/// The same file, or a copy of it where that cannot be.
fn give(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap();
    }
}

/// Libraries never change, so one file is enough for all copies of them.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "so") {
            give(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
