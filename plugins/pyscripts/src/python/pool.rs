//! A fixed number of processes, lent one at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rated_plugin::{Call, Decimal, Error, Host, Level, Result, Status};

use super::find::Named;
use super::messages::{Answer, Missing, NamedText, Points, Request, Scripts, Wrong};
use super::places::Places;
use super::process::{Lost, PATIENCE, Process, REQUEST_SIZE_MAX};
use crate::settings::{Limits, Wall};

/// How much longer than a run's own limit its answer is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Lends processes to any number of threads.
#[derive(Debug)]
pub(crate) struct Pool {
    host: Host,
    python: Named,
    limits: Limits,
    /// Where Python is, once known.
    path: Mutex<Option<PathBuf>>,
    /// The walls around the process that was started last, which the log tells.
    walls: Mutex<Option<Missing>>,
    /// Of processes and those about to be started.
    places: Places<Process>,
}

impl Pool {
    /// Starts nothing yet.
    pub(crate) fn new(host: Host, python: Option<PathBuf>, limits: Limits) -> Pool {
        Pool {
            host,
            python: Named::new(python),
            places: Places::new(limits.processes),
            limits,
            path: Mutex::default(),
            walls: Mutex::default(),
        }
    }

    /// How long a run may take.
    pub(crate) fn run_time_max(&self) -> Duration {
        self.limits.wall
    }

    /// Finds Python; the error says what to do.
    fn find(&self) -> Result<PathBuf> {
        let mut path = lock(&self.path);
        if let Some(path) = &*path {
            return Ok(path.clone());
        }
        let found = self.python.find()?;
        *path = Some(found.clone());
        Ok(found)
    }

    /// Can a process be had? None is kept: perhaps nobody has a script.
    pub(crate) fn try_out(&self, call: &Call) -> Result<()> {
        self.start(call).map(drop)
    }

    /// A process, when one is free.
    pub(crate) fn lend(&self, call: &Call) -> Result<Lease<'_>> {
        let idle = self.places.take(|| call.check_cancelled())?;
        // From here on the lease gives the place back.
        let mut lease = Lease { pool: self, process: None };
        // One that died while nobody looked is replaced.
        let alive = idle.and_then(|mut process| process.is_alive().then_some(process));
        lease.process = Some(match alive {
            Some(process) => process,
            None => self.start(call)?,
        });
        Ok(lease)
    }

    fn start(&self, call: &Call) -> Result<Process> {
        let path = self.find()?;
        let failed = |reason: &str| {
            // It may have been replaced: looked for again next time.
            *lock(&self.path) = None;
            Error::unavailable(format!("cannot start `{}`: {reason}", path.display()))
        };
        let mut process =
            Process::start(&path, &self.limits).map_err(|error| failed(&error.to_string()))?;
        let said = process.receive(call, Instant::now() + PATIENCE).map_err(|lost| match lost {
            Lost::Cancelled => cancelled(),
            Lost::Late => failed("it says nothing"),
            Lost::Ended => failed("it ends at once, perhaps for want of `memory_mib`"),
        })?;
        let answer = read(&said).map_err(|wrong| failed(&wrong.message))?;
        if let Some(wrong) = answer.error {
            return Err(Error::invalid_config(wrong.message));
        }
        self.check_walls(answer.missing.ok_or_else(|| failed("it speaks of no walls"))?)?;
        Ok(process)
    }

    /// Are there enough of them? The log says when they are others than before.
    fn check_walls(&self, missing: Missing) -> Result<()> {
        if let Some((wall, reason)) = missing.against(self.limits.containment) {
            return Err(uncontained(wall, reason));
        }
        let mut known = lock(&self.walls);
        if known.as_ref() != Some(&missing) {
            let is_whole = missing == Missing::default();
            let level = if is_whole { Level::Info } else { Level::Warn };
            self.host.log(level, &missing.described());
            *known = Some(missing);
        }
        Ok(())
    }

    /// Is that text Python? What is wrong with it, if not.
    pub(crate) fn check(&self, call: &Call, script: &NamedText) -> Result<Option<Wrong>> {
        let mut lease = self.lend(call)?;
        match lease.ask(call, &Request::Check(script), self.limits.wall + GRACE)? {
            Ok(_) => Ok(None),
            Err(wrong) => Ok(Some(wrong)),
        }
    }
}

/// A process for the time of one call.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    /// `None` once it is of no use any more.
    process: Option<Process>,
}

impl Lease<'_> {
    /// Gives it the scripts to run from now on.
    pub(crate) fn load(
        &mut self,
        call: &Call,
        scripts: &Arc<Scripts>,
    ) -> Result<Result<(), Wrong>> {
        let known = self.process.as_ref().and_then(|process| process.loaded.as_ref());
        if known.is_some_and(|known| Arc::ptr_eq(known, scripts)) {
            return Ok(Ok(()));
        }
        let outcome = self.ask(call, &Request::Load(&scripts.0), PATIENCE)?;
        if let Some(process) = &mut self.process {
            process.loaded = outcome.is_ok().then(|| scripts.clone());
        }
        Ok(outcome.map(|_| ()))
    }

    /// Runs the scripts over the points; a price for each.
    pub(crate) fn run(
        &mut self,
        call: &Call,
        points: &Points<'_>,
    ) -> Result<Result<Vec<Decimal>, Wrong>> {
        let patience = self.pool.limits.wall + GRACE;
        let answer = match self.ask(call, &Request::Run(points), patience)? {
            Ok(answer) => answer,
            Err(wrong) => return Ok(Err(wrong)),
        };
        Ok(prices(answer, points.rows.len()))
    }

    /// `Err` = no answer can be had or wanted; inside, what a script did wrong.
    fn ask(
        &mut self,
        call: &Call,
        request: &Request<'_>,
        patience: Duration,
    ) -> Result<Result<Answer, Wrong>> {
        let message = request.to_bytes();
        if message.len() > REQUEST_SIZE_MAX {
            return Err(Error::split(format!(
                "the points of one run have {} bytes, at most {REQUEST_SIZE_MAX} are sent",
                message.len()
            )));
        }
        let Some(process) = &mut self.process else {
            return Err(Error::unavailable("the process ended, and there is no other yet"));
        };
        let loaded = process.loaded.clone().unwrap_or_default();
        let lost = match process.ask(call, (request, &message), patience) {
            Ok(answer) => match read(&answer) {
                Ok(Answer { error: Some(wrong), .. }) => return Ok(Err(wrong.tamed(&loaded.0))),
                Ok(answer) => return Ok(Ok(answer)),
                Err(wrong) => wrong,
            },
            Err(Lost::Cancelled) => {
                self.process = None;
                return Err(cancelled());
            }
            Err(Lost::Late) => Wrong::new("takes too long, and so does ending it"),
            Err(Lost::Ended) => Wrong::new("brought the whole process down"),
        };
        self.process = None;
        Ok(Err(lost))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.places.give_back(self.process.take());
    }
}

fn uncontained(wall: Wall, reason: &str) -> Error {
    let (name, less) = match wall {
        Wall::Namespaces => ("namespaces", "filter"),
        Wall::Filter => ("a filter of system calls", "limits"),
    };
    Error::unavailable(format!(
        "no script is run without {name}: {reason}\n(hint: let the kernel allow it, or go on \
         without by `containment = \"{less}\"` in [rating.pyscripts])"
    ))
}

pub(super) fn read(answer: &[u8]) -> Result<Answer, Wrong> {
    serde_json::from_slice(answer).map_err(|_| Wrong::new("made the process talk nonsense"))
}

/// A price for each of so many points.
pub(super) fn prices(answer: Answer, count: usize) -> Result<Vec<Decimal>, Wrong> {
    let texts = answer.prices.unwrap_or_default();
    let prices: Option<Vec<Decimal>> = texts.iter().map(|text| price(text)).collect();
    match prices {
        Some(prices) if prices.len() == count => Ok(prices),
        Some(_) => Err(Wrong::new("left another number of prices than there are points")),
        None => Err(Wrong::new("left something else than a price")),
    }
}

/// Exactly the decimal that the text says.
fn price(text: &str) -> Option<Decimal> {
    Decimal::from_str_exact(text).ok()
}

fn cancelled() -> Error {
    Error::new(Status::Cancelled, "cancelled")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_the_decimal_its_text_says() {
        let shown = |text| price(text).map(|price| price.to_string());

        assert_eq!(shown("1.5").as_deref(), Some("1.5"));
        assert_eq!(shown("-0.0000000000000000000000000001").unwrap().len(), 31);
        assert_eq!(shown("100").as_deref(), Some("100"));
        assert_eq!(shown("123456789012345678901234567890"), None);
        assert_eq!(shown("0.12345678901234567890123456789"), None);
        assert_eq!(shown("NaN"), None);
        assert_eq!(shown(""), None);
    }
}
