//! The attributes, as a user's crate sees them.

#![forbid(unsafe_code)]
#![deny(warnings)]

use phalanx::__private::KERNELS;
use phalanx::{Kernel, ReduceKernel, TaskContext};
use phalanx_protocol::message::host::KernelLine;
use serde::{Deserialize, Serialize};

/// What all rows share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    width: u64,
}

/// Doubles.
#[phalanx::kernel]
pub fn double(index: u64) -> u64 {
    index * 2
}

#[phalanx::kernel(reduce = u64::wrapping_add)]
fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        n
    } else {
        fibonacci(n - 1) + fibonacci(n - 2)
    }
}

#[phalanx::kernel]
fn render(row: u64, scene: &Scene, context: &TaskContext) -> Result<Vec<u8>, String> {
    if row >= scene.width {
        return Err(format!("task {} is outside", context.index()));
    }
    Ok(vec![1; row as usize])
}

#[phalanx::kernel(reduce = |left: String, right: String| left + &right)]
fn word((a, b): (u64, String), context: &phalanx::TaskContext, table: &[String]) -> std::io::Result<String> {
    let word = table
        .get(a as usize)
        .ok_or_else(|| std::io::Error::other("no such word"))?;
    Ok(format!("{word}{b}{}", context.index()))
}

#[phalanx::kernel]
fn nothing(_: u64) {}

#[test]
fn a_kernel_is_still_a_function() {
    let scene = Scene { width: 3 };
    let context = TaskContext::standalone(7);
    assert_eq!(double(4), 8);
    assert_eq!(fibonacci(10), 55);
    assert_eq!(render(2, &scene, &context), Ok(vec![1, 1]));
    assert_eq!(render(9, &scene, &context), Err("task 7 is outside".to_owned()));
    assert_eq!(word((0, "-".into()), &context, &["a".to_owned()]).unwrap(), "a-7");
}

#[test]
fn the_trait_calls_the_function() {
    let context = TaskContext::standalone(1);
    assert_eq!(<double as Kernel>::call(3, &(), &context), Ok(6));
    assert_eq!(fibonacci::merge(1, 2), 3);
    assert_eq!(
        <render as Kernel>::call(5, &Scene { width: 1 }, &context),
        Err("task 1 is outside".to_owned())
    );
    let table = vec!["x".to_owned()];
    assert_eq!(
        <word as Kernel>::call((4, String::new()), &table, &context),
        Err("no such word".to_owned())
    );
    assert_eq!(word::merge("a".into(), "b".into()), "ab");
    assert_eq!(
        (
            <nothing as Kernel>::NAME,
            <nothing as Kernel>::call(0, &(), &context)
        ),
        ("nothing", Ok(()))
    );
}

#[test]
fn every_kernel_is_registered_and_listed() {
    let listing: Vec<u8> = KERNELS
        .iter()
        .flat_map(|entry| entry.listing())
        .copied()
        .collect();
    let mut lines = KernelLine::parse_section(&listing);
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["double", "fibonacci", "nothing", "render", "word"]);
    assert!(lines[1].reduces && !lines[0].reduces);
    assert_eq!(
        (lines[3].input.as_str(), lines[3].parameters.as_deref()),
        ("u64", Some("Scene"))
    );
    assert_eq!(lines[4].input, "(u64, String)");
}
