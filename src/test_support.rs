//! A machine for tests: memory at any physical address, CPUs that are threads.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread_local;
use std::vec::Vec;

use crate::frame::{FRAME_SIZE, Frame, FrameRange, PhysAddr};
use crate::memory_map::Region;
use crate::page::{InitOptions, PageAllocator};
use crate::platform::{CpuId, IrqState, MAX_CPUS, Pinning, Platform};

/// The hook for violations belongs to the whole process: of the tests that set one, or have
/// violations, one runs at a time.
pub(crate) fn alone_with_hook() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames that lie somewhere in the test's own memory.
struct Window {
    frames: FrameRange,
    memory: *mut u8,
}

/// Physical memory in windows, and as many CPUs as there are threads.
///
/// The memory goes when the machine does; an allocator that owns its machine goes first.
pub(crate) struct Machine {
    windows: Vec<Window>,
    cpus: usize,
}

// SAFETY: the windows are fixed once the machine is made; what they point to is only reached
// through raw pointers, by those who own the frames.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

/// Memory of windows is aligned so that blocks of up to 2 MiB are aligned where they are mapped.
const ALIGN: usize = 2 << 20;

impl Machine {
    /// A machine with this memory and no other, all zero.
    pub(crate) fn new(windows: impl IntoIterator<Item = FrameRange>) -> Self {
        let window = |frames: FrameRange| {
            let layout = layout(frames);
            // SAFETY: windows have frames, so the layout has bytes.
            let memory = unsafe { alloc_zeroed(layout) };
            if memory.is_null() {
                handle_alloc_error(layout);
            }
            Window { frames, memory }
        };
        Self { windows: windows.into_iter().map(window).collect(), cpus: MAX_CPUS }
    }

    /// The same machine with one CPU, for a single thread.
    pub(crate) fn with_one_cpu(mut self) -> Self {
        self.cpus = 1;
        self
    }

    /// The bytes of `frames`, which lie in one window.
    ///
    /// # Safety
    ///
    /// Nobody writes them while the slice lives.
    pub(crate) unsafe fn bytes(&self, frames: FrameRange) -> &[u8] {
        let start = self.phys_to_virt(frames.start().start());
        // SAFETY: the window is as long as that, initialised, and the rest is passed on.
        unsafe { core::slice::from_raw_parts(start, frames.frames() * FRAME_SIZE) }
    }

    /// Writes `byte` all over `frames`, which lie in one window.
    ///
    /// # Safety
    ///
    /// They belong to the caller.
    pub(crate) unsafe fn fill(&self, frames: FrameRange, byte: u8) {
        let start = self.phys_to_virt(frames.start().start());
        // SAFETY: the window is as long as that, and the rest is passed on.
        unsafe { start.write_bytes(byte, frames.frames() * FRAME_SIZE) };
    }
}

fn layout(frames: FrameRange) -> Layout {
    Layout::from_size_align(frames.frames() * FRAME_SIZE, ALIGN).expect("windows are small")
}

impl Drop for Machine {
    fn drop(&mut self) {
        for window in &self.windows {
            // SAFETY: allocated with the same layout in `new`.
            unsafe { dealloc(window.memory, layout(window.frames)) };
        }
    }
}

thread_local! {
    /// Whether this "CPU" has its interrupts masked.
    static MASKED: Cell<bool> = const { Cell::new(false) };
    /// The number of this "CPU".
    static CPU: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % MAX_CPUS
    };
}

/// Whether the running thread has its interrupts masked.
pub(crate) fn interrupts_masked() -> bool {
    MASKED.get()
}

// SAFETY: windows are fixed and readable and writable, threads are CPUs, and nothing here calls
// kmem.
unsafe impl Platform for Machine {
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        let frame = Frame::containing(phys).expect("tests use low addresses");
        match self.windows.iter().find(|window| window.frames.contains(frame)) {
            Some(window) => {
                let offset = phys.as_u64() - window.frames.start().start().as_u64();
                window.memory.wrapping_add(offset as usize)
            }
            None => core::ptr::null_mut(),
        }
    }

    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        self.windows.iter().find_map(|window| {
            let offset = (virt as usize).checked_sub(window.memory as usize)? as u64;
            let inside = offset < window.frames.len_bytes();
            inside.then(|| PhysAddr::new(window.frames.start().start().as_u64() + offset))
        })
    }

    fn irq_save(&self) -> IrqState {
        IrqState(usize::from(MASKED.replace(true)))
    }

    unsafe fn irq_restore(&self, state: IrqState) {
        assert!(MASKED.replace(state.0 != 0), "restored without having been saved");
    }

    /// Threads are CPUs that never change, but nothing here makes them all pass a barrier.
    const PINNING: Pinning = Pinning::Migrating;

    fn cpu_id(&self) -> CpuId {
        CpuId::new(CPU.with(|&cpu| cpu) % self.cpus).expect("bounded above")
    }

    fn cpu_count(&self) -> usize {
        self.cpus
    }
}

/// A page allocator over `map`, on a machine with just `memory`.
#[track_caller]
pub(crate) fn booted(
    memory: FrameRange,
    map: &[Region],
    options: InitOptions,
) -> PageAllocator<Machine> {
    let pages = PageAllocator::new(Machine::new([memory]));
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init_with(map.iter().copied(), options) }.expect("the map has memory");
    pages
}

/// The frames from `start` up to `end`.
#[track_caller]
pub(crate) fn frames(start: usize, end: usize) -> FrameRange {
    FrameRange::new(frame(start), frame(end)).expect("start lies below end")
}

/// The frame with this number.
#[track_caller]
pub(crate) fn frame(number: usize) -> Frame {
    Frame::new(number).expect("tests use low numbers")
}
