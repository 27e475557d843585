//! kmem's hand-offs between CPUs under a model checker.
//!
//! `gate` and `cpu_set` are the very files of the `kmem` crate (with one ordering weakened, if the
//! build script is told to); only `sync`, the one door through which they reach atomics, is another
//! one here: behind it stands `loom`, which tries every interleaving and every value that a weak
//! memory model lets a load return.
#![cfg(test)]
#![allow(dead_code, reason = "the models use a part of what the file offers")]

mod cpu_set {
    include!(concat!(env!("OUT_DIR"), "/cpu_set.rs"));
}
mod gate {
    include!(concat!(env!("OUT_DIR"), "/gate.rs"));
}
mod sync;

pub(crate) use kmem::platform;

mod machine;
mod reentrance;
mod visits;
