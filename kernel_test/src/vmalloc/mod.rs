//! Large buffers for the kernel: contiguous addresses, made of whatever frames there are.
//!
//! The buddy allocator needs a block in one piece; after a while there may be none, though half the
//! memory is available. The page tables can make one: an [`Arena`] hands out addresses, the page
//! allocator single frames, and a [`Window`] maps these at those.
//!
//! ```text
//!   guard │ buffer A      │ guard │ buffer B │ guard │ available ...
//!         └─ a segment of the arena ─┘
//! ```
//!
//! Each segment is one page longer than its buffer, and that page is never mapped. So on both sides
//! of every buffer lies a **guard page**, and who runs over its end meets a page fault instead of
//! somebody else's data.
//!
//! A buffer's pages are unmapped, then forgotten by every CPU, then the frames go back, then the
//! addresses: whoever is given any of it next finds that nobody else reaches it.

mod window;

use core::ops::{Deref, DerefMut, Range};
use core::ptr::with_exposed_provenance_mut;

use kmem::arena::{self, Arena, Config, Fit, Segment, Stats};
use kmem::frame::FRAME_SIZE;
use kmem::page::AllocError;
use kmem::{AllocFlags, Frame, Order};
use spin::{Mutex, MutexGuard, Once};

use crate::memory::PAGES;
use crate::tlb;
use window::Window;

const PAGE: u64 = FRAME_SIZE as u64;

/// Where buffers are mapped: 64 MiB, far from everything that the boot loader maps and from stacks.
pub(crate) const ADDRESSES: Range<u64> = 0xffff_e000_0000_0000..0xffff_e000_0400_0000;

/// Records of segments: enough for 500 buffers, wherever they lie.
static RECORDS: Mutex<[Segment; 1024]> = Mutex::new([Segment::SPARE; 1024]);

/// Why there is no buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VmallocError {
    /// No addresses.
    Addresses(arena::AllocError),
    /// No frames.
    Frames(AllocError),
}

/// What hands out buffers. Not for handlers: its lock does not mask interrupts.
pub(crate) struct Vmalloc {
    addresses: Mutex<Arena<'static>>,
    window: Window,
}

/// The kernel's.
///
/// # Panics
///
/// There are not enough frames for the tables of [`ADDRESSES`].
pub(crate) fn kernel() -> &'static Vmalloc {
    static KERNEL: Once<Vmalloc> = Once::new();
    KERNEL.call_once(|| {
        // SAFETY: nobody else uses these addresses, and all other tables are laid at boot.
        let window = unsafe { Window::new(ADDRESSES) }.expect("frames for tables");
        let records = MutexGuard::leak(RECORDS.try_lock().expect("this is done once"));
        let config = Config::new("vmalloc", PAGE, Fit::Instant);
        let mut addresses = Arena::new(config, records).expect("a sound configuration");
        // The first page is the guard below the first buffer.
        addresses.add(ADDRESSES.start + PAGE..ADDRESSES.end).expect("an empty arena");
        Vmalloc { addresses: Mutex::new(addresses), window }
    })
}

impl Vmalloc {
    /// A buffer of `len_bytes` zeros.
    ///
    /// # Errors
    ///
    /// There are not as many addresses in one piece, with a guard page, or not as many frames. All
    /// is as before.
    pub(crate) fn alloc(&self, len_bytes: usize) -> Result<Buffer<'_>, VmallocError> {
        let start = self.reserve(len_bytes as u64).map_err(VmallocError::Addresses)?;
        // From here on, dropping it gives back what it has so far.
        let mut buffer = Buffer { vmalloc: self, start, mapped: 0, len_bytes };
        for _ in 0..len_bytes.div_ceil(FRAME_SIZE) {
            let frame = PAGES.alloc(Order::ZERO, AllocFlags::ZERO).map_err(VmallocError::Frames)?;
            self.window.map(start + buffer.mapped, frame);
            buffer.mapped += PAGE;
        }
        Ok(buffer)
    }

    /// Addresses for `len_bytes` and a guard page behind.
    fn reserve(&self, len_bytes: u64) -> Result<u64, arena::AllocError> {
        let mut addresses = self.addresses.lock();
        let len = addresses.round_up(len_bytes)?;
        let too_long = arena::AllocError::TooLong { len: len_bytes };
        addresses.alloc(len.checked_add(PAGE).ok_or(too_long)?)
    }

    /// What the page at `address` is mapped to.
    pub(crate) fn frame_at(&self, address: u64) -> Option<Frame> {
        self.window.frame_at(address)
    }

    /// How many addresses are in use, guard pages included, and how many are not.
    pub(crate) fn stats(&self) -> Stats {
        self.addresses.lock().stats()
    }

    /// Recounts the arena's invariants.
    pub(crate) fn verify(&self) -> Result<(), arena::Corruption> {
        self.addresses.lock().verify()
    }
}

/// Memory at contiguous addresses. Dropping it gives frames and addresses back.
pub(crate) struct Buffer<'v> {
    vmalloc: &'v Vmalloc,
    /// Where its segment, and the buffer itself, begins.
    start: u64,
    /// Bytes from there on that are mapped: all of them, once it is in the caller's hands.
    mapped: u64,
    len_bytes: usize,
}

impl Buffer<'_> {
    /// The addresses of its pages.
    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        (self.start..self.start + self.mapped).step_by(FRAME_SIZE)
    }

    /// The frames of its pages, in the order of addresses.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame> {
        self.pages().filter_map(|page| self.vmalloc.frame_at(page))
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = with_exposed_provenance_mut::<u8>(self.start as usize);
        // SAFETY: each of its pages is mapped to a frame that is this buffer's alone, zeroed or
        // written since, until it is dropped. The arena has handed the addresses out to
        // nobody else.
        unsafe { core::slice::from_raw_parts(start, self.len_bytes) }
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = with_exposed_provenance_mut::<u8>(self.start as usize);
        // SAFETY: as for `deref`.
        unsafe { core::slice::from_raw_parts_mut(start, self.len_bytes) }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let window = &self.vmalloc.window;
        self.pages().for_each(|page| window.hide(page));
        if self.mapped > 0 {
            assert!(tlb::forget_everywhere(), "a CPU does not answer, and may write to the frames");
        }
        for page in self.pages() {
            PAGES.free(window.take(page), Order::ZERO).expect("a frame of this buffer");
        }
        self.vmalloc.addresses.lock().free_at(self.start).expect("a segment of this buffer");
    }
}
