//! One disk, many cuts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rated_tests::{Disk, Fault, PATIENCE, Random};

use crate::client::{self, Candidates, Client, Common, Stop};
use crate::model::State;
use crate::site::{SCOPES, Site, Start};

/// Of a hundred starts so many lose power on the way.
const STARTS_CUT_PERCENT: u64 = 55;
/// Changes and syncs of a first start, until one has been counted.
const START_OPERATIONS: u64 = 120;
/// Power goes after so many at most, once clients are at work.
const WORK_OPERATIONS_MAX: u64 = 500;
/// Longest time that clients work, should they do less than that.
const WORK_TIME_MAX: Duration = Duration::from_secs(4);
/// Between two looks whether everything is collected at the end.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Schedule {
    seed: u64,
    random: Random,
    fault: Option<Fault>,
    cuts: u64,
    start_operations: u64,
    /// What each scope's client knows: one of these.
    candidates: BTreeMap<&'static str, Candidates>,
    common: Common,
}

/// How a schedule ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    seed: u64,
    pub(crate) cuts: u64,
    acknowledged: u64,
    operations: u64,
    /// Most bytes of sled's log.
    log_size: usize,
    /// What was lost, half there or wrong.
    pub(crate) violation: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { seed, cuts, acknowledged, operations, log_size, violation } = self;
        write!(
            f,
            "seed {seed}: {cuts} power cuts in {operations} operations of the disk, {acknowledged} \
             changes acknowledged, {} MiB of log",
            log_size >> 20,
        )?;
        match violation {
            Some(violation) => write!(f, "\nVIOLATED after cut {cuts}: {violation}"),
            None => Ok(()),
        }
    }
}

impl Outcome {
    pub(crate) fn expect_sound(&self) {
        assert!(self.violation.is_none(), "RATED_TEST_POWER_SEED={}\n{self}", self.seed);
    }
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Schedule {
        Schedule {
            seed,
            random: Random::new(seed),
            fault: None,
            cuts: 0,
            start_operations: START_OPERATIONS,
            candidates: SCOPES.iter().map(|scope| (*scope, vec![State::default()])).collect(),
            common: Common::default(),
        }
    }

    pub(crate) fn with_fault(self, fault: Fault) -> Schedule {
        Schedule { fault: Some(fault), ..self }
    }

    /// Until so many cuts are survived, or one is not.
    pub(crate) fn run(mut self, cuts: u64) -> Outcome {
        let mut disk = Disk::default();
        let (mut operations, mut log_size) = (0, 0);
        let mut violation = None;
        let mut is_set_up = false;
        while violation.is_none() && self.cuts < cuts {
            let found = disk.clone();
            disk.faults.extend(self.fault.clone());
            if self.random.percent(STARTS_CUT_PERCENT) {
                disk.cut_after(1 + self.random.below(self.start_operations * 5 / 4));
            }
            let lost = match Site::start(disk) {
                Start::Cut(lost) => lost,
                Start::Failed(lost, said) => {
                    violation = Some(format!("the daemon does not start:\n{said}"));
                    self.keep(&found);
                    lost
                }
                Start::Serves(site) => {
                    self.start_operations = site.disk.with(|disk| disk.operations()).max(8);
                    let worked = self.serve(&site, &mut is_set_up);
                    if let Err(why) = worked {
                        violation = Some(format!("{why}\n{}", last_lines(&site.output())));
                        self.keep(&found);
                    }
                    site.kill()
                }
            };
            operations += lost.operations();
            let log = lost.files().into_iter().find(|(path, _)| path.ends_with("ledger/db"));
            log_size = log_size.max(log.map_or(0, |(_, content)| content.len()));
            let mut survives = self.random.fork();
            disk = lost.after_cut(&mut survives);
            self.cuts += u64::from(violation.is_none());
        }
        if violation.is_none() {
            violation = self.settle(disk, is_set_up).err();
        }
        let acknowledged = self.common.acknowledged.load(Ordering::Relaxed);
        let (seed, cuts) = (self.seed, self.cuts);
        Outcome { seed, cuts, acknowledged, operations, log_size, violation }
    }

    /// With power all that is due gets into the ledger, each day once.
    fn settle(&mut self, disk: Disk, is_set_up: bool) -> Result<(), String> {
        if !is_set_up {
            return Ok(());
        }
        let site = match Site::start(disk) {
            Start::Serves(site) => site,
            Start::Cut(_) => return Err("power went though nobody cut it".to_owned()),
            Start::Failed(_, said) => return Err(format!("the daemon does not start:\n{said}")),
        };
        let begin = Instant::now();
        loop {
            self.compare(&site)?;
            if self.candidates.values().flatten().all(State::is_settled) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let known = &self.candidates;
                return Err(format!("days are missing for ever, this is there: {known:?}"));
            }
            thread::sleep(SETTLE_PAUSE);
        }
    }

    /// Compares, then lets clients work until power goes.
    fn serve(&mut self, site: &Site, is_set_up: &mut bool) -> Result<(), String> {
        if !*is_set_up {
            client::set_up(site).map_err(|stop| format!("the first rule: {stop:?}"))?;
            *is_set_up = true;
        }
        self.compare(site)?;
        let operations = 1 + self.random.below(WORK_OPERATIONS_MAX);
        site.disk.with(|disk| disk.cut_after(operations));
        self.common.is_over.store(false, Ordering::Relaxed);
        let (random, common) = (&mut self.random, &self.common);
        let states = self.candidates.iter().map(|(scope, states)| (*scope, states[0].clone()));
        let clients: Vec<Client> = states
            .map(|(scope, state)| {
                let (random, doubtful) = (random.fork(), State::default());
                Client { site, common, scope, state, doubtful, random }
            })
            .collect();
        let ended: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = clients
                .into_iter()
                .map(|client| (client.scope, scope.spawn(move || client.run())))
                .collect();
            if !site.disk.wait_for_cut(WORK_TIME_MAX) {
                site.disk.with(Disk::cut);
            }
            common.is_over.store(true, Ordering::Relaxed);
            clients.into_iter().map(|(name, client)| (name, client.join().unwrap())).collect()
        });
        for (scope, candidates) in ended {
            self.candidates.insert(scope, candidates?);
        }
        Ok(())
    }

    /// Each scope must be as one of its candidates says, which then is what is known.
    fn compare(&mut self, site: &Site) -> Result<(), String> {
        let found = client::find(site).map_err(|stop| match stop {
            Stop::Lost => "power went though nobody cut it".to_owned(),
            Stop::Wrong(why) => why,
        })?;
        for (scope, candidates) in &mut self.candidates {
            let found = &found[*scope];
            let matched = candidates.iter().find_map(|state| state.matched(found));
            let Some(matched) = matched else {
                return Err(format!("{scope}: found {found:?}\nbut it must be {candidates:?}"));
            };
            *candidates = vec![matched];
        }
        Ok(())
    }

    /// The disk as the daemon found it, for whoever looks into it.
    fn keep(&self, disk: &Disk) {
        if self.fault.is_some() {
            return;
        }
        let name = format!("power-seed-{}-cut-{}", self.seed, self.cuts);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        for (path, content) in disk.files() {
            let path: PathBuf = folder.join(path);
            fs::create_dir_all(path.parent().expect("a file has a folder")).unwrap();
            fs::write(path, content).unwrap();
        }
        println!("the disk is kept in {}", folder.display());
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
