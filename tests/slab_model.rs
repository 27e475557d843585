//! Random operations on a cache against a model, with a full recount after every step.
//!
//! `KMEM_SEED` chooses other operations, `KMEM_STEPS` how many. A failing run is cut down to
//! the operations that matter, which are printed with the seed.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem::AllocFlags;
use kmem::CpuId;
use kmem::slab::{CacheFlags, ObjectError, RawCache, lookup};

mod support;
use support::{Frames, Random, become_cpu};

const NONE: AllocFlags = AllocFlags::empty();

/// Operations in one life of a cache.
const EPISODE: usize = 2000;

/// Most objects alive at once, so that the recount stays quick.
const MOST_LIVE: usize = 60;

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc,
    AllocZeroed,
    AllocMany(usize),
    Free(usize),
    FreeMany(usize),
    FreeTwice(usize),
    FreeInside(usize, usize),
    FreeElsewhere(usize),
    FailAfter(usize),
    Reserve(usize, usize),
    Shrink,
    Reap,
    DrainCpu(usize),
    RunOn(usize),
}

impl Op {
    fn random(random: &mut Random) -> Self {
        match random.below(100) {
            0..=33 => Self::Alloc,
            34..=37 => Self::AllocZeroed,
            38..=41 => Self::AllocMany(random.below(24)),
            42..=43 => Self::Reserve(random.below(40), random.below(8)),
            44..=76 => Self::Free(random.next()),
            77..=82 => Self::FreeMany(random.below(24)),
            83..=86 => Self::FreeTwice(random.next()),
            87..=89 => Self::FreeInside(random.next(), random.next()),
            90..=91 => Self::FreeElsewhere(random.next()),
            92..=93 => Self::FailAfter(random.below(4)),
            94 if random.below(4) == 0 => Self::Shrink,
            94 => Self::Reap,
            95 => Self::DrainCpu(random.below(3)),
            _ => Self::RunOn(random.below(3)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    size: usize,
    align: usize,
    flags: CacheFlags,
}

impl Shape {
    fn random(random: &mut Random) -> Self {
        let sizes = [1, 8, 16, 24, 48, 64, 100, 128, 192, 320, 512, 1000, 1536, 2048, 5000, 9000];
        let mut flags = CacheFlags::empty();
        for flag in CacheFlags::all() {
            flags.set(flag, random.below(3) == 0);
        }
        Self { size: sizes[random.below(sizes.len())], align: 1 << random.below(8), flags }
    }
}

/// An object in the model's hands, filled with its stamp.
#[derive(Clone, Copy)]
struct Live {
    object: NonNull<u8>,
    stamp: u8,
}

/// Objects that lay in magazines at the ends of lives.
static CACHED_SEEN: AtomicUsize = AtomicUsize::new(0);

struct Model<'s> {
    cache: RawCache<'s, Frames>,
    other: RawCache<'s, Frames>,
    live: Vec<Live>,
    freed: Vec<NonNull<u8>>,
    stamp: u8,
    shape: Shape,
}

impl<'s> Model<'s> {
    fn new(frames: &'s Frames, shape: Shape) -> Self {
        Self {
            cache: RawCache::new(frames, "model", shape.size, shape.align, shape.flags).with_tag(7),
            other: RawCache::new(frames, "other", 64, 8, CacheFlags::empty()),
            live: Vec::new(),
            freed: Vec::new(),
            stamp: 0,
            shape,
        }
    }

    fn take(&mut self, object: NonNull<u8>) {
        let (start, size) = (object.as_ptr() as usize, self.shape.size);
        assert_eq!(start % self.shape.align, 0, "misaligned");
        for other in &self.live {
            let gap = start.abs_diff(other.object.as_ptr() as usize);
            assert!(gap >= size, "{object:p} and {:p} overlap", other.object);
        }
        self.stamp = self.stamp.wrapping_add(1);
        // SAFETY: the object is so long and ours.
        unsafe { object.write_bytes(self.stamp, size) };
        self.freed.retain(|freed| *freed != object);
        self.live.push(Live { object, stamp: self.stamp });
    }

    /// The object is whole; it is the model's no more.
    fn give(&mut self, index: usize) -> NonNull<u8> {
        let Live { object, stamp } = self.live.swap_remove(index);
        self.assert_whole(Live { object, stamp });
        self.freed.push(object);
        object
    }

    fn assert_whole(&self, live: Live) {
        // SAFETY: the object is so long and ours.
        let bytes = unsafe { std::slice::from_raw_parts(live.object.as_ptr(), self.shape.size) };
        assert!(bytes.iter().all(|&byte| byte == live.stamp), "{:p} was written", live.object);
    }

    fn step(&mut self, frames: &Frames, op: Op) {
        match op {
            Op::Alloc | Op::AllocZeroed if self.live.len() < MOST_LIVE => {
                let flags = if let Op::Alloc = op { NONE } else { AllocFlags::ZERO };
                if let Ok(object) = self.cache.alloc(flags) {
                    if flags == AllocFlags::ZERO {
                        self.assert_whole(Live { object, stamp: 0 });
                    }
                    self.take(object);
                }
            }
            Op::AllocMany(wanted) if self.live.len() + wanted < MOST_LIVE => {
                let mut out = [MaybeUninit::uninit(); 24];
                let got = self.cache.alloc_many(&mut out[..wanted], NONE);
                for slot in &out[..got] {
                    // SAFETY: the first `got` are written.
                    self.take(unsafe { slot.assume_init() });
                }
            }
            Op::Free(nth) if !self.live.is_empty() => {
                let object = self.give(nth % self.live.len());
                // SAFETY: the model does not use it any more.
                unsafe { self.cache.free(object) }.expect("allocated");
            }
            Op::FreeMany(wanted) => {
                let count = wanted.min(self.live.len());
                let objects: Vec<_> = (0..count).map(|_| self.give(0)).collect();
                // SAFETY: the model does not use them any more.
                unsafe { self.cache.free_many(&objects) }.expect("allocated");
            }
            Op::FreeTwice(nth) if !self.freed.is_empty() => {
                let object = self.freed[nth % self.freed.len()];
                let error = self.misfree(object);
                // SAFETY: nobody else uses the cache.
                let gone = unsafe { lookup(frames, object) }.is_err();
                let expected =
                    if gone { ObjectError::OutOfRange } else { ObjectError::NotAllocated };
                // The memory may serve anything by now, other caches' objects included.
                let moved = matches!(
                    error,
                    ObjectError::NotAnObject { .. } | ObjectError::WrongCache { .. }
                );
                assert!(error == expected || moved, "{error:?}");
            }
            Op::FreeInside(nth, offset) if !self.live.is_empty() && self.shape.size > 1 => {
                let object = self.live[nth % self.live.len()].object;
                // SAFETY: within the object.
                let inside = unsafe { object.add(1 + offset % (self.shape.size - 1)) };
                assert_eq!(self.misfree(inside), ObjectError::NotAnObject { base: object });
                // SAFETY: nobody else uses the cache.
                let found = unsafe { lookup(frames, inside) }.expect("an object");
                assert_eq!((found.base, found.tag, found.cache), (object, 7, "model"));
                assert!(found.is_allocated);
            }
            Op::FreeElsewhere(nth) if !self.live.is_empty() => {
                let object = self.live[nth % self.live.len()].object;
                // SAFETY: the object is none of this cache.
                let error = unsafe { self.other.free(object) }.expect_err("another cache's");
                assert_eq!(error, ObjectError::WrongCache { owner: "model", given: "other" });
            }
            Op::FailAfter(requests) => frames.fail_after(requests),
            Op::Reserve(reserved, used) if self.live.len() + used < MOST_LIVE => {
                let Ok(mut stock) = self.cache.reserve(reserved, NONE) else { return };
                assert_eq!(stock.len(), reserved);
                assert_eq!(self.cache.stats().objects_active, self.live.len());
                self.cache.verify().expect("sound with a stock");
                let taken: Vec<_> = (0..used).map_while(|_| stock.alloc()).collect();
                assert_eq!(taken.len(), used.min(reserved), "a stock failed");
                drop(stock);
                for object in taken {
                    self.take(object);
                }
            }
            Op::Shrink => _ = self.cache.shrink(),
            Op::Reap => _ = self.cache.reap(),
            // SAFETY: one thread plays all CPUs.
            Op::DrainCpu(cpu) => unsafe { self.cache.drain_cpu(CpuId::new(cpu).expect("a CPU")) },
            Op::RunOn(cpu) => become_cpu(cpu),
            _ => {}
        }
        self.verify();
    }

    fn misfree(&self, object: NonNull<u8>) -> ObjectError {
        // SAFETY: the object is not allocated, or the address none of an object.
        unsafe { self.cache.free(object) }.expect_err("a bad free")
    }

    fn verify(&self) {
        self.cache.verify().expect("sound");
        let stats = self.cache.stats();
        assert_eq!(stats.objects_active, self.live.len());
    }

    fn end(mut self, frames: &Frames) {
        frames.never_fail();
        if !self.shape.flags.contains(CacheFlags::NO_MAGAZINES) {
            let cached = self.cache.stats().objects_cached;
            CACHED_SEEN.fetch_add(cached, Ordering::Relaxed);
        }
        while !self.live.is_empty() {
            let object = self.give(0);
            // SAFETY: the model does not use it any more.
            unsafe { self.cache.free(object) }.expect("allocated");
        }
        self.verify();
        assert!(self.cache.destroy().is_ok() && self.other.destroy().is_ok());
        assert_eq!(frames.taken(), 0, "frames lost");
        frames.assert_owners_clean();
    }
}

fn run(shape: Shape, ops: &[Op]) {
    let frames = Frames::with_cpus(512, 3);
    let frames = if shape.align % 3 == 1 { frames.sharing_records() } else { frames };
    become_cpu(0);
    let mut model = Model::new(&frames, shape);
    for &op in ops {
        model.step(&frames, op);
    }
    model.end(&frames);
}

/// The operations without those that the failure does not need.
fn shrunk(shape: Shape, mut ops: Vec<Op>) -> Vec<Op> {
    let fails = |ops: &[Op]| catch_unwind(AssertUnwindSafe(|| run(shape, ops))).is_err();
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if fails(&fewer) { ops = fewer } else { at += chunk }
        }
        chunk /= 2;
    }
    ops
}

#[test]
fn a_million_random_operations_agree_with_the_model() {
    let seed = support::env("KMEM_SEED", 1);
    let steps = support::env("KMEM_STEPS", 1_000_000);
    for episode in 0..steps.div_ceil(EPISODE) {
        let mut random = Random::new(seed.wrapping_add(episode));
        let shape = Shape::random(&mut random);
        let ops: Vec<_> = (0..EPISODE).map(|_| Op::random(&mut random)).collect();
        if catch_unwind(AssertUnwindSafe(|| run(shape, &ops))).is_err() {
            let ops = shrunk(shape, ops);
            panic!("KMEM_SEED={} with {shape:?} fails at {ops:?}", seed + episode);
        }
    }
    assert!(CACHED_SEEN.load(Ordering::Relaxed) > 0, "no magazine was used");
}
