//! Arenas: ranges of integers, allocated under a fit policy.
//!
//! Buddies and slabs hand out memory. A kernel also hands out what is not memory, or not yet:
//! virtual addresses, windows of a device, process ids, sectors, the 8-byte units of one page. All
//! of these are ranges of integers, and an [`Arena`] manages such ranges without looking at what
//! they name. Every segment, available or allocated, has a record [`Segment`] out of band, in a
//! pool that the caller gives; so an arena works before there is any heap, and over things that
//! cannot be written to.
//!
//! ```
//! use kmem::arena::{Arena, Config, Constraint, Fit, Segment};
//!
//! let mut pool = [Segment::SPARE; 64];
//! let mut windows = Arena::new(Config::new("mmio", 0x1000, Fit::Best), &mut pool)?;
//! windows.add(0xf000_0000..0xf800_0000)?;
//!
//! let registers = windows.alloc(0x100)?;            // rounded up to the quantum
//! let aligned = Constraint { align: 0x10_0000, ..Constraint::NONE };
//! let frame_buffer = windows.alloc_constrained(0x30_0000, &aligned)?;
//! assert!(frame_buffer % 0x10_0000 == 0);
//!
//! windows.free(registers, 0x100)?;
//! windows.free(frame_buffer, 0x30_0000)?;
//! assert!(windows.free(registers, 0x100).is_err());  // twice: refused, and nothing is changed
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Words
//!
//! A **span** is a range that was added or imported; **segments** are what it is cut into, each
//! available or allocated. The **quantum** is the unit: every start and every length is a multiple
//! of it. A span is **imported** from a [`Source`] when a request cannot be met, and goes back
//! when all of it is available again.
//!
//! # Invariants
//!
//! [`Arena::verify`] recounts them.
//!
//! 1. Segments are not empty, do not overlap, cover their spans without gaps, and start and end on
//!    multiples of the quantum.
//! 2. No two neighbours in one span are both available.
//! 3. Added spans that touch are one span; imported spans keep their borders.
//! 4. The ring and the tree by address hold every segment and every border once, in address order;
//!    both trees are red-black trees.
//! 5. An available segment is in the structure of the fit, exactly where its length and address
//!    demand; no other is.
//! 6. An allocated or cached segment is in its hash chain; no other is.
//! 7. Under First and Next each node knows the longest available segment below it.
//! 8. Every record is the ring's, a border's, a segment's or spare, and the totals agree.
//!
//! # How it works, and what it costs
//!
//! *n* is the number of segments.
//!
//! | operation | structure | cost |
//! | --- | --- | --- |
//! | neighbours, for splitting and merging | ring in address order | O(1) |
//! | `free`: from start to record | hash table in the pool itself | O(1) expected, O(log n) at worst |
//! | new and merged segments | tree by address, attached at the neighbour | O(1) amortised, O(log n) at worst |
//! | `alloc`, Instant | 64 lists by power of two, and a word of bits | O(1) |
//! | `alloc`, Best and Worst | tree by length and address | O(log n) |
//! | `alloc`, First and Next | tree by address, each node with the longest below it | O(log n) |
//! | requests of few quanta, if cached | a stack for each length | O(1) |
//! | `resize` in place | the neighbour's, as above | O(log n), Instant O(1) |
//! | `grow_pool` | every record copied | O(1) amortised, if doubled |
//! | what a wrong `free` hit, `lookup`, overlap of `add` | tree by address | O(log n) |
//!
//! A constrained request looks at the segments that are long enough in the order of the fit until
//! one has room at an allowed start: O(log n) for each that is looked at. Without a window only
//! segments can fail that are shorter than the request and its alignment together. With a window
//! First and Next look inside it only, the others possibly at every segment that is long enough.
//!
//! Nothing recurses; the longest loops are one path of a tree, and the constrained search.
//!
//! # Rejected
//!
//! *Boundary tags in the managed range*: the range need not be memory. *A list walked for First and
//! Best*: linear under a lock. *A treap in place of the red-black tree*: half the code, but its
//! bound is an expectation. *A hash table beside the pool*: a second slice to size, and no faster.
//! *Merging imported spans that touch*: they could not go back to the source one by one.
//!
//! # Sources
//!
//! Bonwick and Adams, *Magazines and Vmem: Extending the Slab Allocator to Many CPUs and Arbitrary
//! Resources* (USENIX 2001), for quantum, constraints, instant fit, import and quantum caches;
//! Knuth, *The Art of Computer Programming* 1, 2.5, for boundaries and first, best and next fit.

#![forbid(unsafe_code)]

mod bins;
mod constraint;
mod error;
mod grow;
mod hash;
mod policy;
mod quantum_cache;
mod segment;
mod show;
mod source;
mod tree;
mod verify;

use core::ops::Range;

pub use constraint::Constraint;
pub use error::{AddError, AllocError, ConfigError, FreeError, ResizeError};
pub use policy::Fit;
pub use quantum_cache::{CACHE_DEPTH, MAX_CACHED_QUANTA};
pub use segment::Segment;
pub use show::{SegmentInfo, SegmentState, Stats};
pub use source::{Kept, NoSource, Source};
pub use verify::Corruption;

use constraint::Request;
use hash::Starts;
use policy::Index;
use quantum_cache::QuantumCaches;
use segment::{Kind, Origin, Pool, Slot};

/// What kind of arena to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// What it hands out, for whoever prints it.
    pub name: &'static str,
    /// The unit: a power of two.
    pub quantum: u64,
    /// Which available segment a request takes.
    pub fit: Fit,
    /// Segments of up to this many quanta (at most [`MAX_CACHED_QUANTA`]) are kept whole when they
    /// are given back, up to [`CACHE_DEPTH`] of each length, and serve the next plain request of
    /// their length before the fit is asked. They merge when a request could not be met otherwise,
    /// and by [`Arena::drain_caches`]. 0 caches nothing.
    pub cached_quanta: usize,
}

impl Config {
    /// An arena without quantum caches.
    pub const fn new(name: &'static str, quantum: u64, fit: Fit) -> Self {
        Self { name, quantum, fit, cached_quanta: 0 }
    }
}

/// Ranges of integers below `u64::MAX`; see the [module](self).
///
/// An arena belongs to one owner. Share it as `spin::Mutex<Arena>`: a reference to one is a
/// [`Source`], so that arenas can import from it.
#[derive(Debug)]
pub struct Arena<'m, S: Source = NoSource> {
    name: &'static str,
    quantum: u64,
    pool: Pool<'m>,
    starts: Starts,
    index: Index,
    caches: QuantumCaches,
    stats: Stats,
    source: S,
}

/// Records that suffice for `spans` spans of `quanta` quanta altogether, whatever is asked of them.
pub const fn segments_needed(spans: usize, quanta: usize) -> usize {
    1 + spans + quanta
}

impl<'m> Arena<'m> {
    /// An arena that holds nothing yet. `pool` bounds its segments: a live allocation needs at
    /// most two records, a span two, and the arena itself one; [`segments_needed`] is the bound for
    /// a small range cut to pieces. What an earlier arena left in the pool is wiped, which is the
    /// only step that takes time linear in it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `config` breaks a rule of its fields, or `pool` has less than 3 records.
    pub fn new(config: Config, pool: &'m mut [Segment]) -> Result<Self, ConfigError> {
        Self::with_source(config, pool, NoSource)
    }
}

impl<'m, S: Source> Arena<'m, S> {
    /// The same, with a source that spans are imported from when a request cannot be met.
    ///
    /// # Errors
    ///
    /// As [`Arena::new`].
    pub fn with_source(
        config: Config,
        pool: &'m mut [Segment],
        source: S,
    ) -> Result<Self, ConfigError> {
        let Config { name, quantum, fit, cached_quanta } = config;
        if !quantum.is_power_of_two() {
            return Err(ConfigError::BadQuantum { quantum });
        }
        if cached_quanta > MAX_CACHED_QUANTA {
            return Err(ConfigError::TooManyCaches {
                given: cached_quanta,
                most: MAX_CACHED_QUANTA,
            });
        }
        let given = pool.len();
        let need = Pool::MIN_LEN;
        let pool = Pool::new(pool).ok_or(ConfigError::PoolTooSmall { given, need })?;
        Ok(Self {
            name,
            quantum,
            starts: Starts::new(&pool),
            pool,
            index: Index::new(fit),
            caches: QuantumCaches::new(cached_quanta),
            stats: Stats::default(),
            source,
        })
    }

    /// Adds `range` for good. It joins added ranges that it touches. O(log n).
    ///
    /// # Errors
    ///
    /// [`AddError`] if the range is empty, not in multiples of the quantum, in the arena already,
    /// or if the pool has not two records left.
    pub fn add(&mut self, range: Range<u64>) -> Result<(), AddError> {
        self.add_span(range, Origin::Added).map(drop)
    }

    /// Allocates `len` integers, rounded up to the quantum, and returns the first.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the arena is unchanged, except that cached segments may have merged.
    #[inline]
    pub fn alloc(&mut self, len: u64) -> Result<u64, AllocError> {
        let len = self.round_up(len)?;
        let quanta = len >> self.quantum.trailing_zeros();
        if let Some(slot) = self.caches.pop(&mut self.pool, quanta) {
            self.stats.cached -= len;
            self.stats.allocated += len;
            return Ok(self.pool[slot].start);
        }
        self.alloc_by_fit(len)
    }

    /// Allocates `len` integers, rounded up to the quantum, where `constraint` allows. To claim
    /// one certain range, make it the window.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; the arena is unchanged, except that cached segments may have merged.
    pub fn alloc_constrained(
        &mut self,
        len: u64,
        constraint: &Constraint,
    ) -> Result<u64, AllocError> {
        let len = self.round_up(len)?;
        let request = constraint.request(len, self.quantum)?;
        let found = self.index.find(&self.pool, &request);
        self.place(found, || request, len)
    }

    /// Takes back the segment of `len` integers (as asked for or rounded up) that starts at
    /// `start`. An imported span that is wholly available then goes back to the source.
    ///
    /// # Errors
    ///
    /// [`FreeError`], with what is there instead; the arena is unchanged.
    #[inline]
    pub fn free(&mut self, start: u64, len: u64) -> Result<(), FreeError> {
        let slot = self.allocated_at(start)?;
        let allocated = self.pool[slot].len;
        if self.round_up(len) != Ok(allocated) {
            let allocated = self.pool[slot].range();
            return Err(FreeError::WrongLength { allocated, given: len });
        }
        self.give_back(slot, start, allocated);
        Ok(())
    }

    /// Takes back the segment that starts at `start`, and returns its length.
    ///
    /// # Errors
    ///
    /// [`FreeError`], with what is there instead; the arena is unchanged.
    #[inline]
    pub fn free_at(&mut self, start: u64) -> Result<u64, FreeError> {
        let slot = self.allocated_at(start)?;
        let len = self.pool[slot].len;
        self.give_back(slot, start, len);
        Ok(len)
    }

    /// Merges every segment that the quantum caches keep; spans that fall wholly available go back
    /// to the source. At most [`MAX_CACHED_QUANTA`] × [`CACHE_DEPTH`] segments.
    pub fn drain_caches(&mut self) {
        for quanta in 1..=MAX_CACHED_QUANTA as u64 {
            while let Some(slot) = self.caches.pop(&mut self.pool, quanta) {
                let Segment { start, len, .. } = self.pool[slot];
                self.stats.cached -= len;
                self.stats.allocated += len;
                self.release(slot, start, len);
            }
        }
    }

    /// `len` as this arena hands it out: rounded up to the quantum.
    ///
    /// # Errors
    ///
    /// [`AllocError::ZeroLength`], [`AllocError::TooLong`].
    #[inline]
    pub fn round_up(&self, len: u64) -> Result<u64, AllocError> {
        if len == 0 {
            return Err(AllocError::ZeroLength);
        }
        match len.checked_add(self.quantum - 1) {
            Some(sum) => Ok(sum & !(self.quantum - 1)),
            None => Err(AllocError::TooLong { len }),
        }
    }

    /// Ends the arena, whatever it holds, and returns its pool and its source. What was imported
    /// is not given back.
    pub fn into_parts(self) -> (&'m mut [Segment], S) {
        (self.pool.into_records(), self.source)
    }

    /// What the arena is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The unit of every start and length.
    pub const fn quantum(&self) -> u64 {
        self.quantum
    }

    /// Which available segment a request takes.
    pub const fn fit(&self) -> Fit {
        self.index.fit
    }

    /// Where spans are imported from.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Where spans are imported from, to be changed.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Allocates `len`, a multiple of the quantum, as the fit says. A function of its own, so that
    /// the quantum caches need not wait for its prologue.
    #[inline(never)]
    fn alloc_by_fit(&mut self, len: u64) -> Result<u64, AllocError> {
        let found = self.index.find_anywhere(&self.pool, len);
        self.place(found, || Request::anywhere(len), len)
    }

    /// Carves `len` where `found` says, or does what it takes to meet the request.
    #[inline]
    fn place(
        &mut self,
        found: Option<(Slot, u64)>,
        request: impl FnOnce() -> Request,
        len: u64,
    ) -> Result<u64, AllocError> {
        match found {
            Some((slot, start)) if self.pool.spares() >= 2 => Ok(self.carve(slot, start, len)),
            _ => self.place_slowly(&request()),
        }
    }

    /// Nothing fits, or records are short: first the caches are drained, then a span is imported.
    #[cold]
    fn place_slowly(&mut self, request: &Request) -> Result<u64, AllocError> {
        if self.stats.cached > 0 {
            self.drain_caches();
        }
        let found = match self.index.find(&self.pool, request) {
            None => self.import(request)?,
            found => found,
        };
        let Some((slot, start)) = found else {
            let (len, available) = (request.len, self.stats.available);
            return Err(if available < len {
                AllocError::Exhausted { len, available }
            } else {
                AllocError::Fragmented { len, available }
            });
        };
        let segment = &self.pool[slot];
        let pieces =
            usize::from(start > segment.start) + usize::from(segment.end() > start + request.len);
        if self.pool.spares() < pieces {
            self.return_span(slot);
            return Err(AllocError::NoSegments { pool: self.pool.len() });
        }
        Ok(self.carve(slot, start, request.len))
    }

    /// Asks the source for a span in which `request` has room, and finds that room. A request with
    /// a window is not imported for: no source knows the window.
    fn import(&mut self, request: &Request) -> Result<Option<(Slot, u64)>, AllocError> {
        let wanted = request.len.checked_add(request.slack).filter(|_| !request.windowed);
        let Some(span) = wanted.and_then(|len| self.source.import(len)) else {
            return Ok(None);
        };
        match self.add_span(span.clone(), Origin::Imported) {
            Ok(slot) => match request.place_in(span) {
                Some(start) => Ok(Some((slot, start))),
                None => {
                    self.return_span(slot);
                    Ok(None)
                }
            },
            Err(refused) => {
                // If the source keeps out of it, the span stays with neither: the safe side.
                let _ = self.source.release(span);
                match refused {
                    AddError::NoSegments { pool } => Err(AllocError::NoSegments { pool }),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Makes `len` integers at `start`, inside the available segment `slot`, an allocated segment.
    /// Two records are spare, or as many as pieces are left over.
    #[inline]
    fn carve(&mut self, slot: Slot, start: u64, len: u64) -> u64 {
        let (pool, index) = (&mut self.pool, &mut self.index);
        let (old_start, old_end, origin) = {
            let segment = &pool[slot];
            (segment.start, segment.end(), segment.origin)
        };
        let end = start + len;
        let taken = match (start > old_start, old_end > end) {
            (false, false) => {
                index.withdraw(pool, slot, Kind::Allocated);
                slot
            }
            (false, true) => {
                index.reshape(pool, slot, end, old_end - end);
                let taken = pool.take(start, len, Kind::Allocated, origin);
                let before = pool[slot].before;
                index.link_after(pool, before, taken);
                taken
            }
            (true, tail) => {
                index.reshape(pool, slot, old_start, start - old_start);
                let taken = pool.take(start, len, Kind::Allocated, origin);
                index.link_after(pool, slot, taken);
                if tail {
                    let rest = pool.take(end, old_end - end, Kind::Available, origin);
                    index.link_after(pool, taken, rest);
                    index.admit(pool, rest);
                }
                taken
            }
        };
        self.starts.insert(pool, taken, start);
        index.advance(end);
        self.stats.available -= len;
        self.stats.allocated += len;
        start
    }

    /// The allocated segment that starts at `start`.
    #[inline]
    fn allocated_at(&self, start: u64) -> Result<Slot, FreeError> {
        let slot = self.starts.find(&self.pool, &self.index.by_address, start);
        if !slot.is_nil() && self.pool[slot].kind == Kind::Allocated {
            Ok(slot)
        } else {
            Err(self.diagnose(start))
        }
    }

    /// What is at `start`, where no allocated segment starts.
    #[cold]
    fn diagnose(&self, start: u64) -> FreeError {
        let segment = &self.pool[self.index.by_address.floor(&self.pool, start)];
        if !segment.range().contains(&start) {
            return FreeError::OutOfRange { start };
        }
        match segment.kind {
            Kind::Allocated => FreeError::NotAStart { start, allocated: segment.range() },
            _ => FreeError::NotAllocated { start, available: segment.range() },
        }
    }

    /// An allocated segment goes to its quantum cache, or merges.
    #[inline]
    fn give_back(&mut self, slot: Slot, start: u64, len: u64) {
        let quanta = len >> self.quantum.trailing_zeros();
        if self.caches.push(&mut self.pool, slot, quanta) {
            self.stats.allocated -= len;
            self.stats.cached += len;
        } else {
            self.release(slot, start, len);
        }
    }

    /// Makes an allocated segment available and merges it with its neighbours.
    #[inline]
    fn release(&mut self, slot: Slot, start: u64, len: u64) {
        self.stats.allocated -= len;
        self.stats.available += len;
        self.starts.remove(&mut self.pool, slot, start);
        let merged = self.merge(slot, start, start + len);
        if self.pool[merged].origin == Origin::Imported {
            self.return_span(merged);
        }
    }

    /// Makes a segment available that is in no structure but ring and tree, and merges it with its
    /// neighbours in the span. Returns the record that stands for all of it.
    #[inline]
    fn merge(&mut self, slot: Slot, start: u64, end: u64) -> Slot {
        let (pool, index) = (&mut self.pool, &mut self.index);
        let (before, after) = (pool[slot].before, pool[slot].after);
        match (pool[before].is_available(), pool[after].is_available()) {
            (false, false) => {
                index.admit(pool, slot);
                slot
            }
            (false, true) => {
                index.erase(pool, slot);
                let len = pool[after].end() - start;
                index.reshape(pool, after, start, len);
                after
            }
            (true, false) => {
                index.erase(pool, slot);
                let start = pool[before].start;
                index.reshape(pool, before, start, end - start);
                before
            }
            (true, true) => {
                index.erase(pool, slot);
                let (start, end) = (pool[before].start, pool[after].end());
                index.withdraw(pool, after, Kind::Spare);
                index.erase(pool, after);
                index.reshape(pool, before, start, end - start);
                before
            }
        }
    }

    /// Gives the span of `slot`, an available segment, back to the source if it was imported, is
    /// wholly available, and the source takes it.
    #[cold]
    fn return_span(&mut self, slot: Slot) {
        let segment = self.pool[slot];
        let whole = self.pool[segment.before].kind == Kind::Border
            && self.pool[segment.after].kind == Kind::Border;
        if segment.origin != Origin::Imported || !whole {
            return;
        }
        if self.source.release(segment.range()).is_ok() {
            self.stats.available -= segment.len;
            self.stats.spans -= 1;
            self.index.withdraw(&mut self.pool, slot, Kind::Spare);
            self.index.erase(&mut self.pool, slot);
            self.index.erase(&mut self.pool, segment.before);
        }
    }

    /// Takes in a span, and returns the available segment that it has become part of.
    fn add_span(&mut self, range: Range<u64>, origin: Origin) -> Result<Slot, AddError> {
        let quantum = self.quantum;
        if range.is_empty() {
            return Err(AddError::Empty { range });
        }
        if !range.start.is_multiple_of(quantum) || !range.end.is_multiple_of(quantum) {
            return Err(AddError::Misaligned { range, quantum });
        }
        let (pool, index) = (&mut self.pool, &mut self.index);
        let before = index.by_address.floor(pool, range.start);
        let border = pool[before].after;
        // The ring's own record, which stands for "none" on both sides, ends at 0.
        let lower = pool[before].range();
        if lower.end > range.start {
            return Err(AddError::Overlap { range, with: lower });
        }
        let first_above = pool[border].after;
        if !border.is_nil() && pool[border].start < range.end {
            return Err(AddError::Overlap { range, with: pool[first_above].range() });
        }
        if pool.spares() < 2 {
            return Err(AddError::NoSegments { pool: pool.len() });
        }
        let added = |slot: Slot| !slot.is_nil() && pool[slot].origin == Origin::Added;
        let added_here = origin == Origin::Added;
        let joins_lower = added_here && added(before) && lower.end == range.start;
        let joins_upper = added_here && added(border) && pool[border].start == range.end;

        let mut at = before;
        if !joins_lower {
            let lower_border = pool.take(range.start, 0, Kind::Border, origin);
            index.link_after(pool, at, lower_border);
            self.stats.spans += 1;
            at = lower_border;
        }
        let len = range.end - range.start;
        let slot = pool.take(range.start, len, Kind::Spare, origin);
        index.link_after(pool, at, slot);
        if joins_upper {
            index.erase(pool, border);
            self.stats.spans -= 1;
        }
        self.stats.available += len;
        Ok(self.merge(slot, range.start, range.end))
    }
}

#[cfg(test)]
mod tests;
