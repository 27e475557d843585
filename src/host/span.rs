//! Ranges of addresses from the operating system.
//!
//! A [`Span`] is reserved first, which costs neither memory nor, without access rights, the
//! system's promise of any; then opened from its start in steps. What is opened is zero, and
//! takes memory only where it is touched.

use core::ops::Range;
use core::ptr::{self, NonNull};
use core::slice;

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use super::platform::{MAX_BYTES, MAX_SPAN_BYTES};
use super::system::{self, Limit, limit};
use crate::frame::{FRAME_SIZE, Frame, Order};

/// What a span's ends, and those of what is opened of it, are multiples of: a huge page of the
/// machine,
pub(super) const GRAIN: Order = match Order::for_bytes(2 << 20) {
    Some(order) => order,
    None => Order::MAX,
};

/// in bytes.
pub(super) const GRAIN_BYTES: usize = GRAIN.frames() * FRAME_SIZE;

/// The part of a limited address space that one span may take: the rest is for thread stacks, files
/// and later spans.
const LIMITED_PART: usize = 8;

/// How much longer than a part of what a process may write to that may be for which metadata are
/// laid out: they take less than this part of it.
const DATA_TIMES: usize = 256;

/// A reserved range of addresses, opened up to some point.
#[derive(Debug)]
pub(super) struct Span {
    /// The address of the first reserved byte.
    start: usize,
    /// The address behind the last opened byte.
    opened: usize,
    /// The address behind the last reserved byte.
    end: usize,
}

impl Span {
    /// A span in which nothing can be opened.
    pub(super) const EMPTY: Self = Self { start: 0, opened: 0, end: 0 };

    /// Reserves as much as is wanted, no more than `most_bytes`, or half of that, and so on, but
    /// not less than `least_bytes`; `None` if the system refuses even this. If it can be had,
    /// it ends at `below`, so that it joins what lies there.
    pub(super) fn reserve(least_bytes: usize, most_bytes: usize, below: usize) -> Option<Self> {
        let least_bytes = least_bytes.checked_next_multiple_of(GRAIN_BYTES)?;
        let most_bytes = most_bytes & !(GRAIN_BYTES - 1);
        let mut bytes = wish_bytes().min(most_bytes).max(least_bytes);
        loop {
            if let Some(start) = map_below(bytes, below).or_else(|| map_aligned(bytes)) {
                return Some(Self { start, opened: start, end: start + bytes });
            }
            if bytes == least_bytes {
                return None;
            }
            bytes = ((bytes / 2) & !(GRAIN_BYTES - 1)).max(least_bytes);
        }
    }

    /// The address of the first reserved byte.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Gives the addresses back that were never opened.
    pub(super) fn give_up(&mut self) {
        unmap(self.opened, self.end);
        self.end = self.opened;
    }

    /// Bytes that are reserved, opened ones included.
    pub(super) fn len_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that can still be opened.
    pub(super) fn left_bytes(&self) -> usize {
        self.end - self.opened
    }

    /// The addresses that can still be opened.
    pub(super) fn rest(&self) -> Range<usize> {
        self.opened..self.end
    }

    /// Asks the system to back what is opened by huge pages, where it can, from now on; `false` if
    /// it has none.
    pub(super) fn use_huge_pages(&self) -> bool {
        let bytes = self.end - self.start;
        // SAFETY: the range is this span's own mapping; the advice changes no content.
        unsafe {
            mm::madvise(ptr::with_exposed_provenance_mut(self.start), bytes, Advice::LinuxHugepage)
        }
        .is_ok()
    }

    /// Opens the next `bytes` bytes, rounded up to [`GRAIN_BYTES`]: zero, readable and writable
    /// until the process ends. `None`, and nothing changed, if so many are not left or the
    /// system refuses.
    pub(super) fn open(&mut self, bytes: usize) -> Option<Range<usize>> {
        let bytes = bytes.checked_next_multiple_of(GRAIN_BYTES)?;
        if bytes > self.left_bytes() {
            return None;
        }
        let closed = ptr::with_exposed_provenance_mut(self.opened);
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range lies in this span's own mapping, behind everything that was opened, so
        // no reference to any of it exists.
        unsafe { mm::mprotect(closed, bytes, access) }.ok()?;
        let start = self.opened;
        self.opened += bytes;
        Some(start..self.opened)
    }
}

/// Gives memory to `bytes` bytes from `start` on, which were opened, as a write to each page would,
/// and changes nothing of what they read as; `false` if the system cannot, or not in one go.
pub(super) fn populate(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: this changes no contents, also where somebody uses the pages.
    unsafe { mm::madvise(start.cast(), bytes, Advice::LinuxPopulateWrite) }.is_ok()
}

/// Takes the memory away from `bytes` bytes from `start` on, which read as zero when touched again;
/// `false` if the system refuses.
///
/// # Safety
///
/// They were opened, and nobody else uses them or cares for what is in them.
pub(super) unsafe fn purge(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: the caller says that this is a mapping of ours and unused.
    unsafe { mm::madvise(start.cast(), bytes, Advice::LinuxDontNeed) }.is_ok()
}

/// Linux's `MREMAP_DONTUNMAP`, by number: of rustix's two backends, that which interpreters use
/// does not name it.
const DONTUNMAP: MremapFlags = MremapFlags::from_bits_retain(4);

/// Makes the addresses `to` mean what `from` means, and `from` zero; `false`, and `from` has not
/// changed, if the system refuses, or if it would. What `to` holds then is undefined.
///
/// # Safety
///
/// Both were opened and have `bytes` bytes; nobody else uses them or cares for what is in `to`.
pub(super) unsafe fn move_pages(from: *mut u8, to: *mut u8, bytes: usize) -> bool {
    // The system takes away what lies at `to` before it looks at limits. Of them a process may be
    // beyond, since it got one later.
    if limit(Limit::Addresses).is_some() || limit(Limit::Data).is_some() {
        return false;
    }
    // What is not zero in `to` from here on was moved there.
    // SAFETY: the caller says that this is a mapping of ours and that nobody cares for its content.
    if !unsafe { purge(to, bytes) } {
        return false;
    }
    let flags = MremapFlags::MAYMOVE | DONTUNMAP;
    // SAFETY: the caller says that both are mappings of ours; `from` stays mapped.
    let moved = unsafe { mm::mremap_fixed(from.cast(), bytes, bytes, flags, to.cast()) };
    if moved.is_err() {
        // SAFETY: the caller says that both are mappings of ours; `to` was zero.
        unsafe { move_back(from, to, bytes) };
    }
    moved.is_ok()
}

/// Undoes a move that the system gave up: since Linux 6.17 what was moved before may be several
/// mappings, of which it moves one after the other, and those that it has moved stay moved. It may
/// have left a hole where it meant to move the next.
///
/// # Safety
///
/// Both were opened and have `bytes` bytes; nobody else uses them; all of `to` was zero before.
#[cold]
unsafe fn move_back(from: *mut u8, to: *mut u8, bytes: usize) {
    const ZEROS: [u8; FRAME_SIZE] = [0; FRAME_SIZE];
    let mut hole_bytes = 0;
    for offset in (0..bytes).step_by(FRAME_SIZE) {
        // SAFETY: the caller says that both have so many bytes, whole pages, and that they are
        // ours; what is read is mapped.
        unsafe {
            let (from, to) = (from.add(offset), to.add(offset));
            if !is_mapped(to) {
                hole_bytes += FRAME_SIZE;
                continue;
            }
            if slice::from_raw_parts(to, FRAME_SIZE) != ZEROS {
                from.copy_from_nonoverlapping(to, FRAME_SIZE);
            }
            map_anew(to.sub(hole_bytes), hole_bytes);
        }
        hole_bytes = 0;
    }
    // SAFETY: as above.
    unsafe { map_anew(to.add(bytes - hole_bytes), hole_bytes) };
}

/// Whether anything is mapped at a page.
fn is_mapped(page: *mut u8) -> bool {
    // SAFETY: this is how pages are treated anyway, and it changes no content.
    let told = unsafe { mm::madvise(page.cast(), FRAME_SIZE, Advice::Normal) };
    told != Err(Errno::NOMEM)
}

/// Maps `bytes` bytes from `start` on, zero, whether or not anything is mapped there. Ends the
/// process if that cannot be: the addresses are in use, and the system has taken their memory away.
///
/// # Safety
///
/// They were opened, and nobody cares for what is in them.
#[cold]
unsafe fn map_anew(start: *mut u8, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the caller says that the addresses are ours.
    if unsafe { mm::mmap_anonymous(start.cast(), bytes, access, flags) }.is_err() {
        system::stop(format_args!(
            "kmem: the system took memory away when it should have moved it"
        ));
    }
}

/// Zero memory for good, outside every span.
pub(super) fn map_zeroed(bytes: usize) -> Option<NonNull<u8>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: the mapping is new; without `FIXED` it replaces no other.
    let start = unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, access, flags) };
    NonNull::new(start.ok()?.cast())
}

/// How much is reserved at a time, if it can be had.
fn wish_bytes() -> usize {
    let part = limit(Limit::Addresses).map_or(MAX_SPAN_BYTES, |bytes| bytes / LIMITED_PART);
    part.min(written_bytes()).clamp(GRAIN_BYTES, MAX_SPAN_BYTES) & !(GRAIN_BYTES - 1)
}

/// How much all spans together can be expected to have: as much as the process may have addresses,
/// where that is limited, for one span is a part of it.
pub(super) fn reach_bytes() -> usize {
    let addresses = limit(Limit::Addresses).unwrap_or(0).min(MAX_BYTES);
    addresses.min(written_bytes()) & !(GRAIN_BYTES - 1)
}

/// Of how much memory the metadata may be laid out at once: what may be written to is limited
/// apart, and at first that is the metadata.
fn written_bytes() -> usize {
    limit(Limit::Data).map_or(usize::MAX, |bytes| (bytes / LIMITED_PART).saturating_mul(DATA_TIMES))
}

/// Reserves `bytes` bytes that end at `below`, if nothing lies there; says where they start.
fn map_below(bytes: usize, below: usize) -> Option<usize> {
    let wanted = below.checked_sub(bytes).filter(|&start| start > 0)?;
    let start = map(wanted, bytes)?;
    if start == wanted {
        return Some(start);
    }
    unmap(start, start + bytes);
    None
}

/// Reserves `bytes` bytes from a multiple of [`GRAIN_BYTES`] on; says where they start.
fn map_aligned(bytes: usize) -> Option<usize> {
    let padded = bytes.checked_add(GRAIN_BYTES)?;
    let base = map(0, padded)?;
    let start = base.next_multiple_of(GRAIN_BYTES);
    unmap(base, start);
    unmap(start + bytes, base + padded);
    Some(start)
}

/// Reserves `bytes` bytes where the system chooses, perhaps at `wanted`.
fn map(wanted: usize, bytes: usize) -> Option<usize> {
    let wanted = ptr::without_provenance_mut(wanted);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: the mapping is new; without `FIXED` it replaces no other.
    let base = unsafe { mm::mmap_anonymous(wanted, bytes, ProtFlags::empty(), flags) };
    // Exposed: the Platform makes pointers from the addresses alone.
    Some(base.ok()?.expose_provenance())
}

/// Gives back the mapping from `start` up to `end`, part of one that was just made, or that was
/// never opened.
fn unmap(start: usize, end: usize) {
    debug_assert!(start.is_multiple_of(FRAME_SIZE) && end.is_multiple_of(FRAME_SIZE));
    if start < end {
        // SAFETY: nobody has been told of these addresses. Should the system refuse, they stay
        // reserved and unused.
        let _ = unsafe { mm::munmap(ptr::with_exposed_provenance_mut(start), end - start) };
    }
}

/// How much is to be opened from a frame on so that a block is among it in which `frames` frames
/// find room, and something beside it for reserves.
pub(super) fn bytes_for_block(from: Frame, frames: usize) -> Option<usize> {
    let order = Order::for_frames(frames)?;
    let end = from.align_up(order)?.checked_add(order.frames())?;
    end.checked_offset_from(from)?.checked_mul(FRAME_SIZE)?.checked_add(GRAIN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_for_a_block_has_a_whole_one_and_no_second() {
        // Longer than half of 1024 frames: the block has all of them.
        for from in [0, 1, 512, 1023, 1024, 5000] {
            let from = Frame::new(from).expect("a frame");
            for frames in [513, 768, 1024] {
                let bytes = bytes_for_block(from, frames).expect("no block is too long");
                let opened = (bytes - GRAIN_BYTES) / FRAME_SIZE;
                let (start, end) = (from.number().next_multiple_of(1024), from.number() + opened);
                assert_eq!(end, start + 1024, "{frames} frames from {from}");
            }
        }
        assert_eq!(bytes_for_block(Frame::MAX, 1), None);
        assert_eq!(bytes_for_block(Frame::ZERO, Order::MAX.frames() + 1), None);
    }

    #[test]
    fn a_span_opens_in_steps_and_reads_as_zero() {
        let mut span = Span::reserve(GRAIN_BYTES, usize::MAX, 0).expect("the system has addresses");
        let reserved = span.left_bytes();
        assert!(reserved >= GRAIN_BYTES && reserved.is_multiple_of(GRAIN_BYTES));
        let first = span.open(1).expect("the system has memory");
        let second = span.open(GRAIN_BYTES).expect("the system has memory");
        assert_eq!(first.len(), GRAIN_BYTES);
        assert_eq!(first.end, second.start);
        assert_eq!(span.left_bytes(), reserved - 2 * GRAIN_BYTES);
        assert_eq!(span.rest().start, second.end);
        for range in [first, second] {
            let bytes: *mut u8 = ptr::with_exposed_provenance_mut(range.start);
            // SAFETY: the range was opened above and belongs to this test.
            unsafe {
                assert_eq!(bytes.read(), 0);
                bytes.write(1);
                assert!(purge(bytes, range.len()));
                assert_eq!(bytes.read(), 0);
            }
        }
    }

    #[test]
    fn a_span_joins_the_one_above_it_where_there_is_room() {
        let above = Span::reserve(GRAIN_BYTES, usize::MAX, 0).expect("the system has addresses");
        let below = Span::reserve(GRAIN_BYTES, usize::MAX, above.start())
            .expect("the system has addresses");
        // Where there is none it lies elsewhere, but never over the other.
        assert!(below.rest().end <= above.start() || above.rest().end <= below.start());
    }

    #[test]
    fn a_span_opens_to_its_last_byte() {
        let bytes = 2 * GRAIN_BYTES;
        let mut span = Span::reserve(bytes, bytes, 0).expect("the system has addresses");
        assert_eq!((span.len_bytes(), span.left_bytes()), (bytes, bytes));
        for left in [GRAIN_BYTES, 0] {
            assert!(span.open(GRAIN_BYTES).is_some(), "{left} bytes would be left");
            assert_eq!(span.left_bytes(), left);
        }
        assert!(span.open(1).is_none());
    }

    #[test]
    fn addresses_that_were_never_opened_go_back() {
        let mut span = Span::reserve(GRAIN_BYTES, usize::MAX, 0).expect("the system has addresses");
        let opened = span.open(1).expect("the system has memory");
        // In the middle, where nobody else's mapping comes at once.
        let middle = span.rest().start + span.left_bytes() / 2 / FRAME_SIZE * FRAME_SIZE;
        let is_mapped = |address| is_mapped(ptr::without_provenance_mut(address));
        assert!(is_mapped(opened.start) && is_mapped(middle));
        span.give_up();
        assert!(is_mapped(opened.start) && !is_mapped(middle));
    }

    #[test]
    fn more_than_there_is_cannot_be_had() {
        assert!(Span::reserve(usize::MAX, usize::MAX, 0).is_none());
        assert!(Span::reserve(1 << 60, usize::MAX, 0).is_none());
        let mut span = Span::reserve(GRAIN_BYTES, usize::MAX, 0).expect("the system has addresses");
        let left = span.left_bytes();
        assert!(span.open(left + 1).is_none());
        assert!(span.open(usize::MAX).is_none());
        assert_eq!(span.left_bytes(), left);
        span.give_up();
        assert!(span.left_bytes() == 0 && span.open(1).is_none());
        let mut empty = Span::EMPTY;
        assert!(empty.open(1).is_none());
    }
}
