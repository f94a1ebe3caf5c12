//! Looks for bytes that `phalanx_fuzz::snapshot` does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phalanx_fuzz::snapshot(bytes));
