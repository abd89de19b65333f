//! What reads bytes from outside, each as a function of these bytes.
//!
//! A fuzzer drives them (see `daemon/fuzz`), and so do the tests below, over all that it has found
//! worth keeping and a few changes of it. A target ends without a panic whatever the bytes are;
//! what it asserts stands where it is written.
//!
//! This module is part of tests and fuzzers only.

/// `fuzz!(name, path::of::function)`: a target as the fuzzer calls it.
macro_rules! fuzz {
    ($($name:ident => $function:path,)+) => {
        $(
            #[doc = concat!("`", stringify!($function), "`.")]
            pub fn $name(bytes: &[u8]) {
                $function(bytes);
            }
        )+
    };
}

fuzz! {
    stored_block => crate::ledger::sled::fuzz::block,
    stored_rollup => crate::ledger::sled::fuzz::rollup,
    stored_record => crate::ledger::sled::fuzz::record,
    plugin_batches => crate::plugin::fuzz::batches,
    config => crate::config::fuzz::daemon,
    metrics => crate::config::fuzz::metrics,
    query => crate::api::fuzz::query,
    json_body => crate::api::fuzz::json_body,
    xml_body => crate::api::fuzz::xml_body,
    push_body => crate::api::fuzz::push,
    access_file => crate::api::fuzz::access_file,
    keystone_answer => crate::api::fuzz::keystone_answer,
    runner_messages => crate::plugin::fuzz::messages,
    backup => crate::cli::fuzz::backup,
    cloudkitty_metrics => crate::cli::fuzz::cloudkitty_metrics,
    cloudkitty_answers => crate::cli::fuzz::cloudkitty_answers,
    prices => crate::cli::fuzz::prices,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use allocation_counter::measure;
    use rated_plugin::testing::replay;

    const MIB: u64 = 1 << 20;

    /// Over the inputs kept of a target, and changes of them. None may need more memory at a time
    /// than that: a few columns of a stored record at their largest, or a little.
    #[track_caller]
    fn check(name: &str, mutations: usize, bytes_max: u64, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let most = Cell::new(0);
        replay(&corpus, 1, mutations, |bytes| {
            let used = measure(|| target(bytes)).bytes_max;
            assert!(used <= bytes_max, "{used} bytes of memory, at most {bytes_max}");
            most.set(most.get().max(used));
        });
        println!("{name}: at most {} bytes of memory", most.get());
    }

    macro_rules! checks {
        ($($test:ident: $name:ident, $mutations:literal, $bytes_max:expr;)+) => {
            $(
                #[test]
                fn $test() {
                    check(stringify!($name), $mutations, $bytes_max, super::$name);
                }
            )+
        };
    }

    checks! {
        any_stored_block_is_read_or_damaged: stored_block, 5_000, 256 * MIB;
        any_stored_rollup_is_read_or_damaged: stored_rollup, 5_000, 256 * MIB;
        any_stored_record_is_read_or_damaged: stored_record, 10_000, 256 * MIB;
        any_plugin_batches_are_taken_or_refused: plugin_batches, 10_000, 16 * MIB;
        any_configuration_is_read_or_refused: config, 2_000, 64 * MIB;
        any_metrics_are_read_or_refused: metrics, 2_000, 64 * MIB;
        any_query_is_answered: query, 1_000, 64 * MIB;
        any_json_body_is_answered: json_body, 1_000, 64 * MIB;
        any_xml_body_is_answered: xml_body, 1_000, 64 * MIB;
        any_push_is_read_as_serde_json_reads_it: push_body, 2_000, 16 * MIB;
        any_access_file_is_read_or_refused: access_file, 5_000, 16 * MIB;
        any_keystone_answer_names_who_it_says_or_nobody: keystone_answer, 10_000, 4 * MIB;
        // Arrow's decoder reserves what is announced, 64 MiB of it at most.
        any_runner_messages_are_taken_or_refused: runner_messages, 10_000, 80 * MIB;
        any_backup_is_read_or_refused: backup, 5_000, 16 * MIB;
        any_cloudkitty_metrics_are_converted_or_refused: cloudkitty_metrics, 2_000, 64 * MIB;
        any_cloudkitty_answers_are_copied_as_they_are_or_refused: cloudkitty_answers, 2_000,
            16 * MIB;
        any_prices_are_sent_as_they_are_or_refused: prices, 2_000, 16 * MIB;
    }
}
