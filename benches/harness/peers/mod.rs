//! The allocators that take part, each behind the same few functions.
//!
//! Where an allocator comes without a lock it is measured without one in the single-threaded
//! cases, which favours it over kmem, whose entry points may be called from every CPU; where two
//! threads share it, it stands behind a spin lock, as it does in the kernels that use it.

pub mod buddy_slab;
pub mod child;
pub mod cpu;
pub mod frames;
pub mod heaps;
pub mod kmem;
