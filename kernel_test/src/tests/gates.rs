//! How many instructions an operation takes, on a machine whose clock counts them.
//!
//! Each test brings the allocator into one state, the same in every run, and counts one operation.
//! What the host makes of the number stands in its crate `xtask`, module `counts`.

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::arch::asm;
use core::hint::black_box;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU8;

use kmem::buddy::{BlockOwner, Group, Metadata, Need, Placement};
use kmem::page::PageAllocator;
use kmem::slab::{CacheFlags, RawCache};
use kmem::{AllocFlags, Buddy, Frame, FrameRange, Order};
use x86_64::instructions::interrupts::{self, without_interrupts};

use crate::memory::{HEAP, PAGES};
use crate::platform::Pc;
use crate::println;

const ANY: AllocFlags = AllocFlags::empty();
const HUGE: Order = Order::new(9).expect("an order");

/// The time stamp counter, as far as it fits one register. The compiler moves no access to memory
/// across.
#[inline(always)]
fn time_stamp() -> u32 {
    let low: u32;
    // SAFETY: reads a counter that every x86-64 CPU has.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") _, options(nostack)) };
    low
}

/// The instructions that `operation` takes, and what it answers.
#[inline(always)]
fn count<R>(operation: impl FnOnce() -> R) -> (u64, R) {
    without_interrupts(|| count_undisturbed(|| black_box(operation())))
}

/// The same where interrupts are masked.
#[inline(always)]
fn count_undisturbed<R>(operation: impl FnOnce() -> R) -> (u64, R) {
    let before = time_stamp();
    let start = time_stamp();
    let answer = operation();
    let end = time_stamp();
    // Two readings that follow each other count the reading itself.
    let reading = start.wrapping_sub(before);
    (u64::from(end.wrapping_sub(start).saturating_sub(reading)), answer)
}

/// Tells the host.
fn report(instructions: u64) {
    println!("instructions {instructions}");
}

/// Tells the host what `operation` takes when it has been done before.
#[inline(always)]
fn report_warm(mut operation: impl FnMut()) {
    (0..100).for_each(|_| operation());
    report(count(operation).0);
}

#[inline(always)]
fn block_pair(order: Order) {
    // Known to the compiler, as in most kernels.
    let frame = PAGES.alloc(order, ANY).expect("memory");
    PAGES.free(black_box(frame), order).expect("it was allocated");
}

/// What `take` and what `give` takes when both have been done many times. They are compiled into
/// the place where they are counted, as into a user's loop.
#[inline(always)]
fn count_warm<T>(mut take: impl FnMut() -> T, mut give: impl FnMut(T)) -> (u64, u64) {
    let mut counts = (0, 0);
    interrupts::disable();
    for _ in 0..100 {
        let (taking, taken) = count_undisturbed(&mut take);
        let (giving, ()) = count_undisturbed(|| give(taken));
        counts = (taking, giving);
    }
    interrupts::enable();
    counts
}

/// The order is known to the compiler, as in most kernels.
#[inline(always)]
fn count_block_hits<const ORDER: u8>() -> (u64, u64) {
    let order = const { Order::new(ORDER).expect("an order") };
    count_warm(
        #[inline(always)]
        || PAGES.alloc(order, ANY).expect("memory"),
        #[inline(always)]
        |frame| PAGES.free(frame, order).expect("it was allocated"),
    )
}

pub(super) fn frame_alloc_hit() {
    report(count_block_hits::<0>().0);
}

pub(super) fn frame_free_hit() {
    report(count_block_hits::<0>().1);
}

pub(super) fn frame_2_mib_alloc_hit() {
    report(count_block_hits::<9>().0);
}

pub(super) fn frame_2_mib_free_hit() {
    report(count_block_hits::<9>().1);
}

/// The first request of a CPU that keeps nothing: a batch from the zone.
#[track_caller]
fn report_refill(order: Order) {
    block_pair(order);
    assert!(PAGES.drain());
    let (instructions, frame) = count(|| PAGES.alloc(order, ANY));
    report(instructions);
    PAGES.free(frame.expect("memory"), order).expect("it was allocated");
}

pub(super) fn frame_refill() {
    report_refill(Order::ZERO);
}

pub(super) fn frame_2_mib_refill() {
    report_refill(HUGE);
}

/// The free that finds the CPU's list full: a batch goes to the zone.
pub(super) fn frame_spill() {
    let mut frames = [Frame::default(); 200];
    for frame in &mut frames {
        *frame = PAGES.alloc(Order::ZERO, ANY).expect("memory");
    }
    assert!(PAGES.drain());
    let free = |frame: Frame| count(|| PAGES.free(frame, Order::ZERO).expect("allocated")).0;
    report(frames.into_iter().map(free).max().expect("some"));
}

/// Leaves nothing available but one block of the largest order that there is.
fn leave_one_block() {
    assert!(PAGES.drain());
    // Room for all of it: a block of each order in each of a few spans.
    let mut blocks = Vec::with_capacity(500);
    for order in Order::all().rev() {
        while let Ok(frame) = PAGES.alloc(order, AllocFlags::ATOMIC) {
            assert!(blocks.len() < blocks.capacity());
            blocks.push((frame, order));
        }
    }
    let (frame, order) = blocks[0];
    assert!(order > HUGE, "the largest block is of {order}");
    PAGES.free(frame, order).expect("it was allocated");
    assert_eq!(PAGES.frames_available(), order.frames());
    // The rest stays taken to the end of the machine.
    core::mem::forget(blocks);
}

/// The order of a request that no CPU's list serves.
const UNLISTED: Order = Order::new(7).expect("an order");

pub(super) fn split_of_the_largest_block() {
    leave_one_block();
    let (instructions, frame) = count(|| PAGES.alloc(UNLISTED, AllocFlags::ATOMIC));
    frame.expect("memory");
    report(instructions);
}

pub(super) fn merge_to_the_largest_block() {
    leave_one_block();
    let frame = PAGES.alloc(UNLISTED, AllocFlags::ATOMIC).expect("memory");
    let largest = PAGES.largest();
    let (instructions, freed) = count(|| PAGES.free(frame, UNLISTED));
    freed.expect("it was allocated");
    assert!(PAGES.largest() > largest, "nothing has merged");
    report(instructions);
}

/// A span of 256 GiB of which one block of the largest order is available; the memory itself is not
/// there, only its metadata are. Taking a frame out of it, and giving it back, changes the free
/// blocks of every order, on every level of every summary.
fn span_of_256_gib() -> Buddy<'static> {
    let cover = FrameRange::from_len(Frame::ZERO, 1 << 26).expect("frames");
    let need = Need::for_span(cover);
    let states: Vec<AtomicU8> = (0..need.states).map(|_| AtomicU8::new(0)).collect();
    let metadata = Metadata {
        states: states.leak(),
        groups: vec![Group::EMPTY; need.groups].leak(),
        words: vec![0; need.words].leak(),
    };
    let mut buddy = Buddy::new(cover, metadata).expect("a span");
    buddy.add(cover).expect("holes");
    for _ in 1..cover.frames() / Order::MAX.frames() {
        buddy.alloc(Order::MAX, BlockOwner::Caller, Placement::Low).expect("memory");
    }
    buddy
}

pub(super) fn worst_take_of_256_gib() {
    let mut buddy = span_of_256_gib();
    let take = || buddy.alloc(Order::ZERO, BlockOwner::Caller, Placement::Low);
    let (instructions, frame) = count(take);
    frame.expect("memory");
    report(instructions);
}

pub(super) fn worst_give_of_256_gib() {
    let mut buddy = span_of_256_gib();
    let frame = buddy.alloc(Order::ZERO, BlockOwner::Caller, Placement::Low).expect("memory");
    let (instructions, freed) = count(|| buddy.free(frame, Order::ZERO, BlockOwner::Caller));
    freed.expect("it was allocated");
    assert_eq!(buddy.largest(), Some(Order::MAX));
    report(instructions);
}

/// Whether the block is a piece of a larger one is asked of every order above it, since no memory
/// around it is available.
pub(super) fn give_2_mib_amid_taken_ones_of_256_gib() {
    let mut buddy = span_of_256_gib();
    let blocks = Order::MAX.frames() / HUGE.frames();
    let take = |_| buddy.alloc(HUGE, BlockOwner::Caller, Placement::Low).expect("memory");
    let frames: Vec<Frame> = (0..blocks).map(take).collect();
    let frame = frames[blocks - 1];
    let (instructions, freed) = count(|| buddy.free(frame, HUGE, BlockOwner::Caller));
    freed.expect("it was allocated");
    report(instructions);
}

/// What most gates count is of such objects.
const USUAL_BYTES: usize = 64;

/// Of such objects, as of smaller ones, magazines have the most rounds.
const SMALL_BYTES: usize = 16;

fn cache_of(object_bytes: usize) -> RawCache<'static, PageAllocator<Pc>> {
    RawCache::new(&PAGES, "counted", object_bytes, 8, CacheFlags::empty())
}

fn count_object_hits() -> (u64, u64) {
    let cache = cache_of(USUAL_BYTES);
    count_warm(
        #[inline(always)]
        || cache.alloc(ANY).expect("memory"),
        // SAFETY: nobody uses it any more.
        #[inline(always)]
        |object| unsafe { cache.free(object) }.expect("it was allocated"),
    )
}

pub(super) fn object_alloc_hit() {
    report(count_object_hits().0);
}

pub(super) fn object_free_hit() {
    report(count_object_hits().1);
}

type Objects = Vec<NonNull<u8>>;

/// Allocates 1,000 objects; the most that one took.
fn worst_alloc(cache: &RawCache<'static, PageAllocator<Pc>>, objects: &mut Objects) -> u64 {
    let take = |_| {
        let (instructions, object) = count(|| cache.alloc(ANY));
        objects.push(object.expect("memory"));
        instructions
    };
    (0..1_000).map(take).max().expect("some")
}

/// Frees them; the most that one took.
fn worst_free(cache: &RawCache<'static, PageAllocator<Pc>>, objects: &mut Objects) -> u64 {
    // SAFETY: nobody uses it any more.
    let free = |object| count(|| unsafe { cache.free(object) }.expect("it was allocated")).0;
    objects.drain(..).map(free).max().expect("some")
}

/// Slabs are made on the way.
fn worst_alloc_of_1000(object_bytes: usize) -> u64 {
    worst_alloc(&cache_of(object_bytes), &mut Vec::with_capacity(1_000))
}

/// Magazines go to the depot on the way, and slabs back to the page allocator.
fn worst_free_of_1000(object_bytes: usize) -> u64 {
    let (cache, mut objects) = (cache_of(object_bytes), Vec::with_capacity(1_000));
    worst_alloc(&cache, &mut objects);
    worst_free(&cache, &mut objects)
}

pub(super) fn object_alloc_worst_of_1000() {
    report(worst_alloc_of_1000(USUAL_BYTES));
}

pub(super) fn object_free_worst_of_1000() {
    report(worst_free_of_1000(USUAL_BYTES));
}

pub(super) fn small_object_alloc_worst_of_1000() {
    report(worst_alloc_of_1000(SMALL_BYTES));
}

pub(super) fn small_object_free_worst_of_1000() {
    report(worst_free_of_1000(SMALL_BYTES));
}

/// The magazines are refilled on the way, from slabs that are there.
pub(super) fn object_refill() {
    let (cache, mut objects) = (cache_of(USUAL_BYTES), Vec::with_capacity(1_000));
    worst_alloc(&cache, &mut objects);
    // One in two, so that no slab goes.
    let mut rest = objects.split_off(500);
    worst_free(&cache, &mut objects);
    let most = (0..400).map(|_| {
        let (instructions, object) = count(|| cache.alloc(ANY));
        rest.push(object.expect("memory"));
        instructions
    });
    report(most.max().expect("some"));
}

#[inline(always)]
fn heap_pair(layout: Layout) {
    let block = HEAP.allocate(layout, ANY).expect("memory").cast();
    // SAFETY: nobody uses it any more.
    unsafe { HEAP.deallocate(black_box(block), layout) }.expect("it was allocated");
}

fn count_heap_hits() -> (u64, u64) {
    let layout = Layout::new::<[u64; 8]>();
    count_warm(
        #[inline(always)]
        || HEAP.allocate(layout, ANY).expect("memory").cast(),
        // SAFETY: nobody uses it any more.
        #[inline(always)]
        |block| unsafe { HEAP.deallocate(block, layout) }.expect("it was allocated"),
    )
}

pub(super) fn heap_alloc_hit() {
    report(count_heap_hits().0);
}

pub(super) fn heap_free_hit() {
    report(count_heap_hits().1);
}

pub(super) fn heap_run_pair() {
    report_warm(|| heap_pair(Layout::new::<[u64; 50_000]>()));
}
