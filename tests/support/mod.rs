//! A source of frames for tests: an array, first fit, which checks every call and can be told
//! to fail.

#![allow(dead_code, reason = "each test uses a part")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_long};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use kmem::buddy::{AllocError, BlockOwner, FreeError, ResizeError};
use kmem::frame::{FRAME_SHIFT, FRAME_SIZE, Frame, FrameRange, Order, PhysAddr};
use kmem::memory_map::{Region, RegionKind};
use kmem::page::{AllocFlags, FrameSource, OwnerRecord, PageAllocator, Records};
use kmem::platform::{CpuId, IrqState, Platform};

pub(crate) mod shrink;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static MASKED: Cell<usize> = const { Cell::new(0) };
    static MASKINGS: Cell<usize> = const { Cell::new(0) };
    static PINS: Cell<usize> = const { Cell::new(0) };
}

/// Makes the running thread the CPU `number`.
pub(crate) fn become_cpu(number: usize) {
    CPU.set(number);
}

/// Whether interrupts are masked on this thread.
pub(crate) fn masked() -> bool {
    MASKED.get() != 0
}

/// How often interrupts were masked on this thread: each lock that is taken masks them.
pub(crate) fn maskings() -> usize {
    MASKINGS.get()
}

/// Whether this thread is to stay on its CPU.
pub(crate) fn pinned() -> bool {
    PINS.get() != 0
}

/// What interrupts the running thread.
type Handler<'a> = &'a dyn Fn();

std::thread_local! {
    static HANDLER: Cell<Option<Handler<'static>>> = const { Cell::new(None) };
}

/// Runs `action`, interrupting it by `handler` wherever the code under test asks the machine
/// something with interrupts open; the handler itself is not interrupted.
pub(crate) fn with_interrupts(handler: Handler<'_>, action: impl FnOnce()) {
    /// Ends interrupts also when the action unwinds.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            HANDLER.set(None);
        }
    }
    // SAFETY: `End` takes the handler away before its borrow ends.
    let handler = unsafe { std::mem::transmute::<Handler<'_>, Handler<'static>>(handler) };
    HANDLER.set(Some(handler));
    let _end = End;
    action();
}

/// The moment when an interrupt can come.
fn interrupt() {
    if !masked()
        && let Some(handler) = HANDLER.take()
    {
        handler();
        HANDLER.set(Some(handler));
    }
}

/// The first frame number of every array, so that physical and virtual addresses differ.
const FIRST_FRAME: usize = 0x1000;

/// Memory that is the physical memory of a test, threads being its CPUs.
pub(crate) struct Machine {
    memory: *mut u8,
    frames: usize,
    cpus: usize,
    synchronizes: bool,
}

// SAFETY: the memory is plain bytes, which `Frames` hands out to one taker at a time.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// A machine with so many frames, all zero.
    pub(crate) fn new(frames: usize, cpus: usize) -> Self {
        // SAFETY: the layout has a size above 0.
        let memory = unsafe { alloc_zeroed(Self::layout(frames)) };
        assert!(!memory.is_null());
        Self { memory, frames, cpus, synchronizes: false }
    }

    /// All of its frames.
    pub(crate) fn frames(&self) -> FrameRange {
        let start = Frame::new(FIRST_FRAME).expect("a small number");
        FrameRange::from_len(start, self.frames).expect("a small number")
    }

    fn layout(frames: usize) -> Layout {
        Layout::from_size_align(frames * FRAME_SIZE, 2 << 20).expect("a small layout")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.memory, Self::layout(self.frames)) };
    }
}

// SAFETY: a fixed offset between physical and virtual, checked for range; each thread of a test
// is a CPU of its own.
unsafe impl Platform for Machine {
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        interrupt();
        let offset = phys.as_u64() as usize - (FIRST_FRAME << FRAME_SHIFT);
        assert!(offset < self.frames * FRAME_SIZE, "{phys} is not mapped");
        self.memory.wrapping_add(offset)
    }

    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        interrupt();
        let offset = (virt as usize).checked_sub(self.memory as usize)?;
        (offset < self.frames * FRAME_SIZE)
            .then(|| PhysAddr::new((offset + (FIRST_FRAME << FRAME_SHIFT)) as u64))
    }

    fn irq_save(&self) -> IrqState {
        interrupt();
        MASKED.set(MASKED.get() + 1);
        MASKINGS.set(MASKINGS.get() + 1);
        IrqState(MASKED.get() - 1)
    }

    unsafe fn irq_restore(&self, state: IrqState) {
        MASKED.set(MASKED.get() - 1);
        assert_eq!(MASKED.get(), state.0, "restored in another order than saved");
    }

    fn cpu_id(&self) -> CpuId {
        interrupt();
        CpuId::new(CPU.get()).expect("a CPU")
    }

    fn cpu_count(&self) -> usize {
        self.cpus
    }

    fn pin(&self) {
        PINS.set(PINS.get() + 1);
    }

    fn unpin(&self) {
        PINS.set(PINS.get().checked_sub(1).expect("unpinned once for each time it was pinned"));
    }

    fn synchronize(&self) -> bool {
        self.synchronizes && barrier_on_all_threads()
    }
}

/// Makes every thread of the process pass a memory barrier: `membarrier(2)`.
fn barrier_on_all_threads() -> bool {
    const MEMBARRIER: c_long = 324;
    const PRIVATE_EXPEDITED: c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    let call = |command: c_int| {
        // SAFETY: the call reads and writes no memory of ours.
        unsafe { syscall(MEMBARRIER, command, 0 as c_int, 0 as c_int) == 0 }
    };
    cfg!(target_arch = "x86_64") && call(REGISTER_PRIVATE_EXPEDITED) && call(PRIVATE_EXPEDITED)
}

/// An array of frames.
pub(crate) struct Frames {
    machine: Machine,
    owners: Vec<OwnerRecord>,
    blocks: Mutex<Blocks>,
    /// If takers keep their records together.
    records: Option<Records>,
    /// The frame, counted from the first, whose owner record is lost.
    lost: AtomicUsize,
    /// Requests until one fails; negative for never.
    fuse: AtomicI64,
    pub(crate) requests: AtomicUsize,
    /// How many of those were for blocks, and could wait for them.
    pub(crate) patient: AtomicUsize,
}

#[derive(Default)]
struct Blocks {
    used: Vec<bool>,
    heads: BTreeMap<usize, (usize, BlockOwner)>,
    /// Where the search for a single frame begins.
    hint: usize,
}

impl Frames {
    pub(crate) fn new(frames: usize) -> Self {
        Self::with_cpus(frames, 4)
    }

    pub(crate) fn with_cpus(frames: usize, cpus: usize) -> Self {
        Self {
            machine: Machine::new(frames, cpus),
            owners: (0..frames).map(|_| OwnerRecord::new()).collect(),
            blocks: Mutex::new(Blocks {
                used: vec![false; frames],
                heads: BTreeMap::new(),
                hint: 0,
            }),
            records: None,
            lost: AtomicUsize::new(usize::MAX),
            fuse: AtomicI64::new(-1),
            requests: AtomicUsize::new(0),
            patient: AtomicUsize::new(0),
        }
    }

    /// The same frames, whose takers keep their records together.
    pub(crate) fn sharing_records(mut self) -> Self {
        self.records = Some(Records::new());
        self
    }

    /// The same frames, of a machine that can make all CPUs pass a barrier.
    pub(crate) fn synchronizing(mut self) -> Self {
        self.machine.synchronizes = true;
        self
    }

    /// While `action` runs, the frame that `address` lies in has no owner record.
    pub(crate) fn without_owner(&self, address: *const u8, action: impl FnOnce()) {
        let phys = self.machine.virt_to_phys(address).expect("an address of the machine");
        let frame = Frame::containing(phys).expect("a frame");
        self.lost.store(frame.number() - FIRST_FRAME, Ordering::Relaxed);
        action();
        self.lost.store(usize::MAX, Ordering::Relaxed);
    }

    /// Lets `requests` requests succeed and fails the one behind them, and only that one.
    pub(crate) fn fail_after(&self, requests: usize) {
        self.fuse.store(requests as i64, Ordering::Relaxed);
    }

    pub(crate) fn never_fail(&self) {
        self.fuse.store(-1, Ordering::Relaxed);
    }

    /// Frames that are out.
    pub(crate) fn taken(&self) -> usize {
        self.blocks.lock().expect("lock").used.iter().filter(|&&used| used).count()
    }

    /// Every owner record that is not 0 belongs to a frame that is out.
    #[track_caller]
    pub(crate) fn assert_owners_clean(&self) {
        let blocks = self.blocks.lock().expect("lock");
        for (index, owner) in self.owners.iter().enumerate() {
            assert!(blocks.used[index] || owner.load(Ordering::Relaxed) == 0, "frame {index}");
        }
    }

    fn take_aligned(
        &self,
        frames: usize,
        align: usize,
        owner: BlockOwner,
    ) -> Result<Frame, AllocError> {
        assert!(!masked(), "frames taken with a lock held");
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.fuse.load(Ordering::Relaxed) >= 0 && self.fuse.fetch_sub(1, Ordering::Relaxed) == 0
        {
            return Err(AllocError::OutOfMemory);
        }
        let mut blocks = self.blocks.lock().expect("lock");
        let total = blocks.used.len();
        let mut at = blocks.hint.next_multiple_of(align);
        while at + frames <= total {
            if (at..at + frames).all(|index| !blocks.used[index]) {
                if frames == 1 {
                    blocks.hint = at;
                }
                blocks.used[at..at + frames].fill(true);
                blocks.heads.insert(at, (frames, owner));
                return Ok(Frame::new(at + FIRST_FRAME).expect("a small number"));
            }
            at += align;
        }
        Err(AllocError::OutOfMemory)
    }

    fn give_back(&self, head: Frame, frames: usize, owner: BlockOwner) -> Result<(), FreeError> {
        let mut blocks = self.blocks.lock().expect("lock");
        let at = head.number() - FIRST_FRAME;
        match blocks.heads.get(&at) {
            Some(&block) if block == (frames, owner) => {}
            _ => return Err(FreeError::NotAllocated),
        }
        for index in at..at + frames {
            assert_eq!(self.owners[index].load(Ordering::Relaxed), 0, "owner record left behind");
        }
        blocks.heads.remove(&at);
        blocks.used[at..at + frames].fill(false);
        blocks.hint = blocks.hint.min(at);
        Ok(())
    }
}

// SAFETY: blocks are disjoint parts of the machine's memory, and there is one owner record a frame.
unsafe impl FrameSource for Frames {
    type Platform = Machine;

    fn platform(&self) -> &Machine {
        &self.machine
    }

    fn take(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let is_patient = !flags.contains(AllocFlags::NO_WAIT);
        self.patient.fetch_add(usize::from(is_patient), Ordering::Relaxed);
        self.take_aligned(order.frames(), order.frames(), owner)
    }

    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_back(frame, order.frames(), owner)
    }

    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let head = self.take_aligned(frames, align.frames(), owner)?;
        if flags.contains(AllocFlags::ZERO) {
            // SAFETY: the run was just taken.
            unsafe { self.machine.phys_to_virt(head.start()).write_bytes(0, frames * FRAME_SIZE) };
        }
        Ok(head)
    }

    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_back(run.start(), run.frames(), owner)
    }

    unsafe fn resize_run(
        &self,
        _: FrameRange,
        _: usize,
        _: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        Err(ResizeError::ZeroSize)
    }

    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        let index = frame.number().checked_sub(FIRST_FRAME)?;
        self.owners.get(index).filter(|_| index != self.lost.load(Ordering::Relaxed))
    }

    fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        let at = frame.number().checked_sub(FIRST_FRAME)?;
        let blocks = self.blocks.lock().expect("lock");
        let (&head, &(frames, owner)) = blocks.heads.range(..=at).next_back()?;
        let range = FrameRange::from_len(Frame::new(head + FIRST_FRAME)?, frames)?;
        range.contains(frame).then_some((range, owner))
    }
}

/// A page allocator over all memory of a machine of so many frames and CPUs.
pub(crate) fn pages(frames: usize, cpus: usize) -> PageAllocator<Machine> {
    let machine = Machine::new(frames, cpus);
    let region = Region::from_frames(machine.frames(), RegionKind::Usable);
    let pages = PageAllocator::new(machine);
    // SAFETY: the memory is the machine's, for nobody else.
    unsafe { pages.init([region]) }.expect("memory for the metadata");
    pages
}

/// Says so when it is dropped, also by whoever panics: what other threads go on until.
pub(crate) struct OverWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Memory on its way from whoever took it to whoever gives it back, perhaps on another CPU.
pub(crate) struct Sent(NonNull<u8>, u64);

// SAFETY: memory belongs to whoever holds it.
unsafe impl Send for Sent {}

impl Sent {
    /// Stamps memory of at least 16 bytes, a multiple of 8, with a word at either end.
    pub(crate) fn stamp(memory: NonNull<u8>, size: usize, stamp: u64) -> Self {
        // SAFETY: the memory is so long, ours, and aligned to 8.
        unsafe {
            memory.cast::<u64>().write(stamp);
            memory.add(size - 8).cast::<u64>().write(!stamp);
        }
        Self(memory, stamp)
    }

    /// The memory, if nobody else has written it.
    #[track_caller]
    pub(crate) fn opened(self, size: usize) -> NonNull<u8> {
        // SAFETY: as in `stamp`.
        let found =
            unsafe { (self.0.cast::<u64>().read(), self.0.add(size - 8).cast::<u64>().read()) };
        assert_eq!(found, (self.1, !self.1), "two owners of {:p}", self.0);
        self.0
    }
}

/// Numbers that look random and are the same for the same seed: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Self {
        Self(seed as u64)
    }

    pub(crate) fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.next() % bound
    }
}

/// The number in the environment variable `name`, or `default`.
pub(crate) fn env(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}
