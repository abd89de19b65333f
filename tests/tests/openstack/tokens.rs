//! Many tokens: each one ends soon, often while it is in use, and no period fails for it.

use std::time::Duration;

use rated_tests::wait_until;

use crate::cloud::Cloud;

/// A day.
const HOURS: usize = 24;
const LIFETIME: Duration = Duration::from_secs(8);

/// Answers of Gnocchi between two halts; a day of any metric needs more of them than all halts.
const ANSWERS: usize = 3;
const HALTS: usize = 4;

/// Every few answers Gnocchi is halted until the token in use is past its end. The request that it
/// has then may be refused, or the next one finds its token too old to be sent.
#[test]
fn tokens_that_end_within_a_day_fail_no_period() {
    let mut cloud = Cloud::new(HOURS);
    cloud.keystone().set_token_lifetime(LIFETIME);
    let mut config = cloud.config();
    config.collect += "slices_in_flight_max = 1\n";

    let daemon = cloud.start_daemon(&config);
    let before = issued(&mut cloud);
    let mut of_the_test = 0;
    for halt in 1..=HALTS {
        wait_until("Gnocchi has answered", || {
            (answered(&mut cloud) >= halt * ANSWERS).then_some(())
        });
        cloud.gnocchi.server.pause();
        let (earlier, keystone) = (issued(&mut cloud), cloud.identity());
        let token = keystone.admin_token();
        wait_until("a token ends", || keystone.validate(&token).is_none().then_some(()));
        of_the_test += issued(&mut cloud) - earlier;
        let last = daemon.last_processed().into_values().max().flatten();
        assert!(last < Some(cloud.data.hour(HOURS - 1).timestamp()), "there is work left");
        cloud.gnocchi.server.resume();
    }
    cloud.wait_until_rated(&daemon);

    let tokens = issued(&mut cloud) - before - of_the_test;
    let refused = ["/v1/aggregates", "/v1/search/resource/instance"]
        .map(|path| cloud.gnocchi.server.answered(&format!("POST {path} 401")))
        .iter()
        .sum::<usize>();
    println!("{tokens} tokens of {LIFETIME:?}, {refused} of them refused by Gnocchi");
    assert!(tokens >= HALTS, "each halt has ended the token in use");
    let failures = daemon.metric("rated_failures_total");
    assert!(failures == 0.0, "{failures} failures:\n{}", daemon.process.output());
    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}

fn answered(cloud: &mut Cloud) -> usize {
    cloud.gnocchi.server.answered("POST /v1/aggregates 200")
}

fn issued(cloud: &mut Cloud) -> usize {
    cloud.keystone().server.answered("POST /v3/auth/tokens 201")
}
