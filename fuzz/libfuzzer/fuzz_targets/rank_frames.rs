//! Looks for bytes that `phalanx_fuzz::rank_frames` does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phalanx_fuzz::rank_frames(bytes));
