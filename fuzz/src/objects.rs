//! Calls of a cache of objects against a list of what is allocated and what was written there.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;

use arbitrary::Arbitrary;
use kmem::AllocFlags;
use kmem::platform::CpuId;
use kmem::slab::{CacheFlags, ObjectError, RawCache};

use super::support::{Frames, become_cpu};

/// The first call says what cache it is; numbers pick among what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Call {
    Alloc,
    AllocZeroed,
    AllocMany(u8),
    Free(u8),
    FreeMany(u8),
    FreeTwice(u8),
    FreeInside(u8, u16),
    FailAfter(u8),
    Reserve(u8, u8),
    Shrink,
    Reap,
    DrainCpu(u8),
    RunOn(u8),
}

/// What a cache is made of.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Shape {
    size: u16,
    align: u8,
    flags: u16,
}

const CPUS: usize = 3;

/// Most objects in a batch.
const MOST: usize = 64;

struct Live {
    object: NonNull<u8>,
    stamp: u8,
}

struct Model<'s> {
    frames: &'s Frames,
    cache: RawCache<'s, Frames>,
    size: usize,
    align: usize,
    live: Vec<Live>,
    freed: Vec<NonNull<u8>>,
    stamp: u8,
}

impl Model<'_> {
    fn take(&mut self, object: NonNull<u8>) {
        let address = object.addr().get();
        assert!(address.is_multiple_of(self.align), "{object:p} is misaligned");
        for other in &self.live {
            let gap = address.abs_diff(other.object.addr().get());
            assert!(gap >= self.size, "{object:p} and {:p} overlap", other.object);
        }
        self.stamp = self.stamp.wrapping_add(1);
        // SAFETY: the object is so long and ours.
        unsafe { object.write_bytes(self.stamp, self.size) };
        self.freed.retain(|freed| *freed != object);
        self.live.push(Live { object, stamp: self.stamp });
    }

    fn assert_filled(&self, object: NonNull<u8>, stamp: u8) {
        // SAFETY: the object is so long, ours and written.
        let bytes = unsafe { slice::from_raw_parts(object.as_ptr(), self.size) };
        assert!(bytes.iter().all(|&byte| byte == stamp), "{object:p} was written");
    }

    /// An object that the model gives up.
    fn give(&mut self, nth: usize) -> NonNull<u8> {
        let Live { object, stamp } = self.live.swap_remove(nth % self.live.len());
        self.assert_filled(object, stamp);
        self.freed.push(object);
        object
    }

    fn misfree(&self, object: NonNull<u8>) -> ObjectError {
        // SAFETY: the object is not allocated, or the address none of an object.
        unsafe { self.cache.free(object) }.expect_err("a bad free")
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Alloc => {
                if let Ok(object) = self.cache.alloc(AllocFlags::empty()) {
                    self.take(object);
                }
            }
            Call::AllocZeroed => {
                if let Ok(object) = self.cache.alloc(AllocFlags::ZERO) {
                    self.assert_filled(object, 0);
                    self.take(object);
                }
            }
            Call::AllocMany(wanted) => {
                let mut out = [MaybeUninit::uninit(); MOST];
                let wanted = usize::from(wanted) % MOST;
                let got = self.cache.alloc_many(&mut out[..wanted], AllocFlags::empty());
                for object in &out[..got] {
                    // SAFETY: the first `got` are written.
                    self.take(unsafe { object.assume_init() });
                }
            }
            Call::Free(nth) if !self.live.is_empty() => {
                let object = self.give(nth.into());
                // SAFETY: the model does not use it any more.
                unsafe { self.cache.free(object) }.expect("allocated");
            }
            Call::FreeMany(wanted) => {
                let count = (usize::from(wanted) % MOST).min(self.live.len());
                let objects: Vec<_> = (0..count).map(|_| self.give(0)).collect();
                // SAFETY: the model does not use them any more.
                unsafe { self.cache.free_many(&objects) }.expect("allocated");
            }
            Call::FreeTwice(nth) if !self.freed.is_empty() => {
                let object = self.freed[usize::from(nth) % self.freed.len()];
                let error = self.misfree(object);
                // Its slab may be gone.
                assert!(matches!(error, ObjectError::NotAllocated | ObjectError::OutOfRange));
            }
            Call::FreeInside(nth, offset) if !self.live.is_empty() && self.size > 1 => {
                let object = self.live[usize::from(nth) % self.live.len()].object;
                // SAFETY: within the object.
                let inside = unsafe { object.add(1 + usize::from(offset) % (self.size - 1)) };
                assert_eq!(self.misfree(inside), ObjectError::NotAnObject { base: object });
            }
            Call::FailAfter(requests) => self.frames.fail_after((requests % 8).into()),
            Call::Reserve(reserved, used) => {
                let reserved = usize::from(reserved) % MOST;
                let Ok(mut stock) = self.cache.reserve(reserved, AllocFlags::empty()) else {
                    return;
                };
                let wanted = usize::from(used) % MOST;
                let taken: Vec<_> = (0..wanted).map_while(|_| stock.alloc()).collect();
                assert_eq!(taken.len(), wanted.min(reserved), "a stock failed");
                drop(stock);
                taken.into_iter().for_each(|object| self.take(object));
            }
            Call::Shrink => _ = self.cache.shrink(),
            Call::Reap => _ = self.cache.reap(),
            Call::DrainCpu(cpu) => {
                let cpu = CpuId::new(usize::from(cpu) % CPUS).expect("a CPU");
                // SAFETY: one thread plays all CPUs.
                unsafe { self.cache.drain_cpu(cpu) };
            }
            Call::RunOn(cpu) => become_cpu(usize::from(cpu) % CPUS),
            _ => {}
        }
    }

    fn check(&self) {
        self.cache.verify().expect("sound after each call");
        assert_eq!(self.cache.stats().objects_active, self.live.len());
    }
}

/// Makes a cache and the calls, and in the end gives everything back.
pub fn run(bytes: &[u8]) {
    let mut calls = super::decode::<(Option<Shape>, Call)>(bytes).peekable();
    let shape = calls.peek().and_then(|(shape, _)| *shape);
    let shape = shape.unwrap_or(Shape { size: 64, align: 3, flags: 0 });
    let (size, align) = (usize::from(shape.size % 9000).max(1), 1 << (shape.align % 8));
    let frames = Frames::with_cpus(512, CPUS);
    let frames = if shape.flags.is_multiple_of(2) { frames.sharing_records() } else { frames };
    become_cpu(0);
    let flags = CacheFlags::from_bits_truncate((shape.flags >> 1).into());
    let cache = RawCache::new(&frames, "fuzzed", size, align, flags);
    let (live, freed) = (Vec::new(), Vec::new());
    let mut model = Model { frames: &frames, cache, size, align, live, freed, stamp: 0 };
    for (_, call) in calls {
        model.call(call);
        model.check();
    }
    frames.never_fail();
    while !model.live.is_empty() {
        let object = model.give(0);
        // SAFETY: the model does not use it any more.
        unsafe { model.cache.free(object) }.expect("allocated");
    }
    assert!(model.cache.destroy().is_ok(), "something is left in the cache");
    assert_eq!(frames.taken(), 0, "frames lost");
    frames.assert_owners_clean();
}
