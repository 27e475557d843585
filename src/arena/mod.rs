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
//! 4. The ring holds every segment and every border once, in address order. It is cut into runs of
//!    1 to 8 (one each under First and Next), and the tree by address holds the first of each. Both
//!    trees are red-black trees.
//! 5. An available segment is in the structure of the fit, exactly where its length and address
//!    demand; no other is.
//! 6. An allocated or cached segment is in its hash chain; no other is.
//! 7. Under First and Next each node knows the longest available segment below it.
//! 8. Every record is the ring's, a border's, a segment's or spare, and the totals agree.
//! 9. A cached segment is in the quantum cache of its length; no other is.
//!
//! # How it works, and what it costs
//!
//! *n* is the number of segments.
//!
//! | operation | structure | cost |
//! | --- | --- | --- |
//! | neighbours, for splitting and merging | ring in address order | O(1) |
//! | `free`: from start to record | hash table in the pool itself | O(1) expected, O(log n) at worst |
//! | new and merged segments | run of their neighbour; every few, the tree of runs by address | O(1) amortised, O(log n) at worst |
//! | `alloc`, Instant | 64 lists by power of two, and a word of bits | O(1) |
//! | `alloc`, Best and Worst | tree by length and address | O(log n) |
//! | `alloc`, First and Next | the same tree, each node with the longest below it | O(log n) |
//! | requests of few quanta, if cached | a stack for each length | O(1) |
//! | `resize` in place | the neighbour's, as above | O(log n), Instant O(1) |
//! | `grow_pool` | every record copied | O(1) amortised, if doubled |
//! | what a wrong `free` hit, `lookup`, overlap of `add` | tree by address, then at most 7 steps | O(log n) |
//!
//! A constrained request looks at the segments that are long enough in the order of the fit until
//! one has room at an allowed start: O(log n) for each that is looked at. Without a window only
//! segments can fail that are shorter than the request and its alignment together, or than twice
//! that if it must not cross a boundary. With a window First and Next look inside it only; the
//! others look at as many segments in their order as inside the window, until either ends. So to
//! claim one certain range is O(log n) under every fit.
//!
//! Nothing recurses; the longest loops are one path of a tree, and the constrained search.
//!
//! # Rejected
//!
//! *Boundary tags in the managed range*: the range need not be memory. *A list walked for First and
//! Best*: linear under a lock. *Every segment in the tree by address*: each split and each merge
//! changes it. *A treap in place of the red-black tree*: half the code, but its
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
mod carve;
mod constraint;
mod error;
mod grow;
mod hash;
mod policy;
mod quantum_cache;
mod runs;
mod search;
mod segment;
mod show;
mod source;
mod span;
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
use segment::{Origin, Pool, Slot};

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
    spans.saturating_add(quanta).saturating_add(1)
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
}

#[cfg(test)]
mod tests;
