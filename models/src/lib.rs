//! kmem's hand-offs between CPUs under a model checker.
//!
//! The modules below are the very files of the `kmem` crate; only `sync`, the one door through
//! which they reach atomics, is another one here: behind it stands `loom`, which tries every
//! interleaving and every value that a weak memory model lets a load return.
#![cfg(test)]
#![allow(dead_code, reason = "the models use a part of what the files offer")]

#[path = "../../src/cpu_local.rs"]
mod cpu_local;
#[path = "../../src/frame.rs"]
mod frame;
#[path = "../../src/platform.rs"]
mod platform;
mod sync;

mod hand_off;
mod machine;
mod reentrance;
