//! The collector: the usage of a period, user by user.

use std::path::Path;
use std::sync::Arc;

use rated_plugin::{
    Batches, Call, CollectRequest, Collector, Component, DateTime, Decimal, Error, Host, Level,
    Result, UsageBuilder, Utc,
};

use crate::history::{Total, Unknown};
use crate::machine::Procfs;
use crate::sampler::{Clock, Sampler, Surroundings};
use crate::settings::{UsageSettings, procfs};
use crate::users::{Names, users_seen};

/// Fractional digits of a mean; the other metrics are exact.
const MEAN_SCALE: u32 = 9;
const NANO_SCALE: u32 = 9;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    CpuSeconds,
    MemoryByteSeconds,
    ProcessCount,
    IoBytes,
}

impl Metric {
    const ALL: [(&'static str, Metric); 4] = [
        ("cpu_seconds", Metric::CpuSeconds),
        ("memory_byte_seconds", Metric::MemoryByteSeconds),
        ("process_count", Metric::ProcessCount),
        ("io_bytes", Metric::IoBytes),
    ];

    fn named(name: &str) -> Result<Metric> {
        find(name, &Metric::ALL, "metric")
    }

    fn quantity(self, total: &Total, period_ns: u128) -> Option<Decimal> {
        let (number, scale) = match self {
            Metric::CpuSeconds => (total.cpu_ns, NANO_SCALE),
            Metric::MemoryByteSeconds => (total.memory_byte_ns, NANO_SCALE),
            Metric::ProcessCount => (mean_half_even(total.process_ns, period_ns)?, MEAN_SCALE),
            Metric::IoBytes => (total.io_bytes, 0),
        };
        let decimal = Decimal::try_from_i128_with_scale(i128::try_from(number).ok()?, scale);
        decimal.ok().map(|decimal| decimal.normalize())
    }
}

/// `sum / length` in units of 10^-9, rounded half to even.
fn mean_half_even(sum: u128, length: u128) -> Option<u128> {
    let scaled = sum.checked_mul(10_u128.pow(MEAN_SCALE))?;
    let (quotient, rest) = (scaled / length, scaled % length);
    let is_up = match (rest * 2).cmp(&length) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    Some(quotient + u128::from(is_up))
}

/// What can be said about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    User,
    Uid,
    Hostname,
    BootId,
}

impl Attribute {
    const ALL: [(&'static str, Attribute); 4] = [
        ("user", Attribute::User),
        ("uid", Attribute::Uid),
        ("hostname", Attribute::Hostname),
        ("boot_id", Attribute::BootId),
    ];

    fn named(name: &str) -> Result<Attribute> {
        find(name, &Attribute::ALL, "attribute")
    }
}

fn find<T: Copy>(name: &str, all: &[(&str, T)], kind: &str) -> Result<T> {
    let found = all.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(|(known, _)| format!("`{known}`")).collect();
        Error::invalid_request(format!("no {kind} `{name}`, only {} are known", known.join(", ")))
    })
}

/// Measures what the users of this machine consume.
#[derive(Debug)]
pub struct HostUsage {
    sampler: Sampler,
    names: Names,
    hostname: Option<String>,
    boot_id: Option<String>,
}

impl Component for HostUsage {
    const NAME: &'static str = "host";
    const SUMMARY: &'static str = "Measures what each user of this machine consumes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = UsageSettings;

    fn create(settings: UsageSettings, host: Host) -> Result<HostUsage> {
        let (interval, kept) = (settings.sample_interval()?, settings.history()?);
        let proc_dir = &settings.proc_dir;
        let machine = procfs(proc_dir, &settings.cgroup_dir);
        let text = |path: &str| machine.text(path).ok().filter(|text| !text.is_empty());
        let hostname = text("sys/kernel/hostname");
        let boot_id = text("sys/kernel/random/boot_id");
        let surroundings = surroundings(machine, proc_dir, host);
        let sampler = Sampler::start(surroundings, kept, Some(interval)).map_err(|error| {
            Error::invalid_config(format!(
                "cannot look at the processes in `{}`: {error}",
                proc_dir.display()
            ))
        })?;
        Ok(HostUsage { sampler, names: Names::default(), hostname, boot_id })
    }
}

fn surroundings(machine: Procfs, proc_dir: &Path, host: Host) -> Surroundings {
    let host = Arc::new(host);
    let clock: Clock = {
        let host = Arc::clone(&host);
        Box::new(move || nanoseconds(host.now()).unwrap_or(0))
    };
    Surroundings {
        machine: Box::new(machine),
        clock,
        warn: Box::new(move |message| host.log(Level::Warn, message)),
        users_seen: users_seen(proc_dir),
    }
}

fn nanoseconds(instant: DateTime<Utc>) -> Result<i64> {
    instant
        .timestamp_nanos_opt()
        .ok_or_else(|| Error::invalid_request(format!("{instant} is too far away")))
}

impl Collector for HostUsage {
    fn collect(&self, _call: &Call, request: &CollectRequest) -> Result<Batches> {
        let definition = &request.metric;
        let metric = Metric::named(&definition.name)?;
        let attributes = definition.groupby.iter().chain(&definition.metadata);
        let attributes =
            attributes.map(|name| Attribute::named(name)).collect::<Result<Vec<_>>>()?;
        if let Some(key) = definition.extra_args.keys().next() {
            return Err(Error::invalid_request(format!(
                "metric `{}`: `{key}`: takes no extra arguments",
                definition.name
            )));
        }
        let (begin_ns, end_ns) = (nanoseconds(request.begin)?, nanoseconds(request.end)?);
        let period_ns = end_ns.checked_sub(begin_ns).filter(|length| *length > 0);
        let period_ns = period_ns.ok_or_else(|| {
            Error::invalid_request(format!("no period: {} to {}", request.begin, request.end))
        })?;
        let usage = self.sampler.usage(begin_ns, end_ns).map_err(unknown)?;

        let mut builder = UsageBuilder::new(&definition.groupby, &definition.metadata);
        for (uid, total) in &usage {
            let name = self.names.of(*uid);
            if !request.scopes.is_empty() && !request.scopes.contains(&name) {
                continue;
            }
            let quantity = metric
                .quantity(total, u128::from(period_ns.unsigned_abs()))
                .ok_or_else(|| Error::bad_data(format!("user `{name}`: too much to count")))?;
            let uid = uid.to_string();
            let row: Vec<Option<&str>> = attributes
                .iter()
                .map(|attribute| match attribute {
                    Attribute::User => Some(name.as_str()),
                    Attribute::Uid => Some(uid.as_str()),
                    Attribute::Hostname => self.hostname.as_deref(),
                    Attribute::BootId => self.boot_id.as_deref(),
                })
                .collect();
            builder.push(&name, quantity, &row)?;
        }
        Ok(Batches::one(builder.finish()?))
    }
}

fn unknown(unknown: Unknown) -> Error {
    match unknown {
        Unknown::Before { since_ns } => Error::not_found(format!(
            "knows nothing before {} (hint: only what runs beside it is measured)",
            DateTime::from_timestamp_nanos(since_ns)
        )),
        Unknown::After { until_ns } => Error::unavailable(format!(
            "has measured until {} only",
            DateTime::from_timestamp_nanos(until_ns)
        )),
    }
}
