#![no_main]

// A panic that somebody catches is no crash: the hook that ends the process at once goes.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| rated::fuzz::plugin_batches(bytes)
);
