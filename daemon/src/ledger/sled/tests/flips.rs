//! A flipped bit anywhere in what is stored is found, or changes nothing: no figure is ever another
//! one, no other answer without a word, and what does not depend on the bit is answered as before.
//!
//! `RATED_TEST_FLIPS=N` flips N bits in each test instead of some dozens; `RATED_TEST_SEED=S` makes
//! S the first seed. Each flip has a seed of its own, which a failure names.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::crash::copy;
use super::sample::write_sample_5;
use super::support::*;
use crate::ledger::sled::store::{Store, Table, Write};
use crate::ledger::sled::{OpenError, SledLedger, SledOptions, accept};
use crate::ledger::{
    Completeness, CompletenessQuery, CompletenessState, Enabled, Finding, GroupKey, KvEdit, Ledger,
    LedgerError, Remedy, RowsQuery, SummaryQuery,
};

/// How many bits each test flips when nobody says.
const FLIPS: u64 = 60;
const SEED: u64 = 0xB17;

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn seeds() -> std::ops::Range<u64> {
    let first = number("RATED_TEST_SEED", SEED);
    first..first + number("RATED_TEST_FLIPS", FLIPS)
}

/// An answer as text, by what was asked; `None` = damage was found.
type Answers = Vec<(&'static str, Option<String>)>;

/// What bills are made of: never another one, whatever is said at the start.
const FIGURES: [&str; 8] = [
    "sums by type",
    "sums by period, scope and type",
    "sums by attributes",
    "sums of long ago",
    "sums of december",
    "rows",
    "a few rows",
    "facts",
];
const STATES: [&str; 3] = ["modules", "collectors", "mappings"];
const RULES: [&str; 3] = ["revision", "rules", "a rule"];

/// What is answered beside damage of a record of a table.
fn stays(table: Table, key: &[u8]) -> Vec<&'static str> {
    let all = [
        FIGURES.as_slice(),
        &["scopes", "cursors", "size", "reprocessings"],
        STATES.as_slice(),
        RULES.as_slice(),
    ]
    .concat();
    let but = |gone: &[&[&str]]| {
        let gone = gone.concat();
        all.iter().copied().filter(|name| !gone.contains(name)).collect()
    };
    let told_apart: &[&str] =
        &["sums by period, scope and type", "sums by attributes", "sums of long ago"];
    let of_rows: &[&str] = &["rows", "a few rows"];
    match table {
        Table::Scopes => but(&[told_apart, of_rows, &["facts", "scopes", "reprocessings"]]),
        Table::Metrics | Table::Slices => but(&[&FIGURES]),
        Table::Chains => but(&[of_rows]),
        Table::Cursors => but(&[&["scopes"]]),
        Table::Texts => but(&[of_rows, &["sums by attributes"]]),
        Table::States if key == b"configured" || key == b"standing" => but(&[&["scopes"]]),
        Table::States => but(&[&STATES, &RULES]),
        Table::Reprocessings => but(&[&["reprocessings"]]),
        Table::Kv => but(&[&RULES]),
        // Whether records of the group are missing cannot be told any more.
        Table::Seals => Vec::new(),
        _ => all,
    }
}

/// Everything that can be asked.
fn ask(ledger: &SledLedger) -> Answers {
    let wide = |group_by: &[GroupKey]| SummaryQuery { end: at(900), ..everything(group_by) };
    let old = SummaryQuery { begin: at(-1600), ..everything(&[GroupKey::Time, GroupKey::Scope]) };
    let december = SummaryQuery { begin: at(720), end: at(900), ..everything(&[]) };
    let few = RowsQuery { begin: at(0), end: at(2), ..all_rows(0, 5000) };
    let sums = |query: &SummaryQuery| {
        ledger.summarize(query).map(|mut groups| {
            groups.sort_by_key(|group| format!("{group:?}"));
            format!("{groups:?}")
        })
    };
    let rules = || {
        let values = (0..4).map(|revision| ledger.kv_get("rating/hashmap", revision, "a"));
        values.collect::<Result<Vec<_>, _>>().map(|values| format!("{values:?}"))
    };
    // What was tried and failed is told when it can be read; it is nobody's figure.
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let facts = || -> Result<String, LedgerError> {
        let is_known = |known: &&Completeness| matches!(known.state, CompletenessState::Known(_));
        let all = ledger.completeness(&query)?;
        Ok(format!("{:?}", all.iter().filter(is_known).collect::<Vec<_>>()))
    };
    let by_all = wide(&[GroupKey::Time, GroupKey::Scope, GroupKey::Type]);
    let all = vec![
        ("sums by type", sums(&wide(&[GroupKey::Type]))),
        ("sums by period, scope and type", sums(&by_all)),
        ("sums by attributes", sums(&wide(&[attribute("flavor"), attribute("id")]))),
        ("sums of long ago", sums(&old)),
        ("sums of december", sums(&december)),
        ("rows", rows_of(ledger, &RowsQuery { end: at(900), ..all_rows(0, 5000) })),
        ("a few rows", rows_of(ledger, &few)),
        ("scopes", ledger.scopes().map(|scopes| format!("{scopes:?}"))),
        ("cursors", ledger.cursors().map(|cursors| format!("{cursors:?}"))),
        ("modules", ledger.module_states().map(|states| format!("{states:?}"))),
        ("collectors", ledger.collector_states().map(|states| format!("{states:?}"))),
        ("mappings", ledger.collector_mappings().map(|mappings| format!("{mappings:?}"))),
        ("size", ledger.size().map(|size| format!("{}", size.rows))),
        ("reprocessings", ledger.reprocessings().map(|all| format!("{all:?}"))),
        ("revision", ledger.kv_revision("rating/hashmap").map(|revision| format!("{revision}"))),
        ("rules", ledger.kv_scan("rating/hashmap", 2, "").map(|pairs| format!("{pairs:?}"))),
        ("a rule", rules()),
        ("facts", facts()),
    ];
    all.into_iter().map(|(name, result)| (name, answer(result))).collect()
}

fn answer(result: Result<String, LedgerError>) -> Option<String> {
    match result {
        Ok(text) => Some(text),
        Err(LedgerError::Damaged { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn rows_of(ledger: &SledLedger, query: &RowsQuery) -> Result<String, LedgerError> {
    let page = ledger.rows(query)?;
    let lines: Vec<String> = page.groups.iter().flat_map(lines_of).collect();
    Ok(format!("{} {lines:?}", page.total))
}

pub(super) fn verify(ledger: &SledLedger) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut from: Option<String> = None;
    loop {
        let step = ledger.verify(from.as_deref()).unwrap();
        findings.extend(step.findings);
        match step.next {
            Some(next) => from = Some(next),
            None => return findings,
        }
    }
}

/// How a flipped bit shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// The daemon does not start; it says what is damaged.
    AtTheStart,
    /// It starts and says what is missing or left out; all is answered.
    AsTold,
    /// It starts and says what is damaged; some answers are errors, the others are what they were.
    ToldAndInAnswers,
    /// Some answers are errors, the others are what they were.
    InAnswers,
    /// No answer needs it; `verify` names it.
    ByVerify,
    /// Nothing is another than it was.
    Harmless,
}

const OPTIONS: SledOptions =
    SledOptions { cache_size_mib: 8, disk_reserve_mib: 0, keep_generations: 2 };

/// What comes of a ledger with a flipped bit: which answers are what they were is asserted.
fn look(path: &Path, expected: &Answers, stays: &[&str], what: &str) -> Seen {
    let opened = catch_unwind(|| SledLedger::open(path, OPTIONS));
    let ledger = match opened.unwrap_or_else(|_| panic!("{what}: opening panicked")) {
        Ok(ledger) => ledger,
        Err(OpenError::Read(LedgerError::Damaged { place, .. })) => {
            assert!(place.starts_with("header of"), "{what}: no start because of {place}");
            return Seen::AtTheStart;
        }
        Err(OpenError::Sled { .. } | OpenError::Panic { .. }) => return Seen::AtTheStart,
        Err(error) => panic!("{what}: {}", crate::cli::chain(&error)),
    };
    let asked = catch_unwind(AssertUnwindSafe(|| ask(&ledger)));
    let answers = asked.unwrap_or_else(|_| panic!("{what}: asking panicked"));
    let found = catch_unwind(AssertUnwindSafe(|| verify(&ledger)));
    let findings = found.unwrap_or_else(|_| panic!("{what}: verifying panicked"));
    let is_told = !ledger.troubles().is_empty();
    let mut is_error = false;
    for ((name, found), (_, expected)) in answers.iter().zip(expected) {
        match found {
            None => {
                is_error = true;
                assert!(!stays.contains(name), "{what}: {name}: nothing is answered");
            }
            Some(_) if found == expected => {}
            Some(found) => assert!(
                is_told && !FIGURES.contains(name),
                "{what}: {name}: silently another answer:\n{found}\n{expected:?}\n{:?}",
                ledger.troubles()
            ),
        }
    }
    assert!(answers.iter().any(|(_, answer)| answer.is_some()), "{what}: nothing is answered");
    if is_error || is_told {
        assert!(!findings.is_empty(), "{what}: `verify` finds nothing");
    }
    match (is_told, is_error, findings.is_empty()) {
        (true, true, _) => Seen::ToldAndInAnswers,
        (true, ..) => Seen::AsTold,
        (_, true, _) => Seen::InAnswers,
        (_, _, false) => Seen::ByVerify,
        _ => Seen::Harmless,
    }
}

struct Sample {
    _folder: tempfile::TempDir,
    /// As an orderly stop leaves it.
    closed: PathBuf,
    /// As a kill leaves it.
    killed: PathBuf,
    work: PathBuf,
    expected: Answers,
}

impl Sample {
    fn new() -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (closed, killed, work) = (path("closed"), path("killed"), path("work"));
        let ledger = open(&closed);
        write_sample_5(&ledger);
        // The last change is written again at a start: a small one hides little.
        ledger.set_collector_state("last", Enabled::Yes).unwrap();
        copy(&closed, &killed);
        let expected = ask(&ledger);
        assert!(expected.iter().all(|(_, answer)| answer.is_some()));
        drop(ledger);
        Sample { _folder: folder, closed, killed, work, expected }
    }

    fn fresh(&self, from: &Path) -> &Path {
        let _ = fs::remove_dir_all(&self.work);
        copy(from, &self.work);
        &self.work
    }
}

fn say(what: &str, counts: &BTreeMap<Seen, u64>) {
    let seeds = seeds();
    println!("bits flipped in {what}, seeds {} to {}: {counts:?}", seeds.start, seeds.end - 1);
}

#[test]
fn a_whole_ledger_has_no_findings() {
    let sample = Sample::new();
    for path in [&sample.closed, &sample.killed] {
        let ledger = open(sample.fresh(path));

        assert_eq!(ask(&ledger), sample.expected);
        assert_eq!(verify(&ledger), []);
        assert!(ledger.troubles().is_empty());
    }
}

#[test]
fn a_flipped_bit_of_any_record_is_found_or_harmless() {
    let sample = Sample::new();
    let mut counts = BTreeMap::new();
    let mut tables = BTreeMap::new();
    for seed in seeds() {
        let path = sample.fresh(&sample.closed);
        let mut random = Random(seed);
        let (is_restored, table, stays, what) = {
            let store = Store::open(path, OPTIONS).unwrap();
            let all: Vec<Table> =
                Table::all().filter(|table| store.prefix(*table, &[]).next().is_some()).collect();
            let table = all[random.below(all.len())];
            let records: Vec<_> = store.prefix(table, &[]).map(Result::unwrap).collect();
            let (key, value) = &records[random.below(records.len())];
            let bit = random.below(value.len() * 8);
            let mut value = value.to_vec();
            value[bit / 8] ^= 1 << (bit % 8);
            store.put_as_it_is(table, key, &value);
            let is_restored = table == Table::Meta || is_journaled(&store, table, key);
            let what = format!("seed {seed}: bit {bit} of {key:?} in `{}`", table.name());
            (is_restored, table, stays(table, key), what)
        };

        let seen = look(path, &sample.expected, &stays, &what);

        // A start writes the header and the last change anew, and reads no older journal.
        if seen == Seen::Harmless {
            assert!(is_restored, "{what} is not found");
        }
        *counts.entry(seen).or_insert(0) += 1;
        *tables.entry((table.name(), seen)).or_insert(0) += 1;
    }
    say("records", &counts);
    println!("in tables: {tables:?}");
    assert!(counts.len() >= 2, "{counts:?}");
}

/// Whether a start writes it again.
fn is_journaled(store: &Store, table: Table, key: &[u8]) -> bool {
    let (_, writes) = store.last_journal().unwrap().unwrap();
    writes.iter().any(|write| write.table == table && write.key == key)
}

/// A record that is gone, or stands under another key.
#[test]
fn a_record_that_is_missing_or_elsewhere_is_found() {
    let sample = Sample::new();
    let mut counts = BTreeMap::new();
    for seed in seeds() {
        let path = sample.fresh(&sample.closed);
        let mut random = Random(seed);
        let (is_read_whole, what) = {
            let store = Store::open(path, OPTIONS).unwrap();
            let is_sealed = |table: &Table| {
                !matches!(table, Table::Meta | Table::Texts)
                    && store.prefix(*table, &[]).next().is_some()
            };
            let all: Vec<Table> = Table::all().filter(is_sealed).collect();
            let table = all[random.below(all.len())];
            let records: Vec<_> = store.prefix(table, &[]).map(Result::unwrap).collect();
            let (key, value) = &records[random.below(records.len())];
            if is_journaled(&store, table, key) {
                continue;
            }
            store.remove_as_it_is(table, key);
            if random.below(2) == 0 {
                let mut other = key.to_vec();
                let bit = random.below(other.len() * 8);
                other[bit / 8] ^= 1 << (bit % 8);
                store.put_as_it_is(table, &other, value);
            }
            let is_read_whole = !matches!(
                table,
                Table::Slices
                    | Table::Kv
                    | Table::Notes
                    | Table::Pushes
                    | Table::Staged
                    | Table::Generations
                    | Table::Sums
            );
            (is_read_whole, format!("seed {seed}: {key:?} in `{}`", table.name()))
        };

        // Of tables that a start does not read whole it compares only what has changed since the
        // last one; `verify` all of it.
        let ledger = catch_unwind(|| SledLedger::open(path, OPTIONS)).unwrap().unwrap();
        assert!(!verify(&ledger).is_empty(), "{what} is not found");
        let seen = if ledger.troubles().is_empty() { Seen::ByVerify } else { Seen::AsTold };
        drop(ledger);
        if is_read_whole {
            let seen = look(path, &sample.expected, &[], &what);
            assert!(matches!(seen, Seen::AsTold | Seen::ToldAndInAnswers), "{what}: {seen:?}");
        }

        *counts.entry(seen).or_insert(0) += 1;
    }
    say("keys", &counts);
}

#[test]
fn a_flipped_bit_of_any_data_file_is_found_or_harmless() {
    let sample = Sample::new();
    let mut counts = BTreeMap::new();
    for seed in seeds() {
        let path = sample.fresh(&sample.closed);
        let what = flip(&path.join("data"), seed, |_| true);

        let stays = stays(Table::Kv, &[]);
        let stays: Vec<&str> =
            stays.into_iter().filter(|name| !FIGURES.contains(name)).chain(RULES).collect();
        let seen = look(path, &sample.expected, &stays, &what);

        assert!(matches!(seen, Seen::InAnswers | Seen::ByVerify | Seen::Harmless), "{what}");
        *counts.entry(seen).or_insert(0) += 1;
    }
    say("data files", &counts);
    assert!(counts.contains_key(&Seen::InAnswers), "{counts:?}");
}

/// sled's log, its snapshots and its settings, and our marks.
#[test]
fn a_flipped_bit_of_any_other_file_is_found_or_harmless() {
    let sample = Sample::new();
    let mut counts = BTreeMap::new();
    for seed in seeds() {
        let from = if seed % 2 == 0 { &sample.closed } else { &sample.killed };
        let path = sample.fresh(from);
        let what = flip(path, seed, |name| name != "lock");

        *counts.entry(look(path, &sample.expected, &[], &what)).or_insert(0) += 1;
    }
    say("other files", &counts);
    assert!(counts.contains_key(&Seen::ToldAndInAnswers), "{counts:?}");
}

/// In a file that is picked at random, the larger the likelier, within what was written of it.
fn flip(folder: &Path, seed: u64, is_meant: impl Fn(&str) -> bool) -> String {
    let mut random = Random(seed);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .filter(|entry| is_meant(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let sizes: Vec<usize> = files.iter().map(|file| written_size(file)).collect();
    let mut bit = random.below(sizes.iter().sum::<usize>() * 8);
    for (file, size) in files.iter().zip(sizes) {
        if bit < size * 8 {
            let mut bytes = fs::read(file).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(file, bytes).unwrap();
            let name = file.file_name().unwrap().to_string_lossy();
            return format!("seed {seed}: bit {bit} of `{name}`");
        }
        bit -= size * 8;
    }
    unreachable!("the bit is in one of the files")
}

/// Without the zeros behind its end.
fn written_size(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1)
}

/// The end of the log is gone, and with it a push and a rule that were acknowledged.
#[test]
fn acknowledged_changes_that_are_gone_are_told_until_somebody_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = path.join("db");
    let length;
    {
        let ledger = super::reprocessing::ledger_of_two(path);
        length = fs::metadata(&log).unwrap().len();
        let slices = vec![pushed("net", hour(2), &["ann"], &[("ann", 1, 1, None, None)])];
        ledger.push(push_of(slices, Some(("a", 1)))).unwrap();
        let edits = vec![rated_plugin::Edit { key: "a".to_owned(), value: Some(vec![1]) }];
        let edit = KvEdit { revision: 0, edits, author: "ann".to_owned(), at: at(1) };
        ledger.kv_apply("rating/hashmap", &edit).unwrap();
    }
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();

    for _ in 0..2 {
        let ledger = open(path);

        let [trouble] = ledger.troubles() else { panic!("{:?}", ledger.troubles()) };
        let place = "pushes, rows, rules, states, periods that begin from 2026-11-01T02:00:00Z to \
                     2026-11-01T02:00:00Z";
        assert!(trouble.contains(place), "{trouble}");
        let findings = verify(&ledger);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].remedy, Remedy::Accept);
        // What may be affected is not answered, and nothing is rated by rules of before.
        assert_eq!(answer(ledger.summarize(&everything(&[])).map(|_| String::new())), None);
        assert_eq!(answer(rows_of(&ledger, &all_rows(0, 9))), None);
        assert_eq!(answer(ledger.cursors().map(|_| String::new())), None);
        // Nor takes what is left the place of a backup that has all.
        assert!(matches!(ledger.begin_backup(at(0)), Err(LedgerError::Damaged { .. })));
        // The rest goes on, and what is missing may be made up for.
        let before = SummaryQuery { end: at(2), ..everything(&[]) };
        assert_eq!(summary(&ledger, &before), [" 4x 4 0.4"]);
        let later = SummaryQuery { begin: at(3), ..everything(&[]) };
        assert_eq!(summary(&ledger, &later), [" 2x 2 0.2"]);
        ledger.set_collector_state("host", Enabled::Yes).unwrap();
    }
    accept(path, OPTIONS).unwrap();

    let ledger = open(path);
    assert!(ledger.troubles().is_empty());
    assert_eq!(summary(&ledger, &everything(&[])), [" 8x 8 0.8"]);
    assert!(ledger.cursors().is_ok());
    assert_eq!(verify(&ledger), []);
    ledger.set_collector_state("host", Enabled::No).unwrap();
    drop(ledger);
    assert!(open(path).troubles().is_empty());
}

/// A month of which a record is missing is not answered; the others are.
#[test]
fn nothing_is_answered_of_a_month_with_a_missing_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(super::reprocessing::ledger_of_two(path));
    let december = 31 * 24;
    {
        let ledger = open(path);
        let slices = vec![pushed("net", hour(december), &["ann"], &[("ann", 1, 1, None, None)])];
        ledger.push(push_of(slices, None)).unwrap();
    }
    {
        let store = Store::open(path, OPTIONS).unwrap();
        let (key, _) = store.prefix(Table::Slices, &[]).nth(1).unwrap().unwrap();
        store.remove_as_it_is(Table::Slices, &key);
        // As it is when a start has to look again.
        let root = store.get(Table::Meta, b"root").unwrap().unwrap();
        let mut bytes = root[..root.len() - 4].to_vec();
        // `checked`, behind kind, version and `change`.
        bytes[3] = 0;
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        store.journal(&[Write::put(Table::Meta, b"root".to_vec(), bytes)]).unwrap();
    }

    let ledger = open(path);

    assert_eq!(ledger.troubles().len(), 1, "{:?}", ledger.troubles());
    assert!(ledger.troubles()[0].contains("slices of month 2026-11"));
    assert_eq!(answer(ledger.summarize(&everything(&[])).map(|_| String::new())), None);
    let other = SummaryQuery { begin: at(720), end: at(900), ..everything(&[]) };
    assert_eq!(summary(&ledger, &other), [" 1x 0.01 0.01"]);
    assert_eq!(ledger.scopes().unwrap().len(), 2);
    assert!(matches!(ledger.begin_backup(at(0)), Err(LedgerError::Damaged { .. })));
    let findings = verify(&ledger);
    assert!(findings.iter().any(|finding| finding.place == "slices of month 2026-11"));
}
