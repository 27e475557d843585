//! All CPUs at once: whatever they do, no frame and no object is handed out twice, and none is
//! lost.
//!
//! Every frame that is handed out is noted in a map ([`owners`]), every object carries a mark that
//! is like no other ([`item`]), half of everything is given back on another CPU than it was taken
//! on ([`mail`]). After each test every invariant is recounted, and everything must be back.

mod item;
mod mail;
mod owners;
mod worker;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kmem::heap::SizeClass;
use kmem::page::{BlockOwner, FrameState};
use kmem::{AllocFlags, CpuId, Frame, Order};
use spin::Mutex;

use super::available;
use super::random::Random;
use crate::acpi::MOST_CPUS;
use crate::call::on_every_cpu;
use crate::memory::{HEAP, PAGES};
use crate::{cpu, local_timer};
use item::{CACHE, Item, owners};
use worker::{Mix, Worker};

/// What was in use before the stress, and must be again behind it.
struct Before {
    frames: usize,
    heap: (usize, usize),
}

impl Before {
    fn new() -> Self {
        owners();
        Self { frames: frames_in_use(), heap: heap_in_use() }
    }

    /// Fails unless just that is in use, and everything is sound.
    #[track_caller]
    fn is_restored(&self) {
        cpu::all().for_each(|to| empty_mailboxes(to.id()));
        assert_eq!(owners().held(), 0, "frames in somebody's hands");
        assert_eq!(CACHE.stats().objects_active, 0);
        assert_eq!(heap_in_use(), self.heap, "objects and runs of the heap");
        CACHE.verify().expect("the cache is sound");
        HEAP.verify().expect("the heap is sound");
        PAGES.verify().expect("the page allocator is sound");
        assert_eq!(frames_in_use(), self.frames, "frames that neither slabs nor nobody has");
        HEAP.reclaim();
        CACHE.shrink();
        PAGES.verify().expect("sound when slabs have given back what they can");
    }
}

/// Frees what has been sent to a CPU.
fn empty_mailboxes(to: CpuId) {
    for from in cpu::all() {
        while let Some(item) = mail::receive(to, from.id()) {
            item.free();
        }
    }
}

/// Objects and page runs of the heap.
fn heap_in_use() -> (usize, usize) {
    let stats = HEAP.stats();
    (stats.objects, stats.runs)
}

/// Frames that are allocated, but not for slabs, which keep some: counted one by one. No CPU works.
fn frames_in_use() -> usize {
    assert!(PAGES.drain(), "a CPU is inside its frame lists");
    let in_use = |frame: &Frame| match PAGES.lookup(*frame) {
        FrameState::Allocated { owner, .. } | FrameState::Run { owner, .. } => {
            owner != BlockOwner::Slab
        }
        FrameState::Corrupted | FrameState::Cached { .. } => panic!("{:?}", PAGES.lookup(*frame)),
        _ => false,
    };
    PAGES.zones().flat_map(|zone| zone.cover.iter()).filter(in_use).count()
}

/// Has all CPUs work, so many operations in all; how many there were.
fn work(mix: Mix, operations: usize) -> usize {
    let done = AtomicUsize::new(0);
    on_every_cpu(&|cpu| {
        let count = Worker::new(cpu, mix).run(operations / cpu::count());
        done.fetch_add(count, Ordering::Relaxed);
    });
    done.into_inner()
}

/// Waits until all CPUs are here. Interrupts stay open.
struct Rendezvous {
    arrived: AtomicUsize,
}

impl Rendezvous {
    const fn new() -> Self {
        Self { arrived: AtomicUsize::new(0) }
    }

    fn wait(&self) {
        let arrived = self.arrived.fetch_add(1, Ordering::AcqRel) + 1;
        let all = arrived.next_multiple_of(cpu::count());
        while self.arrived.load(Ordering::Acquire) < all {
            core::hint::spin_loop();
        }
    }
}

pub(super) fn blocks_of_every_order() {
    let before = Before::new();
    work(Mix::blocks(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), 200_000);
    before.is_restored();
}

pub(super) fn large_blocks_under_contention() {
    let before = Before::new();
    work(Mix { held: 6, ..Mix::blocks(&[7, 7, 8, 8, 9, 9, 10, 12]) }, 200_000);
    before.is_restored();
}

pub(super) fn single_frames_on_all_cpus() {
    let before = Before::new();
    work(Mix { held: 300, ..Mix::blocks(&[0]) }, 400_000);
    before.is_restored();
}

pub(super) fn every_size_class() {
    let before = Before::new();
    on_every_cpu(&|cpu| {
        let mut random = Random::new(cpu.index() as u64 + 77);
        for _ in 0..60 {
            let sizes = SizeClass::all().map(|class| class.bytes().div_ceil(8));
            let mut items: Vec<_> =
                sizes.filter_map(|words| Item::words(words, AllocFlags::empty())).collect();
            assert_eq!(items.len(), SizeClass::COUNT);
            while !items.is_empty() {
                let item = items.swap_remove(random.below(items.len()));
                let to = CpuId::new(random.below(cpu::count())).expect("a CPU");
                if let Err(item) = mail::post(cpu, to, item) {
                    item.free();
                }
                if let Some(item) = mail::receive(cpu, to) {
                    item.free();
                }
            }
        }
    });
    before.is_restored();
}

pub(super) fn heap_memory_of_any_size() {
    let before = Before::new();
    work(Mix { blocks: 0, objects: 0, most_bytes: 200_000, ..Mix::EVERYTHING }, 200_000);
    before.is_restored();
}

pub(super) fn one_cache_for_all_cpus() {
    let before = Before::new();
    work(Mix { blocks: 0, bytes: 0, held: 200, ..Mix::EVERYTHING }, 400_000);
    before.is_restored();
}

pub(super) fn remote_frees_from_every_cpu_to_every_cpu() {
    static MEET: Rendezvous = Rendezvous::new();
    let before = Before::new();
    on_every_cpu(&|cpu| {
        let mix = Mix { sent_of_ten: 10, ..Mix::EVERYTHING };
        Worker::new(cpu, mix).run(200_000 / cpu::count());
        // A CPU that began late has sent after others were done.
        MEET.wait();
        empty_mailboxes(cpu);
    });
    for to in cpu::all() {
        for from in cpu::all() {
            let received = mail::received(to.id(), from.id());
            assert!(received > 0, "nothing from {:?} to {:?}", from.id(), to.id());
        }
    }
    before.is_restored();
}

/// Memory to the last frame, taken by all CPUs at once, and all of it back: three times.
pub(super) fn exhaustion_and_recovery_on_all_cpus_at_once() {
    static MEET: Rendezvous = Rendezvous::new();
    let before = Before::new();
    // Room for all memory on one CPU: blocks have eleven frames on average.
    let room = available() / 4;
    on_every_cpu(&|cpu| {
        let mut items = Vec::with_capacity(room);
        let mut random = Random::new(cpu.index() as u64 + 5);
        for _ in 0..3 {
            PAGES.drain_local();
            MEET.wait();
            let available = PAGES.frames_available();
            MEET.wait();
            let mut largest = 5;
            // To the end: a CPU that fails gives back what it keeps ready, for itself and for the
            // others.
            loop {
                assert!(items.len() < room, "more blocks than there is room for");
                let order = Order::new(random.below(largest + 1) as u8).expect("an order");
                match Item::block(order, AllocFlags::ATOMIC) {
                    Some(item) => items.push(item),
                    None if order == Order::ZERO => break,
                    None => largest = usize::from(order.get()) - 1,
                }
            }
            MEET.wait();
            assert_eq!((owners().held(), PAGES.frames_available()), (available, 0));
            MEET.wait();
            items.drain(..).for_each(Item::free);
        }
        MEET.wait();
    });
    before.is_restored();
}

/// What a CPU's timer took at its last interrupt.
static TAKEN_BY_TIMER: [Mutex<Option<Item>>; MOST_CPUS] = [const { Mutex::new(None) }; MOST_CPUS];
/// How often a timer got something.
static SERVED: AtomicUsize = AtomicUsize::new(0);

/// Gives back what this CPU's timer took the last time, and takes something else.
fn take_in_handler() {
    const URGENT: AllocFlags = AllocFlags::ATOMIC.union(AllocFlags::NO_WAIT);
    let cpu = cpu::current();
    // Nobody else takes this lock while timers run.
    let mut taken = TAKEN_BY_TIMER[cpu.id().index()].lock();
    if let Some(item) = taken.take() {
        item.free();
    }
    let nth = cpu.ticks.load(Ordering::Relaxed) as usize;
    *taken = match nth % 3 {
        0 => Item::block(Order::new((nth % 4) as u8).expect("an order"), URGENT),
        1 => Item::words(1 + nth % 300, URGENT),
        _ => Item::object(URGENT),
    };
    SERVED.fetch_add(usize::from(taken.is_some()), Ordering::Relaxed);
}

/// Has `work` run while all CPUs' timers take and give back.
fn with_timers<R>(work: impl FnOnce() -> R) -> R {
    local_timer::start(take_in_handler);
    let result = work();
    local_timer::stop();
    for taken in &TAKEN_BY_TIMER {
        if let Some(item) = taken.lock().take() {
            item.free();
        }
    }
    result
}

pub(super) fn timers_allocate_on_every_cpu() {
    let before = Before::new();
    with_timers(|| {
        while SERVED.load(Ordering::Relaxed) < 200 * cpu::count() {
            work(Mix::EVERYTHING, 20_000);
        }
    });
    before.is_restored();
}

/// Has the CPU that booted `drain` without a pause, while the others work, so many operations each.
fn drain_while_others(mix: Mix, operations: usize, drain: &(dyn Fn() + Sync)) {
    let before = Before::new();
    let working = AtomicUsize::new(cpu::count() - 1);
    with_timers(|| {
        on_every_cpu(&|cpu| {
            if cpu != CpuId::BOOT {
                Worker::new(cpu, mix).run(operations);
                working.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let mut rounds = 0;
            while working.load(Ordering::Relaxed) > 0 || rounds < 20 {
                drain();
                rounds += 1;
            }
        });
    });
    before.is_restored();
}

pub(super) fn drain_while_others_allocate() {
    drain_while_others(Mix::EVERYTHING, 60_000, &|| {
        // It may not reach every CPU: the emulator lets one stand still anywhere.
        PAGES.drain();
        HEAP.reclaim();
        CACHE.reap();
        CACHE.shrink();
    });
}

/// Blocks that CPUs keep ready, and lists that overflow and run dry all the time.
pub(super) fn frame_lists_are_drained_while_others_use_them() {
    let mix = Mix { held: 150, sent_of_ten: 2, ..Mix::blocks(&[0, 0, 0, 0, 0, 1, 2, 3]) };
    drain_while_others(mix, 300_000, &|| _ = PAGES.drain());
}

/// CPUs leave the allocator, one after the other or several at once, and return.
pub(super) fn cpus_come_and_go() {
    static IS_AWAY: [AtomicBool; MOST_CPUS] = [const { AtomicBool::new(false) }; MOST_CPUS];
    let before = Before::new();
    let working = AtomicUsize::new(cpu::count() - 1);
    on_every_cpu(&|cpu| {
        if cpu == CpuId::BOOT {
            let mut worker = Worker::new(cpu, Mix::EVERYTHING);
            while working.load(Ordering::Relaxed) > 0 {
                (0..100).for_each(|_| worker.step());
                for (number, is_away) in IS_AWAY.iter().enumerate() {
                    if is_away.load(Ordering::Acquire) {
                        let away = CpuId::new(number).expect("a CPU");
                        // SAFETY: that CPU waits below, and uses nothing of kmem, until it is told.
                        unsafe { CACHE.drain_cpu(away) };
                        is_away.store(false, Ordering::Release);
                    }
                }
            }
            worker.finish();
            return;
        }
        for _ in 0..20 {
            Worker::new(cpu, Mix::EVERYTHING).run(1_000);
            PAGES.drain_local();
            assert_eq!(PAGES.frames_kept(), 0);
            let is_away = &IS_AWAY[cpu.index()];
            is_away.store(true, Ordering::Release);
            while is_away.load(Ordering::Acquire) {
                core::hint::spin_loop();
            }
        }
        working.fetch_sub(1, Ordering::Relaxed);
    });
    before.is_restored();
}

/// Everything at once, for long.
pub(super) fn ten_million_operations() {
    const OPERATIONS: usize = 10_000_000;
    let before = Before::new();
    let done = with_timers(|| work(Mix::EVERYTHING, OPERATIONS));
    assert!(done >= OPERATIONS, "{done} operations");
    assert!(SERVED.load(Ordering::Relaxed) > 0, "no timer got anything");
    before.is_restored();
}
