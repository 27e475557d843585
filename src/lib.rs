#![no_std]
#![doc = "Kernel memory management: frames, buddies, pages, slabs and a heap."]

#[cfg(any(feature = "mmap", test))]
extern crate std;

pub mod arena;
pub mod bitmap;
pub mod buddy;
pub mod check;
mod cpu_local;
pub mod frame;
pub mod lock;
pub mod memory_map;
pub mod page;
pub mod platform;
mod sync;
#[cfg(test)]
pub(crate) mod test_support;

pub use buddy::Buddy;
pub use frame::{Frame, FrameRange, Order, PhysAddr};
pub use memory_map::{MemoryMap, Region, RegionKind};
pub use page::AllocFlags;
pub use platform::{CpuId, IrqState, Pinning, Platform};
