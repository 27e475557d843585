//! Large buffers: contiguous addresses, scattered frames, guard pages.

use alloc::vec::Vec;
use core::hint::spin_loop;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use kmem::frame::FRAME_SIZE;
use kmem::page::AllocError;
use kmem::{AllocFlags, CpuId, Frame, Order, Platform, arena};

use super::available;
use super::random::Random;
use crate::call::on_every_cpu;
use crate::memory::PAGES;
use crate::platform::Pc;
use crate::vmalloc::{self, ADDRESSES, Buffer, VmallocError};
use crate::{cpu, probe};

const PAGE: u64 = FRAME_SIZE as u64;

/// Whether the address can be read; if so, it can be written, and otherwise neither.
#[track_caller]
fn is_mapped(address: u64) -> bool {
    let byte = with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: only frames are mapped here, and no other CPU writes to them meanwhile.
    let read = unsafe { probe::read(byte) };
    // SAFETY: as above; what is mapped is a live buffer's, which keeps its byte, or else an error.
    let written = unsafe { probe::write(byte, read.unwrap_or(0)) };
    assert_eq!(read.is_some(), written, "{address:#x}");
    written
}

/// The address of a buffer's first byte.
fn start_of(buffer: &Buffer<'_>) -> u64 {
    buffer.as_ptr().expose_provenance() as u64
}

/// How many pages are mapped, by the tables.
fn mapped_pages() -> usize {
    let is_mapped = |&page: &u64| vmalloc::kernel().frame_at(page).is_some();
    ADDRESSES.step_by(FRAME_SIZE).filter(is_mapped).count()
}

/// What was available before a test, with the kernel's tables laid.
struct Before(usize);

impl Before {
    fn new() -> Self {
        vmalloc::kernel();
        Self(available())
    }

    /// Fails unless frames and addresses are all back, and nothing is mapped.
    #[track_caller]
    fn is_restored(&self) {
        assert_eq!(available(), self.0, "frames");
        let stats = vmalloc::kernel().stats();
        assert_eq!((stats.allocated, stats.available), (0, ADDRESSES.end - ADDRESSES.start - PAGE));
        assert_eq!(mapped_pages(), 0);
        vmalloc::kernel().verify().expect("the addresses are sound");
        PAGES.verify().expect("the frames are sound");
    }
}

/// Takes frames until such a request fails, and puts them into `frames`, which has room.
fn take_what_there_is(frames: &mut Vec<Frame>, flags: AllocFlags) {
    while let Ok(frame) = PAGES.alloc(Order::ZERO, flags) {
        assert!(frames.len() < frames.capacity(), "more frames than there is room for");
        frames.push(frame);
    }
}

fn give_back(frame: Frame) {
    PAGES.free(frame, Order::ZERO).expect("it was allocated");
}

/// Fills `buffer` with bytes that follow from `seed` and the place.
fn fill(buffer: &mut [u8], seed: usize) {
    buffer.iter_mut().enumerate().for_each(|(place, byte)| *byte = expected_at(place, seed));
}

/// Whether `buffer` is as [`fill`] left it.
fn is_filled(buffer: &[u8], seed: usize) -> bool {
    buffer.iter().enumerate().all(|(place, &byte)| byte == expected_at(place, seed))
}

/// Differs from page to page, and from seed to seed.
fn expected_at(place: usize, seed: usize) -> u8 {
    (place + place / FRAME_SIZE * 7 + seed * 31) as u8
}

pub(super) fn buffers_are_contiguous_where_frames_are_not() {
    const PAGES_LONG: usize = 200;
    let mut held = Vec::with_capacity(available());
    let before = Before::new();
    take_what_there_is(&mut held, AllocFlags::ATOMIC);
    // Every second frame goes back, so no two that are available are neighbours.
    held.retain(|&frame| {
        let stays = !frame.number().is_multiple_of(2);
        if !stays {
            give_back(frame);
        }
        stays
    });
    let pair = PAGES.alloc_exact(2, AllocFlags::ATOMIC);
    assert!(matches!(pair, Err(AllocError::Fragmented { .. })), "{pair:?}");

    let mut buffer = vmalloc::kernel().alloc(PAGES_LONG * FRAME_SIZE).expect("single frames");
    assert!(buffer.iter().all(|&byte| byte == 0));
    fill(&mut buffer, 1);
    assert!(is_filled(&buffer, 1));

    let mut behind = [Frame::default(); PAGES_LONG];
    assert_eq!(buffer.frames().count(), PAGES_LONG);
    behind.iter_mut().zip(buffer.frames()).for_each(|(place, frame)| *place = frame);
    // What was written through the buffer is what its frames hold.
    for (page, frame) in behind.iter().enumerate() {
        for place in [0, 1, 2047, 4095] {
            // SAFETY: the frame is the buffer's, in the direct map, and nobody writes to it now.
            let byte = unsafe { Pc.phys_to_virt(frame.start()).add(place).read_volatile() };
            assert_eq!(byte, expected_at(page * FRAME_SIZE + place, 1), "page {page} at {place}");
        }
    }
    behind.sort_unstable();
    let apart = |pair: &[Frame]| pair[1].number() - pair[0].number() >= 2;
    assert!(behind.windows(2).all(apart), "no frame serves twice, and none has a neighbour");

    drop(buffer);
    held.iter().copied().for_each(give_back);
    before.is_restored();
}

pub(super) fn what_is_not_allocated_is_not_mapped() {
    let before = Before::new();
    assert!(!ADDRESSES.step_by(FRAME_SIZE).any(is_mapped));
    let buffer = vmalloc::kernel().alloc(10 * FRAME_SIZE).expect("room");
    let start = start_of(&buffer);
    let inside = start..start + buffer.len() as u64;
    for page in ADDRESSES.step_by(FRAME_SIZE) {
        assert_eq!(is_mapped(page), inside.contains(&page), "{page:#x}");
    }
    drop(buffer);
    before.is_restored();
}

pub(super) fn guard_pages_fault_on_both_sides() {
    let before = Before::new();
    let buffers = [1, 5, 2, 1]
        .map(|pages| vmalloc::kernel().alloc(pages * FRAME_SIZE).expect("addresses and frames"));
    for buffer in &buffers {
        let (first, behind) = (start_of(buffer), start_of(buffer) + buffer.len() as u64);
        assert!((first..behind).step_by(FRAME_SIZE).all(is_mapped));
        assert!(is_mapped(behind - 1), "its last byte");
        assert!(!is_mapped(first - 1) && !is_mapped(first - PAGE), "the guard below");
        assert!(!is_mapped(behind) && !is_mapped(behind + PAGE - 1), "the guard above");
    }
    drop(buffers);
    before.is_restored();
}

/// The list says at which address: a guard page, two pages and a guard page above the first.
pub(super) fn running_over_the_end_is_reported() {
    let _first = vmalloc::kernel().alloc(FRAME_SIZE).expect("room");
    let mut second = vmalloc::kernel().alloc(FRAME_SIZE).expect("room");
    let start = second.as_mut_ptr();
    for place in 0.. {
        // SAFETY: none, behind the buffer's end: the kernel stops at the fault, which is the test.
        unsafe { start.wrapping_add(place).write_volatile(0xff) };
    }
}

pub(super) fn dropped_buffers_are_unmapped_and_gone() {
    let before = Before::new();
    for pages in [1, 3, 100] {
        let buffer = vmalloc::kernel().alloc(pages * FRAME_SIZE).expect("room");
        let (start, frames) = (start_of(&buffer), available());
        assert_eq!(before.0 - frames, pages, "no frame but its own");
        assert!(is_mapped(start));
        drop(buffer);
        let gone = start..start + pages as u64 * PAGE;
        assert!(!gone.step_by(FRAME_SIZE).any(is_mapped));
        before.is_restored();
    }
    assert!(matches!(vmalloc::kernel().alloc(0), Err(VmallocError::Addresses(_))));
    before.is_restored();
}

/// Memory that ends after any number of a buffer's frames.
pub(super) fn failure_at_any_frame_gives_everything_back() {
    const PAGES_LONG: usize = 40;
    let mut held = Vec::with_capacity(available());
    let before = Before::new();
    take_what_there_is(&mut held, AllocFlags::empty());
    let exhausted = available();
    for enough_for in 0..PAGES_LONG {
        let refused = vmalloc::kernel().alloc(PAGES_LONG * FRAME_SIZE).err();
        let reason = VmallocError::Frames(AllocError::OutOfMemory);
        assert_eq!(refused, Some(reason), "with {enough_for} frames");
        assert_eq!(available(), exhausted + enough_for, "with {enough_for} frames");
        assert_eq!(vmalloc::kernel().stats().allocated, 0);
        assert_eq!(mapped_pages(), 0);
        give_back(held.pop().expect("plenty was taken"));
    }
    drop(vmalloc::kernel().alloc(PAGES_LONG * FRAME_SIZE).expect("now there are enough"));
    held.drain(..).for_each(give_back);
    before.is_restored();
}

pub(super) fn exhausted_addresses_are_an_error() {
    let mut buffers = Vec::with_capacity(64);
    let before = Before::new();
    let whole = (ADDRESSES.end - ADDRESSES.start) as usize;
    let error = loop {
        match vmalloc::kernel().alloc(1 << 20) {
            Ok(buffer) => buffers.push(buffer),
            Err(error) => break error,
        }
    };
    assert_eq!(buffers.len(), 63, "each has a guard page");
    let available = whole as u64 - PAGE - 63 * (257 * PAGE);
    let exhausted = arena::AllocError::Exhausted { len: 257 * PAGE, available };
    assert_eq!(error, VmallocError::Addresses(exhausted));
    // Every second one: as many addresses as it takes, but not in one piece.
    let mut number = 0;
    buffers.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    let error = vmalloc::kernel().alloc(2 << 20).err();
    let fragmented =
        matches!(error, Some(VmallocError::Addresses(arena::AllocError::Fragmented { .. })));
    assert!(fragmented, "{error:?}");
    buffers.clear();
    before.is_restored();
    let largest = whole - 2 * FRAME_SIZE;
    assert!(vmalloc::kernel().alloc(largest + 1).is_err());
    assert!(vmalloc::kernel().alloc(usize::MAX).is_err());
    drop(vmalloc::kernel().alloc(largest).expect("all there is between two guards"));
    before.is_restored();
}

/// Five thousand buffers, taken and dropped in random order, beside a list of those that live.
pub(super) fn random_buffers_keep_contents_and_lose_nothing() {
    let mut live: Vec<(Buffer<'_>, usize)> = Vec::with_capacity(60);
    let mut frames: Vec<Frame> = Vec::with_capacity(60 * 32);
    let before = Before::new();
    let mut random = Random::new(17);
    for step in 0..10_000 {
        if live.len() < live.capacity() && random.below(2) == 0 {
            let len_bytes = 1 + random.below(32 * FRAME_SIZE);
            // On the smallest machine frames may run out.
            if let Ok(mut buffer) = vmalloc::kernel().alloc(len_bytes) {
                assert_eq!(buffer.len(), len_bytes);
                assert_eq!(buffer[len_bytes - 1], 0, "what somebody left behind");
                fill(&mut buffer, step);
                live.push((buffer, step));
            }
        } else if !live.is_empty() {
            let (buffer, seed) = live.swap_remove(random.below(live.len()));
            assert!(is_filled(&buffer, seed), "somebody else wrote to the buffer of step {seed}");
        }
        if step % 500 == 0 {
            are_apart(&mut live, &mut frames);
            assert_eq!(available(), before.0 - frames.len());
            assert_eq!(mapped_pages(), frames.len());
            vmalloc::kernel().verify().expect("the addresses are sound");
        }
    }
    live.clear();
    before.is_restored();
}

/// Fails if two buffers share a frame or a page, or have no guard page between them. Leaves all
/// their frames in `frames`.
#[track_caller]
fn are_apart(live: &mut [(Buffer<'_>, usize)], frames: &mut Vec<Frame>) {
    frames.clear();
    frames.extend(live.iter().flat_map(|(buffer, _)| buffer.frames()));
    frames.sort_unstable();
    assert!(frames.is_sorted_by(|lower, upper| lower < upper), "a frame in two places");
    live.sort_unstable_by_key(|(buffer, _)| start_of(buffer));
    for pair in live.windows(2) {
        let end = start_of(&pair[0].0) + pair[0].0.len() as u64;
        let guard = end.next_multiple_of(PAGE);
        assert!(guard + PAGE <= start_of(&pair[1].0), "no guard page at {guard:#x}");
    }
}

/// Waits until `count` is `expected`.
fn wait_for(count: &AtomicUsize, expected: usize) {
    while count.load(Ordering::Acquire) < expected {
        spin_loop();
    }
}

/// Each CPU reads a buffer, so that it remembers where it is, and again when another has dropped
/// it.
pub(super) fn no_cpu_remembers_a_dropped_buffer() {
    let before = Before::new();
    for _ in 0..50 {
        let buffer = vmalloc::kernel().alloc(2 * FRAME_SIZE).expect("room");
        let start = start_of(&buffer);
        let pages = [start, start + PAGE];
        let buffer = spin::Mutex::new(Some(buffer));
        let (readers, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        on_every_cpu(&|id| {
            assert!(pages.into_iter().all(is_readable));
            readers.fetch_add(1, Ordering::AcqRel);
            if id == CpuId::BOOT {
                wait_for(&readers, cpu::count());
                drop(buffer.lock().take());
                dropped.store(1, Ordering::Release);
            }
            wait_for(&dropped, 1);
            assert!(!pages.into_iter().any(is_readable), "CPU {} remembers it", id.index());
        });
    }
    before.is_restored();
}

fn is_readable(address: u64) -> bool {
    // SAFETY: only frames are mapped here, and no CPU writes to them meanwhile.
    unsafe { probe::read(with_exposed_provenance(address as usize)) }.is_some()
}

pub(super) fn buffers_on_every_cpu_at_once() {
    let before = Before::new();
    on_every_cpu(&|id| {
        let mut random = Random::new(1 + id.index() as u64);
        let mut live: [Option<(Buffer<'_>, usize)>; 6] = [const { None }; 6];
        for step in 0..300 {
            let slot = random.below(live.len());
            // What was there is dropped first, so each CPU has six at most.
            if let Some((buffer, seed)) = live[slot].take() {
                assert!(is_filled(&buffer, seed), "CPU {}, step {step}", id.index());
            }
            let seed = step * cpu::count() + id.index();
            let buffer = vmalloc::kernel().alloc(1 + random.below(4 * FRAME_SIZE));
            let mut buffer = buffer.expect("addresses and frames for all");
            fill(&mut buffer, seed);
            live[slot] = Some((buffer, seed));
        }
    });
    before.is_restored();
}
