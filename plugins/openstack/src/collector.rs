//! The collector: one question for one metric, one period and many scopes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rated_plugin::{
    Batches, Call, CollectRequest, Collector, Component, Error, Host, HttpResponse, Level,
    RecordBatch, Result, Status, UsageBuilder,
};

use crate::arguments::Arguments;
use crate::client::{Gnocchi, Wait};
use crate::keystone::Interface;
use crate::measures::{self, Measured};
use crate::metadata::{Lookup, Resource};
use crate::query::{Grouping, Query};
use crate::settings::{Where, settings};
use crate::{refusal, revisions};

/// How long Gnocchi may take to show that it is there at all, after a question that took too long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Rows between two looks at whether the call is cancelled.
const ROWS_PER_CHECK: usize = 4096;

settings! {
    /// The configuration of the collector.
    CollectorSettings {
        endpoint: Option<String>,
        region_name: Option<String>,
        #[serde(default)]
        interface: Interface,
    }
}

/// Measures by asking Gnocchi.
#[derive(Debug)]
pub struct GnocchiCollector {
    gnocchi: Gnocchi,
}

impl Component for GnocchiCollector {
    const NAME: &'static str = "gnocchi";
    const SUMMARY: &'static str = "Asks Gnocchi for dynamic aggregates, once for many scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = CollectorSettings;

    fn create(config: CollectorSettings, host: Host) -> Result<GnocchiCollector> {
        let place = Where {
            endpoint: config.endpoint.as_deref(),
            region_name: config.region_name.as_deref(),
            interface: config.interface,
        };
        let common = config.common();
        let gnocchi = Gnocchi::new(host, common.way(host, place)?, common.patience()?);
        Ok(GnocchiCollector { gnocchi })
    }

    fn check(&self, call: &Call) -> Result<()> {
        self.gnocchi.check(call)
    }
}

impl Collector for GnocchiCollector {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        let arguments = Arguments::of(&request.metric)?;
        let query = Query::new(request, &arguments)?;
        let located = |error: Error| {
            let message = format!("metric `{}`: {}", request.metric.name, error.message);
            Error { message, ..error }
        };
        let measured = self.measured(call, request, &query).map_err(located)?;
        let measured = revisions::join(measured, &query.grouping).map_err(located)?;
        let resources = if request.metric.metadata.is_empty() {
            None
        } else {
            let gnocchi = &self.gnocchi;
            let lookup = Lookup { gnocchi, call, request, arguments: &arguments };
            let keys: BTreeSet<Box<str>> =
                measured.iter().map(|one| one.group[query.grouping.key].clone()).collect();
            let keys: Vec<Box<str>> = keys.into_iter().collect();
            Some(lookup.resources(&keys).map_err(located)?)
        };
        let rows = Rows { call, request, grouping: &query.grouping, resources };
        let (batch, far_count) = rows.batch(&measured).map_err(located)?;
        if far_count > 0 {
            self.gnocchi.host().log(
                Level::Warn,
                &format!(
                    "Left out {far_count} measures of metric `{}` at {}: their resources ended \
                     more than a period before it.",
                    request.metric.name, request.begin
                ),
            );
        }
        Ok(Batches::one(batch))
    }
}

impl GnocchiCollector {
    fn measured(
        &self,
        call: &Call,
        request: &CollectRequest,
        query: &Query,
    ) -> Result<Vec<Measured>> {
        let response = self.aggregates(call, request, query)?;
        if response.status == 200 {
            return measures::read(call, request, &query.grouping, &response)
                .map_err(|error| self.gnocchi.placed(error));
        }
        refusal::no_data(&response).map_err(|error| self.gnocchi.placed(error))?;
        self.gnocchi.host().log(
            Level::Debug,
            &format!(
                "Gnocchi knows no metric `{}` of {} scopes at {}: no data.",
                request.metric.name,
                request.scopes.len(),
                request.begin
            ),
        );
        Ok(Vec::new())
    }

    /// When a question about several scopes takes too long although Gnocchi is there, fewer scopes
    /// may do: Gnocchi works through them one resource after the other.
    fn aggregates(
        &self,
        call: &Call,
        request: &CollectRequest,
        query: &Query,
    ) -> Result<HttpResponse> {
        let outcome = self.gnocchi.post(call, &query.path, &query.body);
        let is_late = match &outcome {
            Ok(response) => response.status == 504,
            Err(error) => error.status == Status::Timeout,
        };
        let left = call.time_left(self.gnocchi.host());
        let can_ask = left.is_none_or(|left| left >= SIGN_OF_LIFE);
        if !is_late || !can_ask || request.scopes.len() < 2 {
            return outcome;
        }
        match self.gnocchi.answers(call, Wait::AtMost(SIGN_OF_LIFE)) {
            Ok(()) => Err(self.gnocchi.placed(Error::split(format!(
                "takes too long for {} scopes at once",
                request.scopes.len()
            )))),
            Err(_) => outcome,
        }
    }
}

/// What was measured, as rows.
struct Rows<'a> {
    call: &'a Call,
    request: &'a CollectRequest,
    grouping: &'a Grouping,
    /// `None` when the metric has no metadata.
    resources: Option<HashMap<Box<str>, Resource>>,
}

impl Rows<'_> {
    /// The batch, and how many measures are left out because their resource is of another time.
    fn batch(&self, measured: &[Measured]) -> Result<(RecordBatch, usize)> {
        let metric = &self.request.metric;
        let mut rows = UsageBuilder::new(&metric.groupby, &metric.metadata);
        let mut far_count = 0;
        for (index, one) in measured.iter().enumerate() {
            if index.is_multiple_of(ROWS_PER_CHECK) {
                self.call.check_cancelled()?;
            }
            let metadata = match &self.resources {
                None => &[][..],
                Some(resources) => {
                    let key = &one.group[self.grouping.key];
                    let resource = resources.get(key).ok_or_else(|| {
                        Error::internal("a resource was looked up and is not there")
                    })?;
                    if !resource.is_near {
                        far_count += 1;
                        continue;
                    }
                    &resource.metadata
                }
            };
            let groupby = &one.group[1..=self.grouping.groupby_count];
            let attributes: Vec<Option<&str>> =
                groupby.iter().chain(metadata).map(|text| Some(&**text)).collect();
            rows.push(&one.group[0], one.first, &attributes)?;
        }
        Ok((rows.finish()?, far_count))
    }
}
