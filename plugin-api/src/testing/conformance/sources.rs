//! What holds for collectors and fetchers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::component::make;
use super::samples::collect_request;
use super::{Checks, Verdict, ensure, explained, said};
use crate::batch::{SCHEMA_KEY, SCHEMA_SCOPES, SCHEMA_USAGE, read_scopes};
use crate::raw::ComponentDecl;
use crate::testing::FakeHost;
use crate::thunk::driver::{Driven, Pulled};
use crate::{CollectRequest, HttpResponse, Result, Status, UsageBatch};

/// Answers that are none.
const GARBAGE: [(&str, u16, &str); 5] = [
    ("a source that answers 500", 500, "internal error"),
    ("a source that answers 429", 429, ""),
    ("a source that answers with a web page", 200, "<html>please log in</html>"),
    ("a source that answers with half an answer", 200, "{\"status\":\"success\",\"data\":{\"res"),
    ("a source that answers with nothing", 200, ""),
];

pub(super) fn check_collector(component: &'static ComponentDecl, checks: &mut Checks) {
    let collect = |instance: &Arc<Driven>, scopes: &[&str]| {
        let request = collect_request(scopes);
        pull(instance.collect(&request)?, SCHEMA_USAGE, |batch| usage_fits(batch, &request))
    };
    checks.run("a filter that matches nothing is answered or explained", || {
        let instance = instance(component, &FakeHost::new())?;
        explained("collecting", collect(&instance, &["conformance-no-such-scope"]))?.transpose()?;
        Ok(())
    });
    checks.run("every scope at once is answered or explained", || {
        let instance = instance(component, &FakeHost::new())?;
        explained("collecting", collect(&instance, &[]))?.transpose()?;
        Ok(())
    });
    checks.run("a cancelled call ends", || cancelled(component, &collect));
    checks.run("batches may be dropped half way", || {
        let instance = instance(component, &FakeHost::new())?;
        if let Ok(mut pulled) = instance.collect(&collect_request(&[])) {
            let _ = pulled.next();
            drop(pulled);
        }
        Ok(())
    });
    garbage(component, checks, &collect);
}

pub(super) fn check_fetcher(component: &'static ComponentDecl, checks: &mut Checks) {
    let fetch = |instance: &Arc<Driven>, _: &[&str]| {
        pull(instance.scopes()?, SCHEMA_SCOPES, |batch| {
            read_scopes(batch).map(drop).map_err(|error| error.message)
        })
    };
    checks.run("scopes are found or the failure is explained", || {
        let instance = instance(component, &FakeHost::new())?;
        explained("asking for scopes", fetch(&instance, &[]))?.transpose()?;
        Ok(())
    });
    checks.run("a cancelled call ends", || cancelled(component, &fetch));
    garbage(component, checks, &fetch);
}

/// Asks and pulls all; the inner result says whether what came was right.
type Ask<'a> = &'a dyn Fn(&Arc<Driven>, &[&str]) -> Result<Verdict>;

fn instance(component: &'static ComponentDecl, host: &FakeHost) -> Result<Arc<Driven>, String> {
    make(component, host).map_err(|error| said("making an instance", &error))
}

fn cancelled(component: &'static ComponentDecl, ask: Ask<'_>) -> Verdict {
    for questions in [0, 1] {
        let host = FakeHost::new();
        let instance = instance(component, &host)?;
        host.cancel_after(questions);
        explained("a cancelled call", ask(&instance, &[]))?.transpose()?;
    }
    Ok(())
}

/// A source that fails must never be taken for one that has nothing.
fn garbage(component: &'static ComponentDecl, checks: &mut Checks, ask: Ask<'_>) {
    const NAME: &str = "a broken source is never taken for no data";
    let host = FakeHost::new();
    let asked = instance(component, &host).map(|instance| ask(&instance, &[]).is_ok());
    if asked.is_ok() && host.requests().is_empty() {
        return checks.skip(NAME, "it sent no HTTP request");
    }
    checks.run(NAME, || {
        ensure(asked == Ok(false), || "with nobody answering it found no data".to_owned())?;
        for (what, status, body) in GARBAGE {
            let host = FakeHost::new();
            host.answer_with(move |_| {
                let body = body.as_bytes().to_vec();
                Ok(HttpResponse { status, headers: BTreeMap::new(), body })
            });
            let instance = instance(component, &host)?;
            let answer = explained(what, ask(&instance, &[]))?;
            ensure(answer.is_none(), || format!("{what} was taken for an answer"))?;
        }
        Ok(())
    });
}

fn pull(
    mut pulled: Pulled,
    schema: &str,
    fits: impl Fn(&RecordBatch) -> Verdict,
) -> Result<Verdict> {
    let named = pulled.schema().metadata().get(SCHEMA_KEY).is_some_and(|found| found == schema);
    if !named {
        return Ok(Err(format!("`{SCHEMA_KEY}` of the batches is not `{schema}`")));
    }
    while let Some(batch) = pulled.next()? {
        if let Err(why) = fits(&batch) {
            return Ok(Err(why));
        }
    }
    let again = pulled.next();
    Ok(ensure(matches!(again, Ok(None)), || {
        let status = again.err().map_or(Status::Ok, |error| error.status);
        format!("after the end came {}", status.name())
    }))
}

fn usage_fits(batch: &RecordBatch, request: &CollectRequest) -> Verdict {
    let usage = UsageBatch::new(batch).map_err(|error| error.message)?;
    let names = |found: Vec<(&str, _)>| -> BTreeSet<String> {
        found.into_iter().map(|(name, _): (&str, &crate::Attribute)| name.to_owned()).collect()
    };
    let wanted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    ensure(names(usage.groupby().collect()) == wanted(&request.metric.groupby), || {
        "the `groupby.` columns are not those of the metric".to_owned()
    })?;
    ensure(names(usage.metadata().collect()) == wanted(&request.metric.metadata), || {
        "the `metadata.` columns are not those of the metric".to_owned()
    })?;
    let stranger = (0..usage.rows()).map(|row| usage.scope_at(row)).find(|scope| {
        !request.scopes.is_empty() && !request.scopes.iter().any(|asked| asked == scope)
    });
    ensure(stranger.is_none(), || {
        format!("usage of scope `{}`, which was not asked for", stranger.unwrap_or_default())
    })
}
