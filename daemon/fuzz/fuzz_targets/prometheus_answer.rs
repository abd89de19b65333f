#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rated_prometheus::fuzz::answer(bytes));
