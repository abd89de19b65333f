#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rated::fuzz::cloudkitty_answers(bytes));
