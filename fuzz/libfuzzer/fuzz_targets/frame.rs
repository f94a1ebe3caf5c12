//! Looks for bytes that `phalanx_fuzz::frame` does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phalanx_fuzz::frame(bytes));
