//! Clients: what they ask for, and what they know afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rated_tests::{Answer, Exact, PATIENCE, Random};
use reqwest::Method;
use serde_json::{Value, json};

use crate::model::{Found, Pushed, State};
use crate::site::{Asked, SCOPES, Site, day, day_index, days_due};

const HASHMAP: &str = "/v1/rating/module_config/hashmap";

/// Why a client stops: the daemon is gone, or wrong.
#[derive(Debug)]
pub(crate) enum Stop {
    Lost,
    Wrong(String),
}

type Done<T> = Result<T, Stop>;

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn ask(site: &Site, method: &Method, path: &str, body: Option<&Value>) -> Done<Answer> {
    match site.call(method, path, body) {
        Asked::Answered(answer) => Ok(answer),
        Asked::Lost => Err(Stop::Lost),
        Asked::Broken(why) => Err(Stop::Wrong(why)),
    }
}

fn get(site: &Site, path: &str) -> Done<Value> {
    let answer = ask(site, &Method::GET, path, None)?;
    if answer.status != 200 {
        return Err(Stop::Wrong(format!("GET {path}: {} {}", answer.status, answer.text)));
    }
    Ok(answer.json())
}

/// An answer that must be one of success.
fn post(site: &Site, path: &str, body: &Value) -> Done<Value> {
    let answer = ask(site, &Method::POST, path, Some(body))?;
    if !(200..300).contains(&answer.status) {
        return Err(Stop::Wrong(format!("POST {path}: {} {}", answer.status, answer.text)));
    }
    Ok(if answer.text.is_empty() { Value::Null } else { answer.json() })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn exact(value: &Value) -> Exact {
    Exact::parse(&value.to_string())
}

/// The whole time of a schedule.
fn range() -> String {
    format!("begin={}&end={}", time(day(0)), time(day(days_due() + 9)))
}

/// Quantity and price by two groups.
fn summary(site: &Site, groups: &str, filters: &str) -> Done<Vec<(String, String, Exact, Exact)>> {
    let mut rows = Vec::new();
    loop {
        let offset = rows.len();
        let path =
            format!("/v2/summary?{}&groupby={groups}{filters}&limit=1000&offset={offset}", range());
        let page = get(site, &path)?;
        let found = page["results"].as_array().cloned().unwrap_or_default();
        let is_last = found.is_empty();
        rows.extend(
            found.iter().map(|row| (text(&row[4]), text(&row[5]), exact(&row[2]), exact(&row[3]))),
        );
        if is_last || rows.len() as u64 >= page["total"].as_u64().unwrap_or(0) {
            return Ok(rows);
        }
    }
}

/// The last day that each scope was processed; after a reset the day it was set to, which then is
/// not in the ledger yet.
fn last_days(site: &Site) -> Done<BTreeMap<String, u64>> {
    let answer = ask(site, &Method::GET, "/v2/scope?limit=100", None)?;
    if answer.status == 404 {
        return Ok(BTreeMap::new());
    }
    let scopes = answer.json();
    let scopes = scopes["results"].as_array().cloned().unwrap_or_default();
    let last = scopes.iter().filter_map(|scope| {
        let last = scope["last_processed_timestamp"].as_str().map(day_index)?;
        Some((text(&scope["scope_id"]), last))
    });
    Ok(last.collect())
}

/// Rules of each scope.
fn rules(site: &Site) -> Done<BTreeMap<String, u64>> {
    let mut rules = BTreeMap::new();
    let services = get(site, &format!("{HASHMAP}/services"))?;
    for service in services["services"].as_array().into_iter().flatten() {
        let id = text(&service["service_id"]);
        let found = get(site, &format!("{HASHMAP}/mappings?service_id={id}"))?;
        for mapping in found["mappings"].as_array().into_iter().flatten() {
            *rules.entry(text(&mapping["tenant_id"])).or_default() += 1;
        }
    }
    Ok(rules)
}

/// Everything that the daemon has, by scope.
pub(crate) fn find(site: &Site) -> Done<BTreeMap<String, Found>> {
    let mut found: BTreeMap<String, Found> =
        SCOPES.iter().map(|scope| ((*scope).to_owned(), Found::default())).collect();
    let before = last_days(site)?;
    for (scope, kind, quantity, price) in summary(site, "project_id,type", "")? {
        let Some(found) = found.get_mut(&scope) else {
            return Err(Stop::Wrong(format!("rows of the strange scope `{scope}`")));
        };
        match kind.as_str() {
            "usage" => (found.quantity, found.price) = (quantity, price),
            _ => found.pushed = (quantity, price),
        }
    }
    let after = last_days(site)?;
    for (scope, key, quantity, price) in summary(site, "project_id,push", "&filters=type:pushed")? {
        let found = found.entry(scope).or_default();
        found.pushes.insert(key, (quantity, price));
    }
    let rules = rules(site)?;
    let tasks = get(site, "/v2/task/reprocesses?limit=100000")?;
    for (scope, found) in &mut found {
        found.last_before = before.get(scope).copied();
        found.last_after = after.get(scope).copied();
        found.rules = rules.get(scope).copied().unwrap_or(0);
        let tasks = tasks["results"].as_array().into_iter().flatten();
        found.reprocessings = tasks.filter(|task| task["scope_id"] == scope.as_str()).count();
    }
    Ok(found)
}

/// Prices that have no rule yet get the first one.
pub(crate) fn set_up(site: &Site) -> Done<()> {
    post(site, &format!("{HASHMAP}/services"), &json!({"name": "usage"}))?;
    Ok(())
}

/// What all clients of a schedule share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// Names that no two things have.
    next_name: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) is_over: AtomicBool,
}

/// Speaks for one scope, and is the only one to do so.
pub(crate) struct Client<'a> {
    pub(crate) site: &'a Site,
    pub(crate) common: &'a Common,
    pub(crate) scope: &'static str,
    pub(crate) state: State,
    /// What was neither acknowledged nor is known to have failed.
    pub(crate) doubtful: State,
    pub(crate) random: Random,
}

/// What a client knows at the end: one of these.
pub(crate) type Candidates = Vec<State>;

impl Client<'_> {
    /// Until it is over or power goes.
    pub(crate) fn run(mut self) -> Result<Candidates, String> {
        while !self.common.is_over.load(Ordering::Relaxed) {
            let step = match self.random.below(100) {
                0..60 => self.push(),
                60..68 => self.push_again(),
                68..78 => self.reset(),
                78..90 => self.change_price(),
                _ => self.reprocess(),
            };
            match step {
                Ok(()) => {}
                Err((Stop::Lost, next)) => {
                    let next = next.map(|next| *next);
                    return Ok([Some(self.state), next].into_iter().flatten().collect());
                }
                Err((Stop::Wrong(why), _)) => return Err(format!("{}: {why}", self.scope)),
            }
        }
        Ok(vec![self.state])
    }

    fn name(&self) -> String {
        let number = self.common.next_name.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.scope)
    }

    /// Now it is acknowledged.
    fn becomes(&mut self, state: State) {
        self.state = state;
        self.common.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn push(&mut self) -> Result<(), (Stop, Option<Box<State>>)> {
        let key = self.name();
        let pushed = self.send_push(&key);
        let (outcome, push) = pushed;
        let mut next = self.state.clone();
        next.pushes.insert(key, push);
        match outcome {
            Ok(()) => {
                self.becomes(next);
                Ok(())
            }
            Err(stop) => Err((stop, Some(Box::new(next)))),
        }
    }

    /// What was stored is not stored again.
    fn push_again(&mut self) -> Result<(), (Stop, Option<Box<State>>)> {
        let count = self.state.pushes.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let index = usize::try_from(self.random.below(count)).expect("few pushes");
        let key = self.state.pushes.keys().nth(index).expect("below the count").clone();
        self.send_push(&key).0.map_err(|stop| (stop, None))
    }

    /// Everything but the scope follows from the key.
    fn send_push(&mut self, key: &str) -> (Done<()>, Pushed) {
        let seed = key.bytes().fold(7_u64, |seed, byte| seed * 31 + u64::from(byte));
        let mut random = Random::new(seed);
        let day_of_push = random.below(days_due());
        // Now and then one that fills sled's log with texts, or more than a segment of it.
        let rows = match (random.percent(8), random.percent(2)) {
            (true, true) => 21_000,
            (true, false) => 800,
            (false, _) => 1 + random.below(12),
        };
        let mut points = Vec::new();
        let (mut quantity, mut price) = (0, 0);
        for _ in 0..rows {
            let (units, cost) = (1 + random.below(50), random.below(1000));
            (quantity, price) = (quantity + units, price + cost);
            let name = [(); 8].map(|()| format!("{:016x}", random.draw())).concat();
            points.push(json!({
                "vol": {"unit": "u", "qty": units},
                "rating": {"price": format!("0.{cost:03}")},
                "groupby": {"project_id": self.scope, "push": key},
                "metadata": {"name": name},
            }));
        }
        let period = json!({"begin": time(day(day_of_push)), "end": time(day(day_of_push + 1))});
        let body = json!({"dataframes": [{"period": period, "usage": {"pushed": points}}]});
        let headers = [("Idempotency-Key", key)];
        let asked = self.site.call_with(&Method::POST, "/v2/dataframes", &headers, Some(&body));
        let outcome = match asked {
            Asked::Answered(answer) if answer.status == 204 => Ok(()),
            Asked::Answered(answer) => {
                Err(Stop::Wrong(format!("push: {} {}", answer.status, answer.text)))
            }
            Asked::Lost => Err(Stop::Lost),
            Asked::Broken(why) => Err(Stop::Wrong(why)),
        };
        (outcome, Pushed { day: day_of_push, quantity, price })
    }

    /// Pushes, of which some may fail though there is power: then nobody knows.
    pub(crate) fn push_through_faults(&mut self, count: usize) {
        for _ in 0..count {
            let key = self.name();
            let (outcome, push) = self.send_push(&key);
            let state = if outcome.is_ok() { &mut self.state } else { &mut self.doubtful };
            state.pushes.insert(key, push);
        }
    }

    /// Compares what is there with what was acknowledged, and settles what was not.
    pub(crate) fn expect_state(&mut self) {
        let found = find(self.site).unwrap_or_else(|stop| panic!("{stop:?}"));
        let found = &found[self.scope];
        let doubtful = std::mem::take(&mut self.doubtful.pushes);
        let there = doubtful.into_iter().filter(|(key, _)| found.pushes.contains_key(key));
        self.state.pushes.extend(there);
        let matched = self.state.matched(found);
        self.state = matched.unwrap_or_else(|| panic!("found {found:?} for {:?}", self.state));
    }

    fn reset(&mut self) -> Result<(), (Stop, Option<Box<State>>)> {
        self.wait_until_collected().map_err(|stop| (stop, None))?;
        let day_of_reset = self.random.below(days_due());
        let body = json!({
            "scope_id": [self.scope], "last_processed_timestamp": time(day(day_of_reset)),
        });
        let mut next = self.state.clone();
        next.reset(day_of_reset);
        match ask(self.site, &Method::PUT, "/v2/scope", Some(&body)) {
            Ok(answer) if answer.status == 202 => {
                self.becomes(next);
                Ok(())
            }
            Ok(answer) => {
                let why = format!("reset: {} {}", answer.status, answer.text);
                Err((Stop::Wrong(why), None))
            }
            Err(stop) => Err((stop, Some(Box::new(next)))),
        }
    }

    /// A rule of a group of its own, in force since ever: days that were rated keep their price.
    fn change_price(&mut self) -> Result<(), (Stop, Option<Box<State>>)> {
        let known = |stop| (stop, None);
        self.wait_until_collected().map_err(known)?;
        let services = get(self.site, &format!("{HASHMAP}/services")).map_err(known)?;
        let group = json!({"name": self.name()});
        let group = post(self.site, &format!("{HASHMAP}/groups"), &group).map_err(known)?;
        let rule = json!({
            "service_id": services["services"][0]["service_id"], "group_id": group["group_id"],
            "tenant_id": self.scope, "cost": "0.001", "start": time(day(0)).trim_end_matches('Z'),
        });
        let mut next = self.state.clone();
        next.rules += 1;
        match post(self.site, &format!("{HASHMAP}/mappings?force=true"), &rule) {
            Ok(_) => {
                self.becomes(next);
                Ok(())
            }
            Err(stop) => Err((stop, Some(Box::new(next)))),
        }
    }

    /// Some days are rated by today's rules.
    fn reprocess(&mut self) -> Result<(), (Stop, Option<Box<State>>)> {
        self.wait_until_collected().map_err(|stop| (stop, None))?;
        let days = self.state.rated_by.len() as u64;
        let first = self.random.below(days);
        let last = first + self.random.below(days - first);
        let indices = |day: u64| usize::try_from(day).expect("few days");
        let mut rated_by = self.state.rated_by.clone();
        rated_by[indices(first)..=indices(last)].fill(self.state.rules);
        if rated_by == self.state.rated_by {
            // Nobody would see when it is done.
            return Ok(());
        }
        let mut next = self.state.clone();
        next.reprocessings += 1;
        next.reprocessed = Some(rated_by);
        let form = "%Y-%m-%dT%H:%M:%SZ";
        let body = json!({
            "scope_ids": [self.scope], "reason": "a new rule",
            "start_reprocess_time": day(first).format(form).to_string(),
            "end_reprocess_time": day(last).format(form).to_string(),
        });
        match post(self.site, "/v2/task/reprocesses", &body) {
            Ok(_) => self.becomes(next),
            Err(stop) => return Err((stop, Some(Box::new(next)))),
        }
        self.wait_until_collected().map_err(|stop| (stop, None))
    }

    /// Every day that is due is in the ledger, and no reprocessing is under way. Meanwhile totals
    /// are the old or the new ones.
    fn wait_until_collected(&mut self) -> Done<()> {
        let begin = Instant::now();
        loop {
            let last_before = last_days(self.site)?.get(self.scope).copied();
            let filters = format!("&filters=project_id:{},type:usage", self.scope);
            let rows = summary(self.site, "project_id,type", &filters)?;
            let last_after = last_days(self.site)?.get(self.scope).copied();
            let (quantity, price) =
                rows.first().map_or_else(Default::default, |row| (row.2, row.3));
            let found = Found {
                rules: self.state.rules,
                last_before,
                last_after,
                quantity,
                price,
                reprocessings: self.state.reprocessings,
                ..Found::default()
            };
            let alone = State { pushes: BTreeMap::new(), ..self.state.clone() };
            let Some(matched) = alone.matched(&found) else {
                let why = format!("totals are neither old nor new: {found:?} for {alone:?}");
                return Err(Stop::Wrong(why));
            };
            let pushes = std::mem::take(&mut self.state.pushes);
            self.state = State { pushes, ..matched };
            if self.state.is_settled() {
                return Ok(());
            }
            if self.common.is_over.load(Ordering::Relaxed) {
                return Err(Stop::Lost);
            }
            if begin.elapsed() > PATIENCE {
                return Err(Stop::Wrong(format!("waits in vain: {:?}", self.state)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
