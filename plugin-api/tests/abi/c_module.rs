//! A rating module in C (`examples/c/flat.c`), built, loaded and driven like any other.

use rated_plugin::raw::{ENTRY_SYMBOL, EntryFn, PluginDecl};
use rated_plugin::testing::{FakeHost, TestModule, check_plugin, conformance};
use rated_plugin::{Purpose, RateRequest, Status, UsageBatch, UsageBuilder, decimal_column};
use rust_decimal::Decimal;

use crate::support::{compiles, root};

/// Built once for each test, never unloaded.
fn plugin() -> &'static PluginDecl {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("libflat.so");
    let source = root().join("examples/c/flat.c");
    compiles("cc", &["-std=c11", "-O2", "-shared", "-fPIC"], &source, &library);
    // SAFETY: the library has no initialisers, its entry is what the header says, and it stays
    // mapped.
    unsafe {
        let library = libloading::Library::new(&library).expect("loads");
        let entry = *library.get::<EntryFn>(ENTRY_SYMBOL).expect("exports it");
        std::mem::forget(library);
        entry().as_ref().expect("a declaration")
    }
}

fn rate_request(host: &FakeHost) -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin: host.now() - chrono::Duration::hours(1),
        end: host.now(),
    }
}

#[test]
fn a_module_in_c_conforms() {
    conformance(plugin());
    for check in check_plugin(plugin()) {
        println!("{check}");
    }
}

#[test]
fn a_module_in_c_rates_to_the_last_digit() {
    let host = FakeHost::new();
    let module = TestModule::from_plugin(plugin(), "flat-c", &host, "fee = \"0.125\"").unwrap();
    let mut rows = UsageBuilder::new(&["id"], &[]);
    for id in ["a", "b", "c"] {
        rows.push("scope", Decimal::ONE, &[Some(id)]).unwrap();
    }
    let so_far = ["1", "0.0000000000000000001", "-7.5"].map(|text| text.parse().unwrap());
    let usage = rows.finish().unwrap();
    let usage =
        UsageBatch::new(&usage).unwrap().with_price(decimal_column(&so_far).unwrap()).unwrap();

    let rater = module.prepare_at(host.now()).unwrap();

    let wanted = ["1.125", "0.1250000000000000001", "-7.375"].map(|text| text.parse().unwrap());
    assert_eq!(rater.rate(&rate_request(&host), &usage).unwrap(), wanted);
    assert_eq!(rater.rate(&rate_request(&host), &usage.slice(1, 2)).unwrap(), wanted[1..]);
}

#[test]
fn errors_of_a_module_in_c_arrive_whole() {
    let error =
        TestModule::from_plugin(plugin(), "flat-c", &FakeHost::new(), "fee = 1").unwrap_err();

    assert_eq!(error.status, Status::InvalidConfig);
    assert_eq!(error.message, "the only key is `fee`, a text such as \"0.25\"");
}
