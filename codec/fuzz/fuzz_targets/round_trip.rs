//! Feeds what libFuzzer makes up to [`tidegate_codec_fuzz::round_trip`], whose header says what is held.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_codec_fuzz::round_trip::run(data));
