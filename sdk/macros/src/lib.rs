//! The attribute macros of the crate `phalanx`: how a Rust function becomes a kernel, and a `main` a driver.
//!
//! Reading order: `signature` (what a kernel's signature may be), `expand` (what is made of it), `ranks` (the same of
//! what ranks run), `entry` (the
//! driver's `main`). Nothing here knows what a host or a cluster is.

use proc_macro::TokenStream;

mod entry;
mod expand;
mod ranks;
mod signature;

/// Makes a function a kernel, which jobs can map over inputs: `cluster.map::<function>(0..1000)`.
///
/// - The first parameter is the task's input, by value: an index (`u64`) or an item of a list.
/// - A parameter `&T` is shared by all tasks of a job and sent once to each worker; `T` has serde's two traits.
/// - A parameter `&TaskContext` tells a task its index and whether it was cancelled.
/// - It returns a value with serde's two traits, nothing, or a `Result` (written so, or as `some::path::Result`)
///   whose error has a text. An error or a panic fails that task alone.
///
/// The function stays what it was: it can be called, tested and passed on. Beside it stands a type of the same name, by
/// which a job names it. With `#[phalanx::kernel(reduce = function)]` results can be merged on the workers; the function
/// must be associative, and its first argument stands for the lower indices.
#[proc_macro_attribute]
pub fn kernel(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::kernel(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function one that the ranks of a gang run together: `cluster.ranks::<function>(4, &input)`.
///
/// - The first parameter is the `&Communicator`, by which it knows its rank and exchanges messages.
/// - A second one, by value, is what every rank is given; it has serde's two traits.
/// - It returns what a kernel may return. A rank's error or panic ends all.
///
/// The function stays what it was. Beside it stands a type of the same name, by which a job names it.
#[proc_macro_attribute]
pub fn ranks(arguments: TokenStream, item: TokenStream) -> TokenStream {
    ranks::ranks(&arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Turns `fn main(cluster: Cluster)` into the program's entry, which hosts kernels instead when a worker starts it.
///
/// The function takes the cluster or nothing, and returns what a `main` may return. An error is printed to stderr
/// with its causes.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
