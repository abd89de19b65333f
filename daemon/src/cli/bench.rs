//! `rated bench`: data to measure with, the same for the same arguments.

use std::io::{self, BufWriter, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::moment::Moment;
use super::{Outcome, UsageError};
use crate::bench::{self, Cloud, Size, SizeError, TotalsQuery};
use crate::clock::Clock;
use crate::ledger::sled::{SledLedger, SledOptions};

/// Most threads that make data.
const THREADS_MAX: NonZero<usize> = NonZero::new(64).expect("it is not zero");

#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    /// Make up what a cloud used and what it costs
    ///
    /// The same arguments always make the same data. What each point costs follows from the price
    /// list of `--rules`. Without `--ledger` the data go to the standard output.
    Data(Box<DataArguments>),
}

#[derive(Debug, clap::Args)]
pub(super) struct DataArguments {
    /// How many scopes
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    scopes: u32,
    /// Points of each scope in each hour, over all metrics
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    resources: u32,
    /// How many metrics
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    metrics: u32,
    /// How many hours
    #[arg(long, value_name = "COUNT", default_value_t = 24)]
    hours: u32,
    /// Begin of the first hour
    #[arg(long, value_name = "TIME", default_value = "2026-10-01")]
    start: Moment,
    /// Another number makes other data
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: Output,
    /// How many make the data; default: as many as there are processors
    #[arg(long, value_name = "COUNT")]
    threads: Option<NonZero<usize>>,
    /// Of --totals: only points with this value
    #[arg(long, value_name = "NAME=VALUE", requires = "totals")]
    filter: Vec<String>,
    /// Of --totals: only hours that begin then or later
    #[arg(long, value_name = "TIME", requires = "totals")]
    begin: Option<Moment>,
    /// Of --totals: only hours that begin before
    #[arg(long, value_name = "TIME", requires = "totals")]
    end: Option<Moment>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Output {
    /// Commit all points to a ledger in this folder, which is made if it is not there
    #[arg(long, value_name = "FOLDER")]
    ledger: Option<PathBuf>,
    /// Samples as text for `promtool tsdb create-blocks-from openmetrics`
    #[arg(long)]
    open_metrics: bool,
    /// A line of CSV for each point
    #[arg(long)]
    rows: bool,
    /// The price list, as JSON for `PUT /v1/rating/module_config/hashmap/prices?force=true`
    #[arg(long)]
    rules: bool,
    /// Exact sums of quantity and price and the number of points, as CSV: for each group of these
    /// attributes, or of everything
    #[arg(
        long,
        value_name = "ATTRIBUTES",
        num_args = 0..=1,
        default_missing_value = "",
        require_equals = true
    )]
    totals: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("cannot make data of this size")]
    Size(#[from] SizeError),
    #[error("cannot write")]
    Write(#[source] io::Error),
}

pub(super) fn run(command: &BenchCommand, clock: &dyn Clock) -> Outcome {
    let BenchCommand::Data(arguments) = command;
    let DataArguments { scopes, resources, metrics, hours, seed, .. } = **arguments;
    let start = arguments.start.resolve(clock);
    let size = Size { scopes, resources, metrics, hours, start, seed };
    let cloud = Cloud::new(size).map_err(BenchError::Size)?;
    let all = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let threads = arguments.threads.unwrap_or_else(all).min(THREADS_MAX);
    if let Some(folder) = &arguments.output.ledger {
        return fill(&cloud, folder, threads);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if arguments.output.open_metrics {
        bench::write_open_metrics(&cloud, &mut out)
    } else if arguments.output.rows {
        bench::write_rows(&cloud, &mut out, threads)
    } else if arguments.output.rules {
        writeln!(out, "{}", bench::price_list(size))
    } else {
        let totals = bench::totals(&cloud, &query(arguments, clock)?)?;
        bench::write_totals(&totals, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(BenchError::Write)?;
    Ok(())
}

fn fill(cloud: &Cloud, folder: &Path, threads: NonZero<usize>) -> Outcome {
    let ledger = SledLedger::open(folder, SledOptions::default())?;
    let begin = Instant::now();
    let mut commits = bench::fill(cloud, &ledger, threads)?;
    let duration = begin.elapsed();
    commits.sort_unstable();
    let of_hundred = |share: usize| commits[(commits.len() - 1) * share / 100];
    eprintln!(
        "{} points by {threads} threads in {duration:.2?}: {} commits of {:.2?} in all, median \
         {:.2?}, 99 of 100 in {:.2?}",
        cloud.points(),
        commits.len(),
        commits.iter().sum::<Duration>(),
        of_hundred(50),
        of_hundred(99),
    );
    Ok(())
}

fn query(arguments: &DataArguments, clock: &dyn Clock) -> Result<TotalsQuery, UsageError> {
    let names = arguments.output.totals.as_deref().unwrap_or_default();
    let filter = |filter: &String| {
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| UsageError(format!("`--filter {filter}`: must be `NAME=VALUE`")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    Ok(TotalsQuery {
        group_by: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        filters: arguments.filter.iter().map(filter).collect::<Result<_, _>>()?,
        begin: arguments.begin.map(|moment| moment.resolve(clock)),
        end: arguments.end.map(|moment| moment.resolve(clock)),
    })
}
