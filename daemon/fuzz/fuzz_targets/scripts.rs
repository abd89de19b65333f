#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rated_pyscripts::fuzz::scripts(bytes));
