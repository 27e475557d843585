//! The record of one slab: where its objects lie and which state each is in.
//!
//! A record is a [`Header`], then one state byte for each object, then one bit for each object,
//! set while it is in the slab's free set. Bits find a free object at once; bytes can be written by
//! different CPUs side by side without an atomic read-modify-write, so a CPU-local free can
//! mark its object without a lock. Each checks the other.
//!
//! # Invariants
//!
//! 1. The header's geometry does not change while the slab lives.
//! 2. An object's bit is set exactly if its byte is [`IN_SLAB`]; both change together, under the
//!    cache's lock.
//! 3. `available` is the number of bits that are set.
//! 4. While the slab lives, the owner record of each of its frames is its id.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::geometry::{Geometry, MAX_OBJECTS, Stride};
use super::key::Key;
use super::way::Way;
use crate::frame::{Frame, Order};
use crate::page::records::{GRANULE, MAX_GRANULES, NONE, address};
use crate::platform::Platform;

/// In its slab's free set.
pub(super) const IN_SLAB: u8 = 0;
/// Free, in a magazine or a stock.
pub(super) const CACHED: u8 = 1;
/// In a user's hands.
pub(super) const USER: u8 = 2;
/// Nobody's: it was written while it was free, and stays out of use. No flipped bit makes it of
/// another state.
pub(super) const RUINED: u8 = 15;

/// The part of a slab's record that all slabs have.
#[repr(C)]
struct Header {
    /// The first object's first byte, behind its red zone.
    base: NonNull<u8>,
    /// Of the [`Stride`], as `odd` and `shift` are.
    inverse: u64,
    objects: usize,
    /// The record of the cache.
    cache: u32,
    next: AtomicU32,
    prev: AtomicU32,
    /// Which cache's the slab is, and of which way: that of the CPU that took from it last.
    key: AtomicU32,
    odd: u16,
    available: AtomicU16,
    shift: u8,
    order: Order,
    list: AtomicU8,
    /// The cache's tag, unless it is larger: it says which of a heap's caches this is without a
    /// look at the cache.
    tag: u8,
}

impl Header {
    #[inline(always)]
    fn stride(&self) -> Stride {
        Stride { inverse: self.inverse, odd: self.odd, shift: self.shift }
    }
}

const _: () = {
    assert!(size_of::<Header>() == 48);
    assert!(record_bytes(MAX_OBJECTS) <= MAX_GRANULES * GRANULE);
};

/// Bytes in the record of a slab of so many objects.
pub(super) const fn record_bytes(objects: usize) -> usize {
    bits_offset(objects) + words(objects) * 8
}

/// Bytes from the header to the words of bits: the state bytes lie in between.
const fn bits_offset(objects: usize) -> usize {
    size_of::<Header>() + objects.next_multiple_of(8)
}

/// Words of bits for so many objects.
const fn words(objects: usize) -> usize {
    objects.div_ceil(64)
}

/// One object: where it lies, and where its state byte lies.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) object: NonNull<u8>,
    state: NonNull<u8>,
}

impl Entry {
    #[inline]
    pub(super) fn state(&self) -> &AtomicU8 {
        // SAFETY: entries are made here alone, of slabs that live, with the address of an object's
        // state byte in the slab's record. That lives while any of its objects is out of the slab
        // (`Lists::remove_empty` takes out only slabs that have all of theirs), and an entry is
        // kept, in magazines alone, only as long as its object is. An entry of an object in its
        // slab is not kept, and that slab lives on as whoever asked for it promised: see `find`.
        unsafe { self.state.cast::<AtomicU8>().as_ref() }
    }

    /// Which of `states` is its object's; if none is, it is beyond the last index.
    #[inline(always)]
    pub(super) fn index_among(&self, states: &[AtomicU8]) -> usize {
        self.state.addr().get().wrapping_sub(states.as_ptr().addr())
    }
}

/// What [`Slab::take`] took.
pub(super) struct Taken {
    /// Objects handed out.
    pub(super) objects: usize,
    /// Objects taken out of the free set and handed to nobody.
    pub(super) damaged: usize,
}

/// A slab that lives for `'r`.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'r> {
    /// The state bytes; the header lies before them.
    states: NonNull<AtomicU8>,
    id: u32,
    lives: PhantomData<&'r Header>,
}

impl<'r> Slab<'r> {
    /// Makes a record into a slab whose objects, all of them in the slab, begin at `base`.
    ///
    /// # Safety
    ///
    /// `record` belongs to the caller alone, has the id `id` and at least [`record_bytes`]
    /// bytes for the geometry's objects, and lives for `'r`.
    pub(super) unsafe fn create(
        record: NonNull<u8>,
        id: u32,
        geometry: &Geometry,
        base: NonNull<u8>,
        cache: u32,
        tag: u32,
        key: Key,
    ) -> Self {
        // For `Objects::entry_of`.
        let _ = base.expose_provenance();
        let header = record.cast::<Header>();
        let Stride { inverse, odd, shift } = Stride::new(geometry.stride);
        // SAFETY: the caller's promise; records are aligned to granules.
        unsafe {
            header.write(Header {
                base,
                inverse,
                objects: geometry.objects,
                cache,
                next: AtomicU32::new(NONE),
                prev: AtomicU32::new(NONE),
                key: AtomicU32::new(key.0),
                odd,
                available: AtomicU16::new(geometry.objects as u16),
                shift,
                order: geometry.order,
                list: AtomicU8::new(0),
                tag: u8::try_from(tag).unwrap_or(0),
            });
            header.add(1).cast::<u8>().write_bytes(IN_SLAB, geometry.objects);
            let bits = record.add(bits_offset(geometry.objects)).cast::<u64>();
            for word in 0..words(geometry.objects) {
                let rest = geometry.objects - word * 64;
                bits.add(word).write(if rest >= 64 { u64::MAX } else { (1 << rest) - 1 });
            }
        }
        // SAFETY: the state bytes lie behind the header.
        let states = unsafe { header.add(1) }.cast();
        Self { states, id, lives: PhantomData }
    }

    /// The slab of this id.
    ///
    /// # Safety
    ///
    /// The record `id` is that of a slab that lives for `'r`.
    #[inline]
    pub(super) unsafe fn from_id<P: Platform>(platform: &P, id: u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::of_record(address(platform, id), id) }
    }

    /// The slab with this record.
    ///
    /// # Safety
    ///
    /// It has the id `id` and is that of a slab that lives for `'r`.
    #[inline(always)]
    pub(super) unsafe fn of_record(record: *mut u8, id: u32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::with_states(Self::states_in(record), id) }
    }

    /// The slab with its states there.
    ///
    /// # Safety
    ///
    /// They are those of a slab that lives for `'r` and has the id `id`.
    #[inline(always)]
    pub(super) unsafe fn with_states(states: *mut u8, id: u32) -> Self {
        // SAFETY: they exist, so they have an address (promise 1 of `Platform`).
        let states = unsafe { NonNull::new_unchecked(states) };
        Self { states: states.cast(), id, lives: PhantomData }
    }

    /// Where the states lie of the slab with the record at `record`.
    #[inline(always)]
    pub(super) fn states_in(record: *mut u8) -> *mut u8 {
        record.wrapping_add(size_of::<Header>())
    }

    #[inline]
    fn header(self) -> &'r Header {
        // SAFETY: the record lives for `'r` and begins with a header; what changes in it is atomic.
        unsafe { self.states.cast::<Header>().sub(1).as_ref() }
    }

    /// The bits of invariant 2.
    #[inline]
    pub(super) fn bits(self) -> &'r [AtomicU64] {
        let objects = self.objects();
        // SAFETY: `create` put so many words there, within the record.
        unsafe {
            let bits = self
                .states
                .byte_add(bits_offset(objects) - size_of::<Header>())
                .cast::<AtomicU64>();
            slice::from_raw_parts(bits.as_ptr(), words(objects))
        }
    }

    /// The state bytes.
    #[inline]
    pub(super) fn states(self) -> &'r [AtomicU8] {
        let objects = self.objects();
        // SAFETY: `create` put so many bytes behind the header, within the record.
        unsafe { slice::from_raw_parts(self.states.as_ptr(), objects) }
    }

    #[inline]
    pub(super) fn id(self) -> u32 {
        self.id
    }

    /// The id of the record of the slab's cache.
    #[inline]
    pub(super) fn cache(self) -> u32 {
        self.header().cache
    }

    /// The tag of the slab's cache; 0 instead of those above 255.
    #[cfg(feature = "mmap")]
    #[inline]
    pub(crate) fn tag(self) -> u32 {
        self.header().tag.into()
    }

    #[inline]
    pub(super) fn objects(self) -> usize {
        self.header().objects
    }

    #[inline]
    pub(super) fn available(self) -> usize {
        self.header().available.load(Relaxed) as usize
    }

    #[inline]
    pub(super) fn next(self) -> &'r AtomicU32 {
        &self.header().next
    }

    #[inline]
    pub(super) fn prev(self) -> &'r AtomicU32 {
        &self.header().prev
    }

    /// The number of the list that the slab is in.
    #[inline]
    pub(super) fn list(self) -> &'r AtomicU8 {
        &self.header().list
    }

    /// Which cache's the slab is, and of which way.
    #[inline(always)]
    pub(super) fn key(self) -> Key {
        Key(self.header().key.load(Relaxed))
    }

    /// The way of the CPU that took from the slab last.
    #[inline]
    pub(super) fn way(self) -> Way {
        self.key().way()
    }

    /// Gives the slab to another way. The caller holds the cache's lock.
    #[inline]
    pub(super) fn set_way(self, way: Way) {
        let key = self.key();
        if key.way() != way {
            self.header().key.store(key.with_way(way).0, Relaxed);
        }
    }

    #[inline]
    pub(super) fn order(self) -> Order {
        self.header().order
    }

    /// The first frame of the slab's block.
    pub(super) fn frame<P: Platform>(self, platform: &P) -> Option<Frame> {
        let base = platform.virt_to_phys(self.header().base.as_ptr())?;
        Some(Frame::containing(base)?.align_down(self.order()))
    }

    /// Which object begins at `address`.
    #[inline]
    pub(super) fn index_at(self, address: usize) -> Option<usize> {
        self.here().index_at(address)
    }

    /// Whether an object in a user's hands begins at `address`.
    #[cfg(feature = "mmap")]
    #[inline]
    pub(crate) fn is_users_at(self, address: NonNull<u8>) -> bool {
        self.entry_of(address).is_some_and(|entry| entry.state().load(Relaxed) == USER)
    }

    /// The object `index`, which is below [`objects`](Self::objects).
    #[inline]
    pub(super) fn object(self, index: usize) -> NonNull<u8> {
        let header = self.header();
        let offset = index * header.stride().bytes();
        // An address alone: also of an index that a damaged bit says, which is no object's.
        header.base.map_addr(|base| base.saturating_add(offset))
    }

    /// The object `index` with its state byte.
    #[inline]
    pub(super) fn entry(self, index: usize) -> Entry {
        Entry { object: self.object(index), state: NonNull::from(&self.states()[index]).cast() }
    }

    /// Which object the byte at `address` belongs to, and how far into the object's stride it lies.
    #[inline]
    pub(super) fn index_of(self, address: usize) -> Option<(usize, usize)> {
        let header = self.header();
        if let Some(index) = self.index_at(address) {
            return Some((index, 0));
        }
        let offset = address.wrapping_sub(header.base.as_ptr() as usize);
        let stride = header.stride().bytes();
        let index = offset / stride;
        (index < header.objects).then_some((index, offset % stride))
    }

    /// The object that begins at `object`.
    #[inline]
    pub(super) fn entry_of(self, object: NonNull<u8>) -> Option<Entry> {
        self.here().entry_of(object)
    }

    /// Takes up to `wanted` objects out of the free set, lowest first, marks them `state` and hands
    /// them to `sink`. An object whose byte contradicts its bit is taken out and handed to
    /// nobody. The caller holds the cache's lock.
    ///
    /// Neighbours are taken together: most objects cost one look at their byte and no search.
    #[inline]
    pub(super) fn take(self, wanted: usize, state: u8, mut sink: impl FnMut(Entry)) -> Taken {
        let (bits, states) = (self.bits(), self.states());
        let stride = self.header().stride().bytes();
        let mut left = wanted;
        let mut damaged = 0;
        for (word_index, word) in bits.iter().enumerate() {
            let mut free = word.load(Relaxed);
            if free == 0 {
                continue;
            }
            while free != 0 && left > 0 {
                let first = free.trailing_zeros();
                let run = ((free >> first).trailing_ones() as usize).min(left);
                free &= !(u64::MAX >> (64 - run) << first);
                let index = word_index * 64 + first as usize;
                // Of bits beyond the last object there are no bytes.
                let bytes = states.get(index..states.len().min(index + run)).unwrap_or(&[]);
                damaged += run - bytes.len();
                left -= bytes.len();
                let object = self.object(index);
                for (nth, byte) in bytes.iter().enumerate() {
                    if byte.load(Relaxed) == IN_SLAB {
                        byte.store(state, Relaxed);
                        // SAFETY: one of the slab's objects, since it has a byte.
                        let object = unsafe { object.byte_add(nth * stride) };
                        sink(Entry { object, state: NonNull::from(byte).cast() });
                    } else {
                        core::hint::cold_path();
                        left += 1;
                        damaged += 1;
                    }
                }
            }
            word.store(free, Relaxed);
            if left == 0 {
                break;
            }
        }
        let taken = wanted - left;
        let available = self.available().saturating_sub(taken + damaged);
        self.header().available.store(available as u16, Relaxed);
        Taken { objects: taken, damaged }
    }

    /// Puts an object, which the caller has seen not to be in it, back into the free set;
    /// whether its bit agrees. The caller holds the cache's lock.
    #[inline]
    pub(super) fn put(self, index: usize) -> bool {
        let is_whole = self.put_word(index / 64, 1 << (index % 64)) == 0;
        if is_whole {
            self.states()[index].store(IN_SLAB, Relaxed);
        }
        is_whole
    }

    /// Sets bits in the word `word` of the free set, of objects whose bytes say or will say the
    /// same; those of them that were set before, which is a contradiction. The caller holds the
    /// cache's lock.
    #[inline]
    pub(super) fn put_word(self, word: usize, bits: u64) -> u64 {
        let word = &self.bits()[word];
        let free = word.load(Relaxed);
        word.store(free | bits, Relaxed);
        let added = (bits & !free).count_ones() as u16;
        self.header().available.store(self.header().available.load(Relaxed) + added, Relaxed);
        free & bits
    }

    /// Whether the object `index` is in the free set, as its bit says.
    pub(super) fn has(self, index: usize) -> bool {
        self.bits()[index / 64].load(Relaxed) >> (index % 64) & 1 == 1
    }

    /// How many objects are in a state.
    pub(super) fn in_state(self, state: u8) -> usize {
        self.states().iter().filter(|byte| byte.load(Relaxed) == state).count()
    }

    /// Whether bits, bytes and count agree.
    pub(super) fn is_consistent(self) -> bool {
        let bits = self.bits();
        let ones: u32 = bits.iter().map(|word| word.load(Relaxed).count_ones()).sum();
        let agree = self.states().iter().enumerate().all(|(index, state)| {
            let state = state.load(Relaxed);
            matches!(state, IN_SLAB | CACHED | USER | RUINED)
                && self.has(index) == (state == IN_SLAB)
        });
        agree && ones as usize == self.available()
    }
}

/// What a slab's header says of where its objects are, at hand for many of them.
#[derive(Clone, Copy)]
pub(super) struct Objects<'r> {
    base: usize,
    stride: Stride,
    states: &'r [AtomicU8],
}

impl<'r> Slab<'r> {
    /// Where the slab's objects are.
    #[inline(always)]
    pub(super) fn here(self) -> Objects<'r> {
        let header = self.header();
        Objects { base: header.base.addr().get(), stride: header.stride(), states: self.states() }
    }
}

impl Objects<'_> {
    /// As [`Slab::index_at`].
    #[inline(always)]
    pub(super) fn index_at(&self, address: usize) -> Option<usize> {
        // Whatever lies outside the slab, or inside an object, is far beyond the last index.
        let index = self.stride.divide_exactly(address.wrapping_sub(self.base));
        (index < self.states.len()).then_some(index)
    }

    /// As [`Slab::entry_of`].
    #[inline(always)]
    pub(super) fn entry_of(&self, object: NonNull<u8>) -> Option<Entry> {
        let index = self.index_at(object.addr().get())?;
        // What its user had a pointer to may be a part of the object; the next user has all of it.
        let object = NonNull::with_exposed_provenance(object.addr());
        Some(Entry { object, state: NonNull::from(&self.states[index]).cast() })
    }
}
