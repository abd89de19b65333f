//! What holds for rating modules.

use std::sync::Arc;

use arrow_array::RecordBatch;
use rust_decimal::Decimal;

use super::component::make;
use super::samples::{bare_usage, begin, odd_usage, rate_request, usage, with_extra_column};
use super::{Checks, Verdict, ensure, explained, said};
use crate::raw::ComponentDecl;
use crate::testing::FakeHost;
use crate::thunk::driver::{Driven, DrivenRater};
use crate::{
    AsOf, Host, Method, PriceBatch, Principal, Purpose, Request, Result, Status, UsageBatch,
    check_steps,
};

pub(super) fn check(component: &'static ComponentDecl, checks: &mut Checks) {
    checks.run("rules of any time and revision are prepared", || {
        let instance = instance(component)?;
        for revision in [0, Host::NOW] {
            for at in [begin(), chrono::DateTime::UNIX_EPOCH] {
                let rater = instance.prepare(AsOf { at, revision });
                rater.map_err(|error| said("`prepare`", &error))?;
            }
        }
        Ok(())
    });
    checks.run("a batch without rows is rated", || rates(component, &[usage(0), bare_usage(0)]));
    checks.run("every row gets its price", || rates(component, &[usage(1), usage(100)]));
    checks.run("absent and unknown attributes are borne", || {
        let more = usage(9).and_then(|usage| with_extra_column(&usage));
        rates(component, &[odd_usage(5), bare_usage(5), more])
    });
    checks.run("a slice of a batch is rated as its rows were", || sliced(component));
    checks.run("the same rows get the same prices, from any thread", || threads(component));
    checks.run("a quote and a replay are rated", || {
        let rater = rater(component, &FakeHost::new())?;
        let usage = usage(10).map_err(|error| error.message)?;
        for purpose in [Purpose::Quote, Purpose::Replay] {
            prices(&rater, purpose, &usage).map_err(|error| said("`rate`", &error))?;
        }
        Ok(())
    });
    checks.run("reasons lead to the price", || reasons(component));
    checks.run("a cancelled call ends", || {
        let host = FakeHost::new();
        let rater = rater(component, &host)?;
        host.cancel();
        let usage = usage(100).map_err(|error| error.message)?;
        explained("a cancelled `rate`", prices(&rater, Purpose::Period, &usage)).map(drop)
    });
    checks.run("a rater outlives the call that made it", || {
        let instance = instance(component)?;
        let as_of = AsOf { at: begin(), revision: Host::NOW };
        let rater = instance.prepare(as_of).map_err(|error| said("`prepare`", &error))?;
        let usage = usage(3).map_err(|error| error.message)?;
        drop(instance);
        prices(&rater, Purpose::Period, &usage).map(drop).map_err(|error| said("`rate`", &error))
    });
    checks.run("an unknown path is not found", || unknown_path(component));
}

fn instance(component: &'static ComponentDecl) -> Result<Arc<Driven>, String> {
    make(component, &FakeHost::new()).map_err(|error| said("making an instance", &error))
}

fn rater(component: &'static ComponentDecl, host: &FakeHost) -> Result<DrivenRater, String> {
    let instance = make(component, host).map_err(|error| said("making an instance", &error))?;
    let as_of = AsOf { at: begin(), revision: Host::NOW };
    instance.prepare(as_of).map_err(|error| said("`prepare`", &error))
}

fn prices(rater: &DrivenRater, purpose: Purpose, usage: &RecordBatch) -> Result<Vec<Decimal>> {
    let prices = rater.rate(&rate_request(purpose), usage)?;
    let column = PriceBatch::read(&prices, usage.num_rows())?;
    (0..usage.num_rows()).map(|row| crate::decimal_at(column, row)).collect()
}

fn rates(component: &'static ComponentDecl, batches: &[Result<RecordBatch>]) -> Verdict {
    let rater = rater(component, &FakeHost::new())?;
    for usage in batches {
        let usage = usage.as_ref().map_err(|error| error.message.clone())?;
        let what = format!("`rate` of {} rows", usage.num_rows());
        prices(&rater, Purpose::Period, usage).map_err(|error| said(&what, &error))?;
    }
    Ok(())
}

fn sliced(component: &'static ComponentDecl) -> Verdict {
    let rater = rater(component, &FakeHost::new())?;
    let usage = usage(20).map_err(|error| error.message)?;
    let rate = |usage: &RecordBatch| {
        prices(&rater, Purpose::Period, usage).map_err(|error| said("`rate`", &error))
    };
    let whole = rate(&usage)?;
    for (offset, rows) in [(3, 4), (0, 5), (19, 1), (7, 0)] {
        let part = rate(&usage.slice(offset, rows))?;
        ensure(part == whole[offset..offset + rows], || {
            format!("rows {offset} to {} alone got other prices", offset + rows)
        })?;
    }
    Ok(())
}

/// A module that gives none says so.
fn reasons(component: &'static ComponentDecl) -> Verdict {
    let rater = rater(component, &FakeHost::new())?;
    if !rater.can_explain() {
        return Ok(());
    }
    let usage = usage(20).map_err(|error| error.message)?;
    let rate = prices(&rater, Purpose::Replay, &usage).map_err(|error| said("`rate`", &error))?;
    let view = UsageBatch::new(&usage).map_err(|error| error.message)?;
    for rows in [0..20, 3..4, 7..7] {
        let explanation = match rater.explain(&rate_request(Purpose::Replay), &usage, rows.clone())
        {
            Ok(explanation) => explanation,
            Err(error) if error.status == Status::Unsupported => return Ok(()),
            Err(error) => return Err(said("`explain`", &error)),
        };
        ensure(explanation.rows.len() == rows.len(), || {
            format!("{} rows of {} are explained", explanation.rows.len(), rows.len())
        })?;
        for (row, steps) in rows.zip(&explanation.rows) {
            let price = check_steps(steps, view.qty_at(row), view.price_at(row))
                .map_err(|wrong| format!("row {row}: {wrong}"))?;
            ensure(price == rate[row], || {
                format!("row {row}: the steps lead to {price}, `rate` to {}", rate[row])
            })?;
        }
    }
    let beyond = rater.explain(&rate_request(Purpose::Replay), &usage, 19..21);
    ensure(beyond.is_err(), || "a row that is not there is explained".to_owned())
}

fn threads(component: &'static ComponentDecl) -> Verdict {
    let rater = rater(component, &FakeHost::new())?;
    let usage = usage(50).map_err(|error| error.message)?;
    let rate = || prices(&rater, Purpose::Period, &usage);
    let first = rate().map_err(|error| said("`rate`", &error))?;
    let others: Vec<Result<Vec<Decimal>>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(rate)).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic in the driver")).collect()
    });
    for other in others {
        let other = other.map_err(|error| said("`rate` in another thread", &error))?;
        ensure(other == first, || "the same rows got other prices".to_owned())?;
    }
    Ok(())
}

fn unknown_path(component: &'static ComponentDecl) -> Verdict {
    let instance = instance(component)?;
    for method in [Method::Get, Method::Post, Method::Put, Method::Delete, Method::Patch] {
        let request = Request {
            method,
            path: "/conformance/no-such-path".to_owned(),
            query: "a=%zz&b".to_owned(),
            content_type: "application/json".to_owned(),
            body: b"{\"half\": ".to_vec(),
            principal: Principal::default(),
        };
        let what = format!("{method:?} of an unknown path");
        if let Some(response) = explained(&what, instance.handle(&request))? {
            ensure((400..500).contains(&response.status), || {
                format!("{what} was answered {}", response.status)
            })?;
        }
    }
    Ok(())
}
