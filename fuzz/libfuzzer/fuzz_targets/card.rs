//! Looks for bytes that `phalanx_fuzz::card` does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phalanx_fuzz::card(bytes));
