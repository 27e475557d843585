#![no_std]
#![doc = "Kernel memory management: frames, buddies, pages, slabs and a heap."]

#[cfg(feature = "mmap")]
extern crate std;

pub mod frame;
pub mod platform;

pub use frame::{Frame, FrameRange, Order, PhysAddr};
pub use platform::{CpuId, IrqState, Platform};
