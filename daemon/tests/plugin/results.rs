//! What comes back is checked before anybody uses it.

use arrow_array::Array;
use rated_plugin::Status;

use crate::support::{World, collect_request, get, price, rows};

fn check_price(does: &str, expected: &str) {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", does)]).unwrap();
    let plugins = host.generation();

    let failure = world.wait(price(plugins.module("one").unwrap(), rows(3))).unwrap_err();

    assert_eq!(failure.status(), Status::BadData, "{does}");
    assert!(failure.error.message.contains(expected), "{does}: {failure}");
    assert!(!failure.stopped);
}

#[test]
fn prices_that_are_not_what_was_promised_are_refused() {
    check_price("lose a row", "2 prices came back for 3 rows");
    check_price("add a row", "4 prices came back for 3 rows");
    check_price("price in integers", "`price` is of the type Int64");
    check_price("price nothing", "`price` has nulls");
    check_price("price in another precision", "`price` is of the type Decimal128(20, 2)");
    check_price("price in a negative scale", "`price` has the scale -2");
    check_price("price too much", "more than 38 digits");
    check_price("name another schema", "the schema is `price/2`, `price/1` was expected");
}

#[test]
fn a_plea_for_smaller_batches_reaches_the_caller() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "ask for a split")]).unwrap();
    let plugins = host.generation();

    let failure = world.wait(price(plugins.module("one").unwrap(), rows(3))).unwrap_err();

    assert!(failure.error.split);
}

#[test]
fn prices_come_back_for_any_number_of_rows() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();
    let module = plugins.module("one").unwrap();

    world.wait(async {
        for count in [0, 1, 10_000] {
            let prices = price(module, rows(count)).await.unwrap();
            assert_eq!(prices.num_rows(), count);
            assert_eq!(prices.num_columns(), 1);
        }
        let whole = rows(10);
        let prices = price(module, whole.slice(3, 4)).await.unwrap();
        assert_eq!(prices.num_rows(), 4);
    });
}

fn check_usage(does: &str, status: Status, expected: &str) {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", does)]).unwrap();
    let plugins = host.generation();
    let collector = plugins.collector("one").unwrap();

    let failure = world.wait(collector.collect(collect_request(&["a", "b"]))).unwrap_err();

    assert_eq!(failure.status(), status, "{does}: {failure}");
    assert!(failure.error.message.contains(expected), "{does}: {failure}");
}

#[test]
fn usage_that_was_not_asked_for_is_refused() {
    check_usage("bring another scope", Status::BadData, "a row of the scope `stranger`");
    check_usage("forget an attribute", Status::BadData, "`groupby.flavor` is missing");
    check_usage("count wrongly", Status::BadData, "`qty` is of the type Float64");
    check_usage("end half-way", Status::Unavailable, "half an answer");
    check_usage("never end", Status::BadData, "more than 10000 batches");
}

#[test]
fn usage_has_the_columns_asked_for_and_no_others() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("more", "bring more"), ("one", "")]).unwrap();
    let plugins = host.generation();
    let more = plugins.collector("more").unwrap();

    world.wait(async {
        let batches = more.collect(collect_request(&["a"])).await.unwrap();
        let schema = batches[0].schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["scope_id", "qty", "groupby.flavor", "metadata.zone"]);

        let one = plugins.collector("one").unwrap();
        let nothing = one.collect(collect_request(&[])).await.unwrap();
        assert!(nothing.is_empty());
        let both = one.collect(collect_request(&["a", "b"])).await.unwrap();
        assert_eq!(both[0].column(0).len(), 2);
    });
}

#[test]
fn scopes_are_found_once_and_unsound_ones_left_out() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("nulls", "find nulls"), ("one", "")]).unwrap();
    let plugins = host.generation();

    world.wait(async {
        let found = plugins.fetcher("one").unwrap().scopes().await.unwrap();
        assert_eq!(found, ["a", "b"]);

        let failure = plugins.fetcher("nulls").unwrap().scopes().await.unwrap_err();
        assert_eq!(failure.error.message, "the column `scope_id` has nulls");
    });
}

#[test]
fn an_answer_without_a_sound_status_is_an_error() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();

    let failure = world.wait(get(plugins.module("one").unwrap(), "/teapot")).unwrap_err();

    assert_eq!(failure.status(), Status::Internal);
}
