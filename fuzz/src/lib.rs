//! What the fuzzers run: a string of bytes is decoded into calls, which are made and held against a
//! model.
//!
//! A target panics if kmem does what it must not: hands something out twice, loses something,
//! answers a wrong free otherwise than it should, or contradicts itself in `verify`. Each is one
//! function from bytes, so `tests/corpus.rs` replays in `cargo test` all that fuzzing has found
//! worth keeping.

pub mod arena;
pub mod corruption;
pub mod heap;
pub mod memory_map;
pub mod objects;
pub mod pages;

#[path = "../../tests/support/mod.rs"]
mod support;

use arbitrary::{Arbitrary, Unstructured};

/// The most calls in one run: each is followed by a recount of everything.
const MOST_CALLS: usize = 400;

/// The calls that `bytes` mean.
fn decode<'a, Call: Arbitrary<'a>>(bytes: &'a [u8]) -> impl Iterator<Item = Call> {
    let mut rest = Unstructured::new(bytes);
    let next = move || if rest.is_empty() { None } else { rest.arbitrary().ok() };
    std::iter::from_fn(next).take(MOST_CALLS)
}
