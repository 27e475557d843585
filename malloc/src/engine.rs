//! What meets requests: kmem's heap over `mmap`, or an arena where one was chosen, and a reserve
//! for signal handlers.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use crate::options::{Engine, Options};
use crate::text::{STDERR, say};
use crate::{arenas, reserve};
use kmem::arena::{Corruption, SegmentState};
use kmem::check::Violation;
use kmem::heap::{HeapFreeError, ReallocError};
use kmem::host::{HostFault, MmapAllocator};
use kmem::page::AllocFlags;

/// kmem's allocator of this process.
const KMEM: MmapAllocator = MmapAllocator::new();

/// What a new block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    Undefined,
    Zero,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    bytes: usize,
    alignment: usize,
    contents: Contents,
}

impl Request {
    /// `bytes` bytes, aligned to what any object of that size can need.
    #[inline(always)]
    pub(crate) const fn of(bytes: usize) -> Self {
        Self { bytes, alignment: if bytes <= 8 { 8 } else { 16 }, contents: Contents::Undefined }
    }

    /// The same, aligned to at least `alignment`, a power of two.
    #[inline]
    pub(crate) const fn aligned_to(self, alignment: usize) -> Self {
        let least = self.alignment;
        Self { alignment: if alignment > least { alignment } else { least }, ..self }
    }

    /// The same, cleared.
    #[inline(always)]
    pub(crate) const fn zeroed(self) -> Self {
        Self { contents: Contents::Zero, ..self }
    }

    /// The same with so many bytes more; `None` if no block can be that large.
    pub(crate) const fn grown_by(self, bytes: usize) -> Option<Self> {
        match self.bytes.checked_add(bytes) {
            Some(bytes) => {
                let grown = Self::of(bytes).aligned_to(self.alignment);
                Some(Self { contents: self.contents, ..grown })
            }
            None => None,
        }
    }

    #[inline(always)]
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    pub(crate) const fn alignment(self) -> usize {
        self.alignment
    }

    pub(crate) const fn contents(self) -> Contents {
        self.contents
    }

    /// As Rust's traits say it; `None` if no block can be that large.
    #[inline(always)]
    pub(crate) fn layout(self) -> Option<Layout> {
        Layout::from_size_align(self.bytes.max(1), self.alignment).ok()
    }

    #[inline(always)]
    fn flags(self) -> AllocFlags {
        match self.contents {
            Contents::Undefined => AllocFlags::empty(),
            Contents::Zero => AllocFlags::ZERO,
        }
    }
}

/// Takes from the options what concerns the heap, and chooses the engine.
pub(crate) fn configure(options: &Options) {
    KMEM.set_trim_delay(options.purge_delay);
    if options.huge_pages.is_yes() && !KMEM.use_huge_pages() {
        say(STDERR, format_args!("kmem: the system has no huge pages to give; small ones serve"));
    }
    if let Engine::Arena(fit) = options.engine
        && !arenas::choose(fit)
    {
        say(STDERR, format_args!("kmem: no memory for the engine; slab serves"));
    }
}

/// Has every call come to the functions below that are no hits.
pub(crate) fn hold_hits_back() {
    KMEM.hold_hits_back();
}

/// Ends what [`hold_hits_back`] began.
pub(crate) fn allow_hits() {
    KMEM.allow_hits();
}

/// Whether this call comes from a signal handler on top of one that holds a lock of the heap.
#[inline]
pub(crate) fn is_interrupted() -> bool {
    KMEM.is_interrupted()
}

/// A block of undefined contents from what this thread has at hand.
#[inline(always)]
pub(crate) fn allocate_hit(bytes: usize) -> Option<NonNull<u8>> {
    KMEM.allocate_hit(bytes)
}

/// As [`allocate_hit`], of a small block: to be tried before that where most are.
#[inline(always)]
pub(crate) fn allocate_small_hit(bytes: usize) -> Option<NonNull<u8>> {
    KMEM.allocate_small_hit(bytes)
}

/// Frees a block to what this thread has at hand; `false`, and nothing has changed, if that cannot
/// be.
///
/// # Safety
///
/// If the block is allocated, nobody uses it any more.
#[inline(always)]
pub(crate) unsafe fn free_hit(block: *mut u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { KMEM.deallocate_hit(block) }
}

/// As [`allocate_hit`], with a second look at what this thread has: to be tried when that has
/// failed.
#[inline]
pub(crate) fn allocate_second_hit(bytes: usize) -> Option<NonNull<u8>> {
    KMEM.allocate_second_hit(bytes)
}

/// As [`free_hit`], with a second look at what this thread has: to be tried when that has failed.
///
/// # Safety
///
/// As there.
#[inline]
pub(crate) unsafe fn free_second_hit(block: *mut u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { KMEM.deallocate_second_hit(block) }
}

/// A block from the heap.
#[inline]
pub(crate) fn allocate(request: Request) -> Option<NonNull<u8>> {
    if is_interrupted() {
        return reserve::allocate(request);
    }
    let block = KMEM.allocate(request.layout()?, request.flags()).ok()?;
    Some(block.cast())
}

/// A block from the engine that was chosen.
#[inline(never)]
pub(crate) fn allocate_slowly(request: Request) -> Option<NonNull<u8>> {
    if !arenas::is_chosen() {
        return allocate(request);
    }
    if is_interrupted() {
        return reserve::allocate(request);
    }
    arenas::allocate(request)
}

/// Frees a block, or says what was wrong.
///
/// # Safety
///
/// If the block is allocated, nobody uses it any more.
pub(crate) unsafe fn free_slowly(block: NonNull<u8>) -> Result<(), Violation<'static>> {
    if let Some(freed) = reserve::free(block) {
        return freed;
    }
    if is_interrupted() {
        reserve::defer(block);
        return Ok(());
    }
    if arenas::is_chosen()
        && let Some(freed) = arenas::free(block)
    {
        return freed;
    }
    // SAFETY: the caller's promise.
    unsafe { KMEM.deallocate(block) }.map_err(violation(block))
}

fn violation(block: NonNull<u8>) -> impl Fn(HeapFreeError) -> Violation<'static> {
    move |error| error.violation(block.addr().get())
}

/// The block that came of one that was to have another size; `None`, and nothing has changed, if
/// there is no memory.
pub(crate) type Moved = Result<Option<NonNull<u8>>, Violation<'static>>;

/// Gives a block another size, perhaps elsewhere; `None`, and nothing has changed, if there is no
/// memory.
///
/// # Safety
///
/// As [`free_slowly`], if this succeeds.
#[inline(always)]
pub(crate) unsafe fn reallocate(old: NonNull<u8>, request: Request) -> Moved {
    // SAFETY: the caller's promise.
    if let Some(usable) = unsafe { usable_hit(old) } {
        if request.bytes <= usable && request.bytes > usable / 2 {
            return Ok(Some(old));
        }
        if let Some(new) = allocate_hit(request.bytes) {
            // SAFETY: both blocks have so many bytes and are different ones; the old one is the
            // caller's.
            unsafe {
                new.copy_from_nonoverlapping(old, usable.min(request.bytes));
                return if free_hit(old.as_ptr()) { Ok(Some(new)) } else { replace(old, new) };
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { reallocate_slowly(old, request) }
}

/// # Safety
///
/// As [`reallocate`].
#[cold]
#[inline(never)]
unsafe fn reallocate_slowly(old: NonNull<u8>, request: Request) -> Moved {
    let Some(layout) = request.layout() else {
        // SAFETY: the caller's promise.
        return unsafe { usable_bytes(old) }.map(|_| None);
    };
    if is_interrupted() || reserve::usable_bytes(old).is_some() {
        // SAFETY: the caller's promise.
        return unsafe { move_to_new(old, request) };
    }
    // SAFETY: the caller's promise.
    match unsafe { KMEM.reallocate(old, layout) } {
        Ok(block) => Ok(Some(block.cast())),
        Err(ReallocError::Free(error)) => Err(violation(old)(error)),
        Err(_) => Ok(None),
    }
}

/// As [`reallocate`], by the engine that was chosen.
///
/// # Safety
///
/// As there.
#[inline(never)]
pub(crate) unsafe fn reallocate_by_engine(old: NonNull<u8>, request: Request) -> Moved {
    if !arenas::is_chosen() {
        // SAFETY: the caller's promise.
        return unsafe { reallocate(old, request) };
    }
    if request.layout().is_none() {
        // SAFETY: the caller's promise.
        return unsafe { usable_bytes(old) }.map(|_| None);
    }
    if !is_interrupted()
        && let Some(is_resized) = arenas::resize(old, request)
        && is_resized?
    {
        return Ok(Some(old));
    }
    // SAFETY: the caller's promise.
    unsafe { move_to_new(old, request) }
}

/// # Safety
///
/// As [`reallocate`].
unsafe fn move_to_new(old: NonNull<u8>, request: Request) -> Moved {
    // SAFETY: the caller's promise.
    let kept_bytes = unsafe { usable_bytes(old) }?.min(request.bytes);
    let Some(new) = allocate_slowly(request) else { return Ok(None) };
    // SAFETY: both blocks have so many bytes and are different ones; the old one is the caller's.
    unsafe {
        new.copy_from_nonoverlapping(old, kept_bytes);
        replace(old, new)
    }
}

/// Frees a block whose content a new one has. Where that is refused, since another thread has freed
/// it meanwhile, the new one goes back: nobody would get to know of it.
///
/// # Safety
///
/// As [`free_slowly`]; nobody uses the new block yet.
unsafe fn replace(old: NonNull<u8>, new: NonNull<u8>) -> Moved {
    // SAFETY: the caller's promise.
    if let Err(violation) = unsafe { free_slowly(old) } {
        // SAFETY: allocated for this, and told to nobody.
        let _ = unsafe { free_slowly(new) };
        return Err(violation);
    }
    Ok(Some(new))
}

/// As [`reallocate`], for a signal handler: what is to be known of the old block cannot be had, and
/// the new one is not to be known.
///
/// # Safety
///
/// As there.
#[cold]
pub(crate) unsafe fn move_to_reserve(old: NonNull<u8>, request: Request) -> Moved {
    // SAFETY: the caller's promise.
    let kept_bytes = unsafe { usable_bytes(old) }?.min(request.bytes);
    let Some(new) = reserve::allocate(request) else { return Ok(None) };
    // SAFETY: both blocks have so many bytes and are different ones; the old one is the caller's.
    unsafe { new.copy_from_nonoverlapping(old, kept_bytes) };
    reserve::defer(old);
    Ok(Some(new))
}

/// Bytes of a block that its owner may use, if that can be said at once.
///
/// # Safety
///
/// As [`usable_bytes`].
#[inline(always)]
pub(crate) unsafe fn usable_hit(block: NonNull<u8>) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe { KMEM.usable_hit(block) }
}

/// Bytes of a block that its owner may use.
///
/// # Safety
///
/// If the block is allocated, nobody else gives it back meanwhile.
pub(crate) unsafe fn usable_bytes(block: NonNull<u8>) -> Result<usize, Violation<'static>> {
    if let Some(usable) = reserve::usable_bytes(block) {
        return usable;
    }
    if arenas::is_chosen()
        && let Some(usable) = arenas::usable_bytes(block)
    {
        return usable;
    }
    // SAFETY: the caller's promise: while the block is allocated its slab stays.
    unsafe { KMEM.heap().usable_bytes(block) }.map_err(violation(block))
}

/// Gives back to the system what can be; how many bytes.
pub(crate) fn trim() -> usize {
    if is_interrupted() {
        return 0;
    }
    arenas::trim() + KMEM.trim()
}

/// From now on it is this library's to tell kmem of forks: to be called before the first request.
pub(crate) fn leave_forks_to_caller() {
    KMEM.leave_forks_to_caller();
}

/// Before the process is copied: nobody is inside the heap after this, unless it answers `false`.
pub(crate) fn try_before_fork() -> bool {
    KMEM.try_before_fork()
}

/// In the process that was copied.
pub(crate) fn after_fork_in_parent() {
    KMEM.after_fork_in_parent();
}

/// In the copy.
///
/// # Safety
///
/// It is one, and has only the thread that asked for it.
pub(crate) unsafe fn after_fork_in_child() {
    // SAFETY: the caller's promise.
    unsafe { KMEM.after_fork_in_child() };
}

/// How full the heap is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) live_bytes: usize,
    pub(crate) held_bytes: usize,
    pub(crate) large_blocks: usize,
    pub(crate) large_bytes: usize,
}

/// How full the heap is; `None` in a signal handler on top of a call that holds a lock of it.
pub(crate) fn usage() -> Option<Usage> {
    if is_interrupted() {
        return None;
    }
    let stats = KMEM.stats();
    let (live_bytes, held_bytes) = arenas::usage();
    Some(Usage {
        live_bytes: stats.live_bytes() + live_bytes,
        held_bytes: stats.held_bytes() + held_bytes,
        large_blocks: stats.runs,
        large_bytes: stats.run_frames * kmem::frame::FRAME_SIZE,
    })
}

/// What a recount found wrong.
pub(crate) enum Fault {
    /// Nothing: the books are in use by what this signal handler interrupted.
    Interrupted,
    Arena(Corruption),
    Host(HostFault),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("a signal handler came amid a call: no recount"),
            Self::Arena(fault) => fault.fmt(f),
            Self::Host(fault) => fault.fmt(f),
        }
    }
}

/// Recounts everything.
pub(crate) fn verify() -> Result<(), Fault> {
    if is_interrupted() {
        return Err(Fault::Interrupted);
    }
    arenas::verify().map_err(Fault::Arena)?;
    KMEM.verify().map_err(Fault::Host)
}

/// Calls `visit` with address and usable bytes of every live block.
pub(crate) fn for_each_live(visit: &mut dyn FnMut(usize, usize)) {
    arenas::for_each_segment(&mut |segment| {
        if segment.state == SegmentState::Allocated {
            visit(segment.range.start as usize, (segment.range.end - segment.range.start) as usize);
        }
    });
    KMEM.for_each_live(&mut |block, bytes| visit(block.addr().get(), bytes));
}
