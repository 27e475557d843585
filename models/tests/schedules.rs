//! Everything that CPUs hand to each other behind locks, under schedules that chance chooses:
//! zones, shelves, depot, slab lists, remote drains. The code is kmem's own. Its threads change at
//! every question to the platform: where interrupts are masked and unmasked, so around every hold
//! of a lock, where a thread is pinned, where one waits, and where it looks for a record of the
//! cache or the frames, so amid the hold of a lock, too.
//!
//! What happens between those, within a hit, is the model checker's: see the library.

use std::alloc::{Layout, alloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;

use kmem::frame::FRAME_SIZE;
use kmem::platform::CpuId;
use kmem::slab::{CacheFlags, RawCache};
use kmem::{
    AllocFlags, Frame, IrqState, Order, PageAllocator, PhysAddr, Pinning, Platform, Region,
    RegionKind,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner, thread};

const CPUS: usize = 3;
const FRAMES: usize = 512;
const NONE: AllocFlags = AllocFlags::empty();

/// Where the memory begins, in physical addresses.
const BASE: u64 = 1 << 20;

/// The memory of all machines of one test, one after the other: threads of a schedule run on the
/// thread of their test.
fn memory() -> *mut u8 {
    std::thread_local! {
        static MEMORY: *mut u8 = {
            let layout = Layout::from_size_align(FRAMES * FRAME_SIZE, 1 << 20).expect("a layout");
            // SAFETY: the layout has bytes.
            let start = unsafe { alloc(layout) };
            assert!(!start.is_null(), "no memory");
            start
        };
    }
    MEMORY.with(|&memory| memory)
}

shuttle::thread_local! {
    static CPU: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

/// A machine whose CPUs are threads; where `MIGRATES`, they run on any CPU at any time.
struct Machine<const MIGRATES: bool>;

// SAFETY: the memory is this machine's alone while it lives, mapped by addition; threads stay on
// their CPUs, or are not said to; no thread runs on while another one is between two questions, so
// all barriers have been passed at any time.
unsafe impl<const MIGRATES: bool> Platform for Machine<MIGRATES> {
    const PINNING: Pinning = if MIGRATES { Pinning::Migrating } else { Pinning::Pinned };

    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        thread::yield_now();
        memory().wrapping_add((phys.as_u64() - BASE) as usize)
    }

    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        let offset = virt.addr().wrapping_sub(memory().addr());
        (offset < FRAMES * FRAME_SIZE).then(|| PhysAddr::new(BASE + offset as u64))
    }

    fn irq_save(&self) -> IrqState {
        thread::yield_now();
        IrqState(0)
    }

    unsafe fn irq_restore(&self, _: IrqState) {
        thread::yield_now();
    }

    fn cpu_id(&self) -> CpuId {
        let cpu =
            if MIGRATES { thread_rng().gen_range(0..CPUS) } else { CPU.with(|cpu| cpu.get()) };
        CpuId::new(cpu).expect("below the most")
    }

    fn cpu_count(&self) -> usize {
        CPUS
    }

    fn relax(&self) {
        thread::yield_now();
    }

    fn pin(&self) {
        thread::yield_now();
    }

    fn unpin(&self) {
        thread::yield_now();
    }

    fn synchronize(&self) -> bool {
        thread::yield_now();
        true
    }
}

/// Runs `body` under schedules of both kinds.
fn explore(body: fn()) {
    fn run(scheduler: impl Scheduler + 'static, body: fn()) {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        Runner::new(scheduler, config).run(body);
    }
    run(RandomScheduler::new(1000), body);
    run(PctScheduler::new(3, 1000), body);
}

/// A machine's pages; never given back, as the memory outlives them.
fn pages<const MIGRATES: bool>() -> &'static PageAllocator<Machine<MIGRATES>> {
    let pages = Box::leak(Box::new(PageAllocator::new(Machine)));
    let bytes = (FRAMES * FRAME_SIZE) as u64;
    let map = [Region::from_len(PhysAddr::new(BASE), bytes, RegionKind::Usable)];
    // SAFETY: the memory is this machine's alone.
    unsafe { pages.init(map) }.expect("usable memory");
    pages
}

/// Has every CPU do `work` at once, told its number.
fn on_all_cpus(work: impl Fn(usize) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..CPUS)
        .map(|cpu| {
            let work = Arc::clone(&work);
            thread::spawn(move || {
                CPU.with(|current| current.set(cpu));
                work(cpu);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Blocks on their way between CPUs: who has them, by address, and how long they are. Nothing is in
/// it twice.
type Owners = Mutex<BTreeMap<usize, usize>>;

fn enter(owners: &Owners, address: usize, bytes: usize) {
    let mut owners = owners.lock().expect("no panic");
    let before = owners.range(..address + bytes).next_back();
    assert!(before.is_none_or(|(start, len)| start + len <= address), "{address:#x} twice");
    owners.insert(address, bytes);
}

/// Takes any block out.
fn leave(owners: &Owners) -> Option<(usize, usize)> {
    let mut owners = owners.lock().expect("no panic");
    let nth = thread_rng().gen_range(0..owners.len().max(1));
    let address = *owners.keys().nth(nth)?;
    owners.remove_entry(&address)
}

fn frames_pass_between_cpus<const MIGRATES: bool>() {
    let pages = pages::<MIGRATES>();
    let before = pages.frames_available();
    let owners = Arc::new(Owners::new(BTreeMap::new()));
    on_all_cpus({
        let owners = Arc::clone(&owners);
        move |_| {
            for _ in 0..25 {
                match thread_rng().gen_range(0..12) {
                    0 => _ = pages.drain(),
                    1..=6 => {
                        let order = Order::new(thread_rng().gen_range(0..4)).expect("an order");
                        if let Ok(frame) = pages.alloc(order, NONE) {
                            enter(&owners, frame.number(), order.frames());
                        }
                    }
                    _ => {
                        if let Some((number, frames)) = leave(&owners) {
                            let order = Order::for_frames(frames).expect("an order");
                            let frame = Frame::new(number).expect("a frame");
                            pages.free(frame, order).expect("it was allocated");
                        }
                    }
                }
            }
        }
    });
    while let Some((number, frames)) = leave(&owners) {
        let order = Order::for_frames(frames).expect("an order");
        pages.free(Frame::new(number).expect("a frame"), order).expect("it was allocated");
    }
    pages.drain();
    pages.verify().expect("sound");
    assert_eq!(pages.frames_available(), before, "frames were lost");
}

fn objects_pass_between_cpus<const MIGRATES: bool>() {
    const BYTES: usize = 1024;
    let pages = pages::<MIGRATES>();
    let cache: &'static _ =
        Box::leak(Box::new(RawCache::new(pages, "shared", BYTES, 8, CacheFlags::empty())));
    // From the 33rd call on a cache has magazines.
    let first: Vec<_> = (0..40).map(|_| cache.alloc(NONE).expect("memory")).collect();
    let owners = Arc::new(Owners::new(BTreeMap::new()));
    first.iter().for_each(|object| enter(&owners, object.as_ptr().expose_provenance(), BYTES));
    let free = |(address, _): (usize, usize)| {
        let object = NonNull::new(std::ptr::with_exposed_provenance_mut(address));
        // SAFETY: an object of this cache, which nobody uses any more.
        unsafe { cache.free(object.expect("not null")) }.expect("it was allocated");
    };
    on_all_cpus({
        let owners = Arc::clone(&owners);
        move |_| {
            for _ in 0..40 {
                match thread_rng().gen_range(0..20) {
                    0 => _ = cache.shrink(),
                    1 => _ = cache.reap(),
                    2..=10 => {
                        let object = cache.alloc(NONE).expect("memory");
                        enter(&owners, object.as_ptr().expose_provenance(), BYTES);
                    }
                    _ => _ = leave(&owners).map(free),
                }
            }
        }
    });
    while let Some(object) = leave(&owners) {
        free(object);
    }
    cache.verify().expect("sound");
    cache.shrink();
    let stats = cache.stats();
    assert_eq!((stats.objects_active, stats.slabs_total), (0, 0), "{stats:?}");
}

/// CPUs that stop now and then, and go on; others put what is in their magazines back meanwhile.
fn objects_of_cpus_that_stop() {
    const BYTES: usize = 1024;
    let pages = pages::<false>();
    let cache: &'static _ =
        Box::leak(Box::new(RawCache::new(pages, "shared", BYTES, 8, CacheFlags::empty())));
    let free = |object| {
        // SAFETY: an object of this cache, which nobody uses any more.
        unsafe { cache.free(object) }.expect("it was allocated");
    };
    // From the 33rd call on a cache has magazines.
    let first: Vec<_> = (0..40).map(|_| cache.alloc(NONE).expect("memory")).collect();
    first.into_iter().for_each(free);
    // CPUs that have stopped and that nobody is taking away.
    let stopped = Arc::new(Mutex::new(Vec::new()));
    on_all_cpus({
        let stopped = Arc::clone(&stopped);
        move |cpu| {
            let mut own = Vec::new();
            for _ in 0..30 {
                match thread_rng().gen_range(0..16) {
                    0 => _ = cache.shrink(),
                    1 => _ = cache.reap(),
                    2 => {
                        stopped.lock().expect("no panic").push(cpu);
                        thread::yield_now();
                        while !{
                            let mut stopped = stopped.lock().expect("no panic");
                            let place = stopped.iter().position(|&other| other == cpu);
                            place.map(|place| stopped.swap_remove(place)).is_some()
                        } {
                            thread::yield_now();
                        }
                    }
                    3 | 4 => {
                        let taken = stopped.lock().expect("no panic").pop();
                        if let Some(number) = taken {
                            let other = CpuId::new(number).expect("below the most");
                            // SAFETY: it does not go on before it is among those that have stopped
                            // again, and is at nothing.
                            unsafe { cache.drain_cpu(other) };
                            stopped.lock().expect("no panic").push(number);
                        }
                    }
                    5..=11 => own.push(cache.alloc(NONE).expect("memory")),
                    _ => _ = own.pop().map(free),
                }
            }
            own.into_iter().for_each(free);
        }
    });
    cache.verify().expect("sound");
    cache.shrink();
    cache.verify().expect("sound");
    let stats = cache.stats();
    assert_eq!((stats.objects_active, stats.slabs_total), (0, 0), "{stats:?}");
}

#[test]
fn objects_of_cpus_that_stop_go_back() {
    explore(objects_of_cpus_that_stop);
}

#[test]
fn frames_pass_between_pinned_cpus() {
    explore(frames_pass_between_cpus::<false>);
}

#[test]
fn frames_pass_between_cpus_that_threads_move_between() {
    explore(frames_pass_between_cpus::<true>);
}

#[test]
fn objects_pass_between_pinned_cpus() {
    explore(objects_pass_between_cpus::<false>);
}

#[test]
fn objects_pass_between_cpus_that_threads_move_between() {
    explore(objects_pass_between_cpus::<true>);
}
