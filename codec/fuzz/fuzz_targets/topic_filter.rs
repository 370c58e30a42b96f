//! Feeds what libFuzzer makes up to [`tidegate_codec_fuzz::topic_filter`], whose header says what is held.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_codec_fuzz::topic_filter::run(data));
