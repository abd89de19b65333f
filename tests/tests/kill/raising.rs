//! The first start on a ledger that an older version has written.

use std::fs;
use std::path::Path;

use chrono::TimeDelta;
use rated_tests::{Exact, now};

use crate::client::{Client, Driven};
use crate::picture::{picture, sums};
use crate::site::{Acknowledged, Scenario, Site};

pub(crate) const STEPS: [&str; 4] =
    ["raise.extents_written", "raise.journaled", "raise.applied", "raise.cleared"];

const RANGE: &str = "begin=2026-10-01&end=2026-11-02";

pub(crate) struct Raising;

impl Raising {
    pub(crate) fn new() -> Raising {
        Raising
    }
}

impl Scenario for Raising {
    /// Nothing is due: the sample stays what it is.
    fn config(&self) -> String {
        let now = now() - TimeDelta::hours(1);
        let config = crate::config((now, now), 0, "");
        config.replace("period_secs = 3600", "period_secs = 86400\nwait_periods = 10000")
    }

    fn prepare(&self, site: &Site) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/data/ledger-3");
        let ledger = site.template().join("state/ledger");
        fs::create_dir_all(&ledger).unwrap();
        for name in ["conf", "db"] {
            fs::copy(sample.join(name), ledger.join(name)).unwrap();
        }
        // sled has files for values that are too long; it makes the folder at a start only.
        fs::create_dir_all(ledger.join("blobs")).unwrap();
    }

    fn drive(&self, client: &mut Client, _: &Path, known: &mut Acknowledged) -> Driven<()> {
        // The sample has a reprocessing that only lacks its swap, which any start makes up for.
        client.wait_until("the reprocessing of the sample has ended", |client| {
            let bob = ("2026-11-01T01:00:00+00:00", "bob", "cpu");
            let bob = (bob.0.to_owned(), bob.1.to_owned(), bob.2.to_owned());
            let price = sums(client, RANGE)?.get(&bob).map(|(_, price)| *price);
            Ok(price == Some(Exact::parse("0.7")))
        })?;
        let before = picture(client, RANGE)?;
        assert!(before.lines().count() > 20, "{before}");
        known.add("all of it", move |client| {
            assert_eq!(picture(client, RANGE)?, before);
            Ok(())
        });
        Ok(())
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        picture(client, RANGE)
    }
}
