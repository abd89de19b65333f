//! The hostile components of the daemon's own tests, as a library.

#[path = "../../daemon/tests/plugin/hostile.rs"]
#[expect(dead_code, reason = "as a library it declares itself below")]
mod hostile;

rated_plugin::export! {
    collectors: [hostile::Source],
    fetchers: [hostile::Finder],
    rating_modules: [hostile::Rates],
}
