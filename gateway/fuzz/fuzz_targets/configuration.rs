//! Feeds what libFuzzer makes up to [`gateway_fuzz::run`], whose header says what is held.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::run(data));
