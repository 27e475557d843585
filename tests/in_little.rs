//! Every layer for a moment, in little memory: short enough for an interpreter that checks each
//! access, such as Miri (docs/testing.md).

mod support;

use std::alloc::Layout;
use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::mpsc::channel;

use kmem::frame::{FRAME_SIZE, FrameRange};
use kmem::heap::Heap;
use kmem::platform::Platform;
use kmem::slab::{CacheFlags, ObjectCache, ObjectError, RawCache};
use kmem::{AllocFlags, Order};
use support::{Frames, Random, Sent, become_cpu, pages};

const NONE: AllocFlags = AllocFlags::empty();
const CPUS: usize = 2;
const FRAMES: usize = 512;

/// Runs `work` on all CPUs at once.
fn on_all_cpus(work: impl Fn(usize, Random) + Sync) {
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let work = &work;
            scope.spawn(move || {
                become_cpu(cpu);
                work(cpu, Random::new(cpu));
            });
        }
    });
}

/// What no other step of any CPU stamps.
fn stamp(cpu: usize, step: usize) -> u64 {
    (step * CPUS + cpu) as u64
}

#[test]
fn blocks_and_runs() {
    let pages = pages(FRAMES, CPUS);
    on_all_cpus(|cpu, mut random| {
        let mut live: Vec<(FrameRange, Sent)> = Vec::new();
        let free = |(range, sent): (FrameRange, Sent)| {
            sent.opened(range.frames() * FRAME_SIZE);
            pages.free_exact(range).expect("allocated");
        };
        for step in 0..150 {
            if live.len() == 8 {
                free(live.swap_remove(random.below(8)));
                continue;
            }
            let order = Order::new(random.below(4) as u8).expect("small");
            let range = match random.below(3) {
                0 => pages.alloc_exact(1 + random.below(6), NONE).expect("memory"),
                _ => {
                    let frame = pages.alloc(order, NONE).expect("memory");
                    FrameRange::from_len(frame, order.frames()).expect("it lies in memory")
                }
            };
            let start = pages.platform().phys_to_virt(range.start().start());
            let start = NonNull::new(start).expect("mapped");
            let sent = Sent::stamp(start, range.frames() * FRAME_SIZE, stamp(cpu, step));
            live.push((range, sent));
        }
        live.into_iter().for_each(free);
    });
    pages.verify().expect("sound");
}

#[test]
fn guarded_objects_up_to_the_last_byte_of_memory() {
    let frames = Frames::new(8);
    // With its red zones each has 64 bytes: nothing is left over at the end of a slab.
    let cache = RawCache::new(&frames, "to the end", 48, 8, CacheFlags::RED_ZONE);
    let objects: Vec<_> = std::iter::from_fn(|| cache.alloc(NONE).ok()).collect();
    assert!(frames.taken() == 8 && objects.len().is_multiple_of(FRAME_SIZE / 64));
    for object in objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    cache.verify().expect("sound");
}

#[test]
fn objects_from_cpu_to_cpu() {
    let pages = pages(FRAMES, CPUS);
    let guarded = CacheFlags::POISON | CacheFlags::RED_ZONE | CacheFlags::ZERO_ON_FREE;
    for (size, flags) in [(24, CacheFlags::empty()), (200, CacheFlags::STRICT), (40, guarded)] {
        let cache = RawCache::new(&pages, "little", size, 8, flags);
        let free = |sent: Sent| {
            // SAFETY: not used any more.
            unsafe { cache.free(sent.opened(size)) }.expect("allocated");
        };
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..CPUS).map(|_| channel::<Sent>()).unzip();
        std::thread::scope(|scope| {
            for (cpu, receiver) in receivers.into_iter().enumerate() {
                let (senders, cache, free) = (senders.clone(), &cache, &free);
                scope.spawn(move || {
                    become_cpu(cpu);
                    let mut random = Random::new(cpu);
                    for step in 0..120 {
                        let object = cache.alloc(NONE).expect("memory");
                        let sent = Sent::stamp(object, size, stamp(cpu, step));
                        senders[random.below(CPUS)].send(sent).expect("a receiver");
                        receiver.try_iter().for_each(free);
                    }
                    drop(senders);
                    receiver.into_iter().for_each(free);
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
        assert_eq!(cache.stats().objects_active, 0);
        cache.shrink();
        cache.verify().expect("sound");
    }
    pages.verify().expect("sound");
}

#[test]
fn many_objects_and_those_that_come_back_by_a_pointer_to_a_part() {
    let pages = pages(FRAMES, CPUS);
    let cache = RawCache::new(&pages, "parts", 64, 8, CacheFlags::empty());
    on_all_cpus(|cpu, _| {
        let mut out = [MaybeUninit::uninit(); 61];
        for (round, many) in [1, 31, 61, 0, 20, 61].into_iter().enumerate() {
            let got = cache.alloc_many(&mut out[..many], NONE);
            assert_eq!(got, many);
            let objects: Vec<NonNull<u8>> = out[..many]
                .iter()
                .map(|object| {
                    // SAFETY: the first `got` are written, with objects of 64 bytes that are ours.
                    unsafe {
                        let object = object.assume_init();
                        object.cast::<[u64; 8]>().write([stamp(cpu, round); 8]);
                        NonNull::from(object.cast::<u32>().as_mut()).cast()
                    }
                })
                .collect();
            let (single, rest) = objects.split_at(many / 4);
            for &object in single {
                // SAFETY: not used any more.
                unsafe { cache.free(object) }.expect("allocated");
            }
            // SAFETY: not used any more.
            unsafe { cache.free_many(rest) }.expect("allocated");
        }
    });
    assert_eq!(cache.stats().objects_active, 0);
    cache.verify().expect("sound");
}

#[test]
fn constructed_objects() {
    let pages = pages(FRAMES, CPUS);
    let cache =
        ObjectCache::new(&pages, "vectors", CacheFlags::empty(), || Ok::<_, Infallible>(vec![0]));
    for round in 1..=3 {
        let mut vectors: Vec<_> = (0..40).map(|_| cache.alloc().expect("memory")).collect();
        for vector in &mut vectors {
            assert!(vector.is_sorted() && vector[0] == 0, "as constructed, or as left: {vector:?}");
            assert_ne!(vector.last(), Some(&round), "handed out twice");
            vector.push(round);
        }
    }
}

#[test]
fn blocks_of_a_heap() {
    let pages = pages(FRAMES, CPUS);
    let heap = Heap::new(&pages);
    let layout = |bytes: usize| Layout::from_size_align(bytes, 8).expect("valid");
    on_all_cpus(|cpu, mut random| {
        let mut live: Vec<(Sent, usize)> = Vec::new();
        let size = |random: &mut Random| match random.below(8) {
            0 => 16 + 8 * random.below(5_000),
            _ => 16 + 8 * random.below(75),
        };
        let free = |(sent, bytes): (Sent, usize)| {
            // SAFETY: the block has this layout and is not used any more.
            unsafe { heap.deallocate(sent.opened(bytes), layout(bytes)) }.expect("allocated");
        };
        for step in 0..150 {
            match random.below(3) {
                0 if !live.is_empty() => free(live.swap_remove(random.below(live.len()))),
                1 if !live.is_empty() => {
                    let (sent, bytes) = live.swap_remove(random.below(live.len()));
                    let (block, new) = (sent.opened(bytes), size(&mut random));
                    // SAFETY: the block has this layout, and begins with the word of its stamp.
                    let first = unsafe { block.cast::<u64>().read() };
                    // SAFETY: as above, and it is used by its new address alone.
                    let moved = unsafe { heap.reallocate(block, layout(bytes), layout(new), NONE) };
                    let moved = moved.expect("memory").cast::<u8>();
                    // SAFETY: the content has moved with the block.
                    assert_eq!(unsafe { moved.cast::<u64>().read() }, first);
                    live.push((Sent::stamp(moved, new, stamp(cpu, step)), new));
                }
                _ if live.len() < 12 => {
                    let bytes = size(&mut random);
                    let block = heap.allocate(layout(bytes), NONE).expect("memory").cast();
                    live.push((Sent::stamp(block, bytes, stamp(cpu, step)), bytes));
                }
                _ => {}
            }
        }
        live.into_iter().for_each(free);
    });
    assert_eq!(heap.stats().live_bytes(), 0);
    heap.verify().expect("sound");
    pages.verify().expect("sound");
}

#[test]
fn a_block_that_comes_back_by_a_pointer_to_a_part_and_stays_where_it_is() {
    let pages = pages(FRAMES, CPUS);
    let heap = Heap::new(&pages);
    let layout = |bytes| Layout::from_size_align(bytes, 8).expect("valid");
    // Of a size class, and several frames.
    for (bytes, more) in [(40, 48), (40_000, 40_504)] {
        let mut block = heap.allocate(layout(bytes), NONE).expect("memory").cast::<u8>();
        for old in [bytes, more] {
            // SAFETY: the block is ours and longer than that.
            unsafe { block.cast::<u64>().write(7) };
            // SAFETY: as above; nobody else uses it.
            let part = NonNull::from(unsafe { block.cast::<u32>().as_mut() });
            // SAFETY: the block has this layout, and is used by its new address alone.
            let longer = unsafe { heap.reallocate(part.cast(), layout(old), layout(more), NONE) };
            let longer = longer.expect("memory").cast();
            assert_eq!(longer, block);
            block = longer;
            // SAFETY: so long is the block now.
            unsafe { block.add(more - 8).cast::<u64>().write(8) };
        }
        // SAFETY: as above.
        let part = NonNull::from(unsafe { block.cast::<u32>().as_mut() });
        // SAFETY: as above; only so many bytes are asked for.
        let same = unsafe { heap.reallocate_unsized(part.cast(), layout(more)) };
        block = same.expect("memory").cast();
        // SAFETY: as above.
        unsafe { block.add(more - 8).cast::<u64>().write(9) };
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, layout(more)) }.expect("allocated");
    }
    heap.verify().expect("sound");
}
