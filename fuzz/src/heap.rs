//! Heap calls, `realloc` above all, against a list of what is allocated and what was written there.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::slice;

use arbitrary::Arbitrary;
use kmem::AllocFlags;
use kmem::heap::{Heap, HeapFreeError};
use kmem::memory_map::{Region, RegionKind};
use kmem::page::PageAllocator;

use super::support::Machine;

/// One call; numbers pick among what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Call {
    Allocate { size: Size, align: u8, zeroed: bool },
    Free { nth: u8 },
    FreeUnsized { nth: u8 },
    FreeTwice { nth: u8 },
    FreeInside { nth: u8, offset: u32 },
    Reallocate { nth: u8, size: Size, zeroed: bool },
    Reclaim,
}

/// Small, of a few frames, or as large as it comes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Size {
    Small(u8),
    Middle(u16),
    Large(u32),
    Any(usize),
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Self::Small(bytes) => bytes.into(),
            Self::Middle(bytes) => bytes.into(),
            Self::Large(bytes) => bytes as usize % (1 << 20),
            Self::Any(bytes) => bytes,
        }
    }
}

const FRAMES: usize = 600;

struct Block {
    memory: NonNull<u8>,
    layout: Layout,
    usable: usize,
    stamp: u8,
}

struct Model<'s> {
    heap: Heap<'s, PageAllocator<Machine>>,
    blocks: Vec<Block>,
    stamp: u8,
}

fn flags(zeroed: bool) -> AllocFlags {
    if zeroed { AllocFlags::ZERO } else { AllocFlags::empty() }
}

/// The bytes of a block, `len` of them.
///
/// # Safety
///
/// They are allocated and written, and nobody writes them while the slice lives.
unsafe fn bytes<'a>(memory: NonNull<u8>, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(memory.as_ptr(), len) }
}

impl Model<'_> {
    fn enter(&mut self, memory: NonNull<[u8]>, layout: Layout) {
        let (start, len) = (memory.cast::<u8>().addr().get(), memory.len());
        assert!(len >= layout.size() && start.is_multiple_of(layout.align()), "{layout:?}");
        for other in &self.blocks {
            let at = other.memory.addr().get();
            assert!(start + len <= at || at + other.usable <= start, "{start:#x}, {at:#x} overlap");
        }
        self.stamp = self.stamp.wrapping_add(1) | 1;
        // SAFETY: the heap says that all of it is the caller's.
        unsafe { memory.cast::<u8>().write_bytes(self.stamp, len) };
        let memory = memory.cast();
        self.blocks.push(Block { memory, layout, usable: len, stamp: self.stamp });
    }

    /// A block that the model gives up.
    fn leave(&mut self, nth: u8) -> Option<Block> {
        let nth = usize::from(nth).checked_rem(self.blocks.len())?;
        let block = self.blocks.swap_remove(nth);
        // SAFETY: the block is allocated, so long, and `enter` has written all of it.
        let bytes = unsafe { bytes(block.memory, block.usable) };
        assert!(bytes.iter().all(|&byte| byte == block.stamp), "{:p} written to", block.memory);
        Some(block)
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Allocate { size, align, zeroed } => {
                let layout = Layout::from_size_align(size.bytes(), 1 << (align % 16));
                let Ok(layout) = layout else { return };
                let Ok(memory) = self.heap.allocate(layout, flags(zeroed)) else { return };
                assert!(layout.size() > 0, "nothing was allocated");
                // SAFETY: zeroed, if this is asked.
                let is_zero =
                    || unsafe { bytes(memory.cast(), memory.len()) }.iter().all(|b| *b == 0);
                assert!(!zeroed || is_zero(), "{layout:?} is not zero");
                self.enter(memory, layout);
            }
            Call::Free { nth } => {
                let Some(block) = self.leave(nth) else { return };
                // SAFETY: the model has let go of it.
                unsafe { self.heap.deallocate(block.memory, block.layout) }.expect("allocated");
            }
            Call::FreeUnsized { nth } => {
                let Some(block) = self.leave(nth) else { return };
                // SAFETY: the model has let go of it.
                unsafe { self.heap.deallocate_unsized(block.memory) }.expect("allocated");
            }
            Call::FreeTwice { nth } => {
                let Some(block) = self.leave(nth) else { return };
                // SAFETY: the model has let go of it; the second is to be refused.
                let twice = unsafe {
                    self.heap.deallocate(block.memory, block.layout).expect("allocated");
                    self.heap.deallocate(block.memory, block.layout)
                };
                assert_eq!(twice, Err(HeapFreeError::NotAllocated));
            }
            Call::FreeInside { nth, offset } => {
                let Some(nth) = usize::from(nth).checked_rem(self.blocks.len()) else { return };
                let Block { memory, layout, usable, .. } = self.blocks[nth];
                // SAFETY: within the block, which has at least 8 bytes.
                let inside = unsafe { memory.add(1 + offset as usize % (usable - 1)) };
                let refusal = Err(HeapFreeError::NotAnObject { base: memory.addr().get() });
                // SAFETY: to be refused.
                assert_eq!(unsafe { self.heap.deallocate(inside, layout) }, refusal);
            }
            Call::Reallocate { nth, size, zeroed } => self.reallocate(nth, size.bytes(), zeroed),
            Call::Reclaim => _ = self.heap.reclaim(),
        }
    }

    fn reallocate(&mut self, nth: u8, size: usize, zeroed: bool) {
        let Some(nth) = usize::from(nth).checked_rem(self.blocks.len()) else { return };
        let Block { memory, layout: old, stamp, .. } = self.blocks[nth];
        let Ok(new) = Layout::from_size_align(size, old.align()) else { return };
        // SAFETY: the block is allocated, and the model does not use it during the call.
        let moved = unsafe { self.heap.reallocate(memory, old, new, flags(zeroed)) };
        let Ok(moved) = moved else { return };
        self.blocks.swap_remove(nth);
        // SAFETY: so many bytes were copied, or never moved.
        let kept = unsafe { bytes(moved.cast(), old.size().min(new.size())) };
        assert!(kept.iter().all(|&byte| byte == stamp), "{memory:p} lost its bytes");
        self.enter(moved, new);
    }
}

/// Makes the calls, and in the end gives everything back.
pub fn run(bytes: &[u8]) {
    let machine = Machine::new(FRAMES, 1);
    let region = Region::from_frames(machine.frames(), RegionKind::Usable);
    let pages = PageAllocator::new(machine);
    // SAFETY: the memory is the machine's, for nobody else.
    unsafe { pages.init([region]) }.expect("memory for the metadata");
    let mut model = Model { heap: Heap::new(&pages), blocks: Vec::new(), stamp: 0 };
    for call in super::decode(bytes) {
        model.call(call);
        model.heap.verify().expect("sound after each call");
        pages.verify().expect("sound after each call");
    }
    while !model.blocks.is_empty() {
        model.call(Call::Free { nth: 0 });
    }
    drop(model);
    let free = pages.frames_available() + pages.frames_kept();
    assert_eq!(free, pages.frames_managed(), "frames lost");
}
