//! Parallel kernels in Rust on every core you can reach
