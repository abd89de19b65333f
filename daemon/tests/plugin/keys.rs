//! The services that need no network: keys, clock, log, metrics.

use rated::plugin::Module;
use rated_plugin::{Principal, Request, Status};
use serde_json::{Value, json};

use crate::support::{World, get};

async fn keys(module: &Module, user: &str, body: Value) -> Result<Value, Status> {
    let mut request = Request::post("/keys", body.to_string());
    request.principal = Principal { user_id: user.to_owned(), ..Principal::default() };
    let answer = module.handle(request).await.map_err(|failure| failure.status())?;
    Ok(serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn keys_are_kept_by_revision_and_say_who_changed_them() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", ""), ("two", "")]).unwrap();
    let plugins = host.generation();
    let (one, two) = (plugins.module("one").unwrap(), plugins.module("two").unwrap());

    world.wait(async {
        let nothing = keys(one, "eve", json!({})).await.unwrap();
        assert_eq!(nothing, json!({"revision": 0, "keys": {}, "a": null}));
        let set = json!({"revision": 0, "set": {"a": "1", "b": ""}});
        keys(one, "alice", set.clone()).await.unwrap();
        assert_eq!(keys(one, "bob", set).await.unwrap_err(), Status::Conflict);
        let unset = json!({"revision": 1, "set": {"a": null}});
        let now = keys(one, "carol", unset).await.unwrap();
        assert_eq!(now, json!({"revision": 2, "keys": {"b": ""}, "a": null}));

        let before = keys(one, "eve", json!({"at": 1})).await.unwrap();

        assert_eq!(before, json!({"revision": 1, "keys": {"a": "1", "b": ""}, "a": "1"}));
        let others = keys(two, "eve", json!({})).await.unwrap();
        assert_eq!(others["revision"], 0);
    });
    assert_eq!(world.ledger.authors(), ["alice", "carol"]);
}

#[test]
fn keys_and_values_have_limits() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();
    let one = plugins.module("one").unwrap();

    world.wait(async {
        for set in [json!({"": "x"}), json!({"k".repeat(1025): "x"})] {
            let failure = keys(one, "eve", json!({"revision": 0, "set": set})).await.unwrap_err();
            assert_eq!(failure, Status::InvalidRequest);
        }
        let set = json!({"a": "x".repeat(1024 * 1024 + 1)});
        let failure = keys(one, "eve", json!({"revision": 0, "set": set})).await.unwrap_err();
        assert_eq!(failure, Status::InvalidRequest);
    });
}

#[test]
fn the_clock_is_the_daemons_and_metrics_carry_the_instance() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();

    let answer = world.wait(get(plugins.module("one").unwrap(), "/now")).unwrap();

    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["now"], "2027-01-15T08:00:00+00:00");
    assert_eq!(body["deadline"], "2027-01-15T08:01:00+00:00");
    let series = "rated_plugin_events_total{instance=\"rating/one\",metric=\"asked\"}";
    assert_eq!(world.metric(series), "3");
    let series = "rated_plugin_values_count{instance=\"rating/one\",metric=\"value\"}";
    assert_eq!(world.metric(series), "1");
    let calls = "rated_plugin_calls_total{instance=\"rating/one\",call=\"handle\",status=\"ok\"}";
    assert_eq!(world.metric(calls), "1");
}
