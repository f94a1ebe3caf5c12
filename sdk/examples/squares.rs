//! The smallest program that is worth running: squares of a range, one by one and summed on the workers.

use phalanx::Cluster;

#[phalanx::kernel(reduce = u64::wrapping_add)]
fn square(index: u64) -> u64 {
    index.wrapping_mul(index)
}

#[phalanx::main]
#[expect(clippy::print_stdout, reason = "the program's answer")]
fn main(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    for value in cluster.map::<square>(0..10).results()? {
        println!("{}", value?);
    }
    println!(
        "sum of 1000000: {}",
        cluster.map::<square>(0..1_000_000).reduce()?
    );
    Ok(())
}
