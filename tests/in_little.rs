//! Every layer for a moment, in little memory: short enough for an interpreter that checks each access, such as Miri
//! (docs/testing.md).

mod support;

use std::alloc::Layout;
use std::convert::Infallible;
use std::ptr::NonNull;
use std::sync::mpsc::channel;

use kmem::frame::{FRAME_SIZE, FrameRange};
use kmem::heap::Heap;
use kmem::memory_map::{Region, RegionKind};
use kmem::page::PageAllocator;
use kmem::platform::Platform;
use kmem::slab::{CacheFlags, ObjectCache, ObjectError, RawCache};
use kmem::{AllocFlags, Order};
use support::{Machine, Random, become_cpu};

const NONE: AllocFlags = AllocFlags::empty();
const CPUS: usize = 2;

fn pages() -> PageAllocator<Machine> {
    let machine = Machine::new(512, CPUS);
    let region = Region::from_frames(machine.frames(), RegionKind::Usable);
    let pages = PageAllocator::new(machine);
    // SAFETY: the memory is the machine's, for nobody else.
    unsafe { pages.init([region]) }.expect("memory for the metadata");
    pages
}

/// Runs `work` on all CPUs at once.
fn on_all_cpus(work: impl Fn(Random) + Sync) {
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let work = &work;
            scope.spawn(move || {
                become_cpu(cpu);
                work(Random::new(cpu));
            });
        }
    });
}

/// Memory on its way from one CPU to another.
struct Sent(NonNull<u8>);

// SAFETY: memory belongs to whoever holds it.
unsafe impl Send for Sent {}

/// Writes its own address to both ends of `bytes` bytes, at least 16, at `start`.
fn stamp(start: NonNull<u8>, bytes: usize) {
    let stamp = start.addr().get();
    // SAFETY: whoever asks owns the bytes.
    unsafe {
        start.cast::<usize>().write_unaligned(stamp);
        start.add(bytes - 8).cast::<usize>().write_unaligned(stamp);
    }
}

/// Whether nobody has written to what was [stamped](stamp).
#[track_caller]
fn check(start: NonNull<u8>, bytes: usize) {
    // SAFETY: as in `stamp`, which has written there.
    let found = unsafe {
        (
            start.cast::<usize>().read_unaligned(),
            start.add(bytes - 8).cast::<usize>().read_unaligned(),
        )
    };
    let stamp = start.addr().get();
    assert_eq!(found, (stamp, stamp), "two owners of {start:p}");
}

#[test]
fn blocks_and_runs() {
    let pages = pages();
    let address = |range: FrameRange| {
        let start = pages.platform().phys_to_virt(range.start().start());
        NonNull::new(start).expect("mapped")
    };
    on_all_cpus(|mut random| {
        let mut live = Vec::new();
        for _ in 0..150 {
            if live.len() < 8 {
                let order = Order::new(random.below(4) as u8).expect("small");
                let range = match random.below(3) {
                    0 => pages.alloc_exact(1 + random.below(6), NONE),
                    _ => pages.alloc(order, NONE).map(|frame| {
                        FrameRange::from_len(frame, order.frames()).expect("it lies in memory")
                    }),
                };
                let range = range.expect("memory");
                stamp(address(range), range.frames() * FRAME_SIZE);
                live.push(range);
            } else {
                let range = live.swap_remove(random.below(live.len()));
                check(address(range), range.frames() * FRAME_SIZE);
                pages.free_exact(range).expect("allocated");
            }
        }
        live.into_iter().for_each(|range| pages.free_exact(range).expect("allocated"));
    });
    pages.verify().expect("sound");
}

#[test]
fn objects_from_cpu_to_cpu() {
    let pages = pages();
    let guarded = CacheFlags::POISON | CacheFlags::RED_ZONE | CacheFlags::ZERO_ON_FREE;
    for (size, flags) in [(24, CacheFlags::empty()), (200, CacheFlags::STRICT), (40, guarded)] {
        let cache = RawCache::new(&pages, "little", size, 8, flags);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..CPUS).map(|_| channel::<Sent>()).unzip();
        std::thread::scope(|scope| {
            for (cpu, receiver) in receivers.into_iter().enumerate() {
                let (senders, cache) = (senders.clone(), &cache);
                scope.spawn(move || {
                    become_cpu(cpu);
                    let mut random = Random::new(cpu);
                    for _ in 0..120 {
                        let object = cache.alloc(NONE).expect("memory");
                        stamp(object, size);
                        let to = random.below(CPUS);
                        senders[to].send(Sent(object)).expect("a receiver");
                        for Sent(object) in receiver.try_iter() {
                            check(object, size);
                            // SAFETY: not used any more.
                            unsafe { cache.free(object) }.expect("allocated");
                        }
                    }
                    drop(senders);
                    for Sent(object) in receiver {
                        check(object, size);
                        // SAFETY: not used any more.
                        unsafe { cache.free(object) }.expect("allocated");
                    }
                });
            }
            drop(senders);
        });
        become_cpu(0);
        let object = cache.alloc(NONE).expect("memory");
        // SAFETY: within the object.
        let inside = unsafe { object.add(8) };
        // SAFETY: none of these is an object that somebody uses.
        unsafe {
            assert_eq!(cache.free(inside), Err(ObjectError::NotAnObject { base: object }));
            cache.free(object).expect("allocated");
            assert_eq!(cache.free(object), Err(ObjectError::NotAllocated));
        }
        cache.shrink();
        cache.verify().expect("sound");
    }
    pages.verify().expect("sound");
}

#[test]
fn constructed_objects() {
    let pages = pages();
    let cache =
        ObjectCache::new(&pages, "vectors", CacheFlags::empty(), || Ok::<_, Infallible>(vec![7]));
    for round in 0..3 {
        let mut vectors: Vec<_> = (0..40).map(|_| cache.alloc().expect("memory")).collect();
        for vector in &mut vectors {
            assert_eq!(vector[0], 7);
            vector.push(round);
        }
    }
}

#[test]
fn blocks_of_a_heap() {
    let pages = pages();
    let heap = Heap::new(&pages);
    let layout = |bytes: usize| Layout::from_size_align(bytes, 8).expect("valid");
    on_all_cpus(|mut random| {
        let mut live: Vec<(NonNull<u8>, usize)> = Vec::new();
        let size = |random: &mut Random| match random.below(8) {
            0 => 16 + random.below(40_000),
            _ => 16 + random.below(600),
        };
        for _ in 0..150 {
            match random.below(3) {
                0 if !live.is_empty() => {
                    let (block, bytes) = live.swap_remove(random.below(live.len()));
                    check(block, bytes);
                    // SAFETY: the block has this layout and is not used any more.
                    unsafe { heap.deallocate(block, layout(bytes)) }.expect("allocated");
                }
                1 if !live.is_empty() => {
                    let index = random.below(live.len());
                    let (block, bytes) = live[index];
                    let new = size(&mut random);
                    // SAFETY: the block has this layout, and is used by its new address alone.
                    let moved = unsafe { heap.reallocate(block, layout(bytes), layout(new), NONE) };
                    let moved = moved.expect("memory").cast::<u8>();
                    // SAFETY: the block was stamped by its old address.
                    let stamped = unsafe { moved.cast::<usize>().read_unaligned() };
                    assert_eq!(stamped, block.addr().get());
                    stamp(moved, new);
                    live[index] = (moved, new);
                }
                _ if live.len() < 12 => {
                    let bytes = size(&mut random);
                    let block = heap.allocate(layout(bytes), NONE).expect("memory").cast();
                    stamp(block, bytes);
                    live.push((block, bytes));
                }
                _ => {}
            }
        }
        for (block, bytes) in live {
            check(block, bytes);
            // SAFETY: as above.
            unsafe { heap.deallocate(block, layout(bytes)) }.expect("allocated");
        }
    });
    assert_eq!(heap.stats().live_bytes(), 0);
    heap.verify().expect("sound");
    pages.verify().expect("sound");
}
