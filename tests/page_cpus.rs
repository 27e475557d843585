//! What the CPUs of a machine keep ready that cannot make them synchronize.

use std::alloc::Layout;

use kmem::frame::{Frame, FrameRange, Order};
use kmem::page::{ClaimError, FrameState, PageAllocator, RemoveError};
use kmem::platform::CpuId;
use kmem::slab::{Cache, CacheFlags, ObjectCache};
use kmem::{AllocFlags, Heap};

mod support;
use support::{Machine, become_cpu, pages};

const NONE: AllocFlags = AllocFlags::empty();

/// A frame that lies ready on the running CPU.
#[track_caller]
fn kept(pages: &PageAllocator<Machine>) -> Frame {
    let frame = pages.alloc(Order::ZERO, NONE).expect("memory");
    pages.free(frame, Order::ZERO).expect("allocated");
    assert!(matches!(pages.lookup(frame), FrameState::Cached { .. }));
    frame
}

fn alone(frame: Frame) -> FrameRange {
    FrameRange::from_len(frame, 1).expect("a small number")
}

#[test]
fn what_the_callers_own_cpu_keeps_ready_can_be_claimed_and_removed() {
    let pages = pages(4096, 2);
    let before = pages.frames_managed();
    let claimed = alone(kept(&pages));
    assert_eq!(pages.claim(claimed), Ok(()));
    let removed = alone(kept(&pages));
    assert_eq!(pages.remove(removed), Ok(()));
    assert_eq!(pages.frames_managed(), before - 1);
    pages.free_exact(claimed).expect("claimed");
    pages.drain_local();
    assert_eq!(pages.frames_available(), before - 1);
    pages.verify().expect("sound");
}

#[test]
fn what_another_cpu_keeps_ready_stays_there() {
    let pages = pages(4096, 2);
    become_cpu(1);
    let frame = kept(&pages);
    become_cpu(0);
    assert_eq!(pages.claim(alone(frame)), Err(ClaimError::InUse { frame }));
    assert_eq!(pages.remove(alone(frame)), Err(RemoveError::InUse { frame }));
    become_cpu(1);
    pages.drain_local();
    become_cpu(0);
    assert_eq!(pages.claim(alone(frame)), Ok(()));
    pages.verify().expect("sound");
}

#[test]
fn what_a_stopped_cpu_keeps_ready_can_be_had() {
    let pages = pages(4096, 2);
    become_cpu(1);
    let frame = kept(&pages);
    become_cpu(0);
    assert!(!pages.drain(), "the machine cannot synchronize its CPUs");
    for cpu in [1, 1, 2, 255] {
        // SAFETY: the only thread is another CPU now.
        assert!(unsafe { pages.drain_cpu(CpuId::new(cpu).expect("a small number")) });
    }
    assert_eq!(pages.claim(alone(frame)), Ok(()));
    become_cpu(1);
    assert_eq!(pages.frames_kept(), 0);
    assert_ne!(kept(&pages), frame, "the CPU can go on");
    pages.verify().expect("sound");
}

/// Has a CPU use the heap for a wave of blocks, all of which it gives back.
#[track_caller]
fn wave(heap: &Heap<'_, PageAllocator<Machine>>) {
    let layout = Layout::new::<[u64; 8]>();
    let blocks: Vec<_> =
        (0..500).map(|_| heap.allocate(layout, NONE).expect("memory").cast()).collect();
    for block in blocks {
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, layout) }.expect("allocated");
    }
}

#[test]
fn what_a_stopped_cpu_kept_of_heap_values_and_objects_comes_back() {
    let pages = pages(4096, 2);
    let heap = Heap::new(&pages);
    let values = Cache::new(&pages, "values", CacheFlags::empty());
    let objects =
        ObjectCache::new(&pages, "objects", CacheFlags::empty(), || Ok::<_, ()>([0_u64; 8]));
    become_cpu(1);
    wave(&heap);
    let taken: Vec<_> = (0..500).map(|_| objects.alloc().expect("memory")).collect();
    drop(taken);
    let taken: Vec<_> = (0..500).map(|_| values.alloc([0_u64; 8]).expect("memory")).collect();
    drop(taken);
    become_cpu(0);
    heap.reclaim();
    objects.shrink();
    values.shrink();
    assert!(heap.stats().slab_frames > 0);
    assert!(objects.stats().slabs_total > 0 && values.stats().slabs_total > 0);
    let stopped = CpuId::new(1).expect("a CPU");
    // SAFETY: nothing runs there.
    unsafe {
        heap.drain_cpu(stopped);
        objects.drain_cpu(stopped);
        values.drain_cpu(stopped);
    }
    heap.reclaim();
    objects.shrink();
    values.shrink();
    assert_eq!(heap.stats().slab_frames, 0);
    assert_eq!((objects.stats().slabs_total, values.stats().slabs_total), (0, 0));
    heap.verify().expect("sound");
    objects.verify().expect("sound");
    values.verify().expect("sound");
}

#[test]
fn a_request_for_frames_gets_what_a_registered_heap_has_to_spare() {
    let pages: &'static PageAllocator<Machine> = Box::leak(Box::new(pages(4096, 1)));
    let heap: &'static Heap<'_, _> = Box::leak(Box::new(Heap::new(pages)));
    wave(heap);
    let all = || std::iter::from_fn(|| pages.alloc(Order::ZERO, NONE).ok()).count();
    let kept = heap.stats().slab_frames;
    assert!(all() > 0 && kept > 0 && heap.stats().slab_frames == kept);
    pages.register_shrinker(heap).expect("a place");
    assert!(all() >= kept && heap.stats().slab_frames == 0);
}
