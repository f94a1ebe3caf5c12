//! Looks for bytes that `phalanx_fuzz::job_spec` does not survive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phalanx_fuzz::job_spec(bytes));
