//! The record of one segment, and the pool that all records come from.

use core::ops::{Index, IndexMut, Range};

/// The number of a record in its pool. Slot 0 is no segment: it stands for "none" in every link,
/// and closes the list of segments into a ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    /// No segment.
    pub(super) const NIL: Self = Self(0);

    #[inline]
    pub(super) const fn is_nil(self) -> bool {
        self.0 == 0
    }
}

/// What a record stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing: the record may be taken. All-zero memory is a pool of these.
    #[default]
    Spare,
    /// The lower border of a span, of length 0; also the ring's closing record.
    Border,
    /// Integers that nobody has.
    Available,
    /// Integers that the caller has.
    Allocated,
    /// Integers given back, and kept whole in a quantum cache.
    Cached,
}

/// Where the span of a segment came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum Origin {
    /// Added by the caller; stays.
    #[default]
    Added,
    /// Imported from the source; goes back to it when wholly available.
    Imported,
}

/// Three links: a node of a search tree, or (in `children`) of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Links {
    pub(super) children: [Slot; 2],
    pub(super) parent: Slot,
}

impl Links {
    const NONE: Self = Self { children: [Slot::NIL; 2], parent: Slot::NIL };
}

/// Which of a record's two [`Links`] a tree goes by: by address it holds the head of every
/// [run](super::runs). In a segment that is no head `parent` is its head.
pub(super) const BY_ADDRESS: usize = 0;

/// The links of available segments alone; their use depends on the fit.
///
/// | fit | `children` | `parent` |
/// | --- | --- | --- |
/// | Instant | next and previous in the list of its power of two | – |
/// | Best, Worst | tree by length | tree by length |
/// | First, Next (every segment) | low and high half of [`Segment::largest`] | – |
///
/// In a cached segment `parent` is the next one of its quantum cache.
pub(super) const BY_POLICY: usize = 1;

/// What tells the two kinds of nodes of a red-black tree apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
    Black,
    Red,
}

/// The record of one segment: one cache line, out of band.
///
/// A pool is a slice of these. Its contents are the arena's; [`Segment::SPARE`] fills a new one,
/// and is all zeros, so that a static pool costs no space in a program's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Segment {
    pub(super) start: u64,
    pub(super) len: u64,
    /// Neighbours in address order.
    pub(super) before: Slot,
    pub(super) after: Slot,
    /// Next and previous segment of the same hash bucket; in a spare record, the next spare one.
    pub(super) chain: [Slot; 2],
    /// First segment of the hash bucket with this record's number: of the pool, not the segment.
    pub(super) bucket: Slot,
    pub(super) links: [Links; 2],
    /// Bit `BY_…`: whether it is red in that tree.
    pub(super) red: u8,
    /// Segments of the run whose head it is; 0 if it is no head.
    pub(super) members: u8,
    pub(super) kind: Kind,
    pub(super) origin: Origin,
}

const _: () = assert!(size_of::<Segment>() == 64);

impl Segment {
    /// A record that stands for nothing.
    pub const SPARE: Self = Self {
        start: 0,
        len: 0,
        before: Slot::NIL,
        after: Slot::NIL,
        chain: [Slot::NIL; 2],
        bucket: Slot::NIL,
        links: [Links::NONE; 2],
        red: 0,
        members: 0,
        kind: Kind::Spare,
        origin: Origin::Added,
    };

    #[inline]
    pub(super) const fn end(&self) -> u64 {
        self.start + self.len
    }

    #[inline]
    pub(super) const fn range(&self) -> Range<u64> {
        self.start..self.end()
    }

    #[inline]
    pub(super) fn is_available(&self) -> bool {
        self.kind == Kind::Available
    }

    /// How long a request this segment itself can serve.
    #[inline]
    pub(super) fn available_len(&self) -> u64 {
        if self.is_available() { self.len } else { 0 }
    }

    #[inline]
    pub(super) const fn is_red(&self, by: usize) -> bool {
        self.red & 1 << by != 0
    }

    #[inline]
    pub(super) const fn colour(&self, by: usize) -> Colour {
        if self.is_red(by) { Colour::Red } else { Colour::Black }
    }

    #[inline]
    pub(super) const fn paint(&mut self, by: usize, colour: Colour) {
        self.red = self.red & !(1 << by) | (colour as u8) << by;
    }

    /// The longest available segment of this one's subtree by address (First and Next).
    #[inline]
    pub(super) const fn largest(&self) -> u64 {
        let [low, high] = self.links[BY_POLICY].children;
        low.0 as u64 | (high.0 as u64) << 32
    }

    #[inline]
    pub(super) const fn set_largest(&mut self, len: u64) {
        self.links[BY_POLICY].children = [Slot(len as u32), Slot((len >> 32) as u32)];
    }
}

/// The records that an arena may use, those in use, and those spare.
#[derive(Debug)]
pub(super) struct Pool<'m> {
    records: &'m mut [Segment],
    /// First of the records that have been given back.
    spare: Slot,
    /// The first record that was never used.
    untouched: u32,
    spares: u32,
}

impl<'m> Pool<'m> {
    /// Fewest records that an arena can work with: the ring's, a border and one segment.
    pub(super) const MIN_LEN: usize = 3;

    /// Makes all `records` spare; `None` if there are too few. Records beyond `u32::MAX` are left
    /// alone. Only records that an earlier arena left behind are written: a pool in untouched
    /// memory stays untouched until it is used.
    pub(super) fn new(records: &'m mut [Segment]) -> Option<Self> {
        let len = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if (len as usize) < Self::MIN_LEN {
            return None;
        }
        let mut pool = Self::wiped(&mut records[..len as usize]);
        pool[Slot::NIL].kind = Kind::Border;
        Some(pool)
    }

    /// Nothing but spare records, at most `u32::MAX` of them.
    fn wiped(records: &'m mut [Segment]) -> Self {
        let len = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let records = &mut records[..len as usize];
        for record in records.iter_mut().filter(|record| **record != Segment::SPARE) {
            *record = Segment::SPARE;
        }
        Self { records, spare: Slot::NIL, untouched: 1, spares: len - 1 }
    }

    /// Moves every record to `larger`, which has more of them, and returns the records used so far.
    /// Each keeps its number; the hash buckets in them are empty.
    pub(super) fn move_to(&mut self, larger: &'m mut [Segment]) -> &'m mut [Segment] {
        let used = self.untouched as usize;
        let mut moved = Self { untouched: self.untouched, ..Self::wiped(larger) };
        moved.records[..used].copy_from_slice(&self.records[..used]);
        moved.records[..used].iter_mut().for_each(|record| record.bucket = Slot::NIL);
        moved.spare = self.spare;
        moved.spares = self.spares + (moved.len() - self.len()) as u32;
        core::mem::replace(self, moved).into_records()
    }

    /// The ring's first record.
    pub(super) fn first(&self) -> Slot {
        self[Slot::NIL].after
    }

    /// All records, to be used for something else.
    pub(super) fn into_records(self) -> &'m mut [Segment] {
        self.records
    }

    /// Records, slot 0 included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Records that can still be taken.
    #[inline]
    pub(super) fn spares(&self) -> usize {
        self.spares as usize
    }

    /// Takes a record for a segment of the same span as `sibling`. The caller has made sure that
    /// one is spare.
    #[inline]
    pub(super) fn take(&mut self, start: u64, len: u64, kind: Kind, origin: Origin) -> Slot {
        debug_assert!(self.spares > 0);
        let slot = if self.spare.is_nil() {
            self.untouched += 1;
            Slot(self.untouched - 1)
        } else {
            let slot = self.spare;
            self.spare = self[slot].chain[0];
            slot
        };
        self.spares -= 1;
        // Field by field: a whole record would be put together elsewhere and copied. The other
        // links are written when the segment enters the structures that they belong to.
        let segment = &mut self[slot];
        segment.start = start;
        segment.len = len;
        segment.kind = kind;
        segment.origin = origin;
        segment.red = 0;
        segment.members = 0;
        segment.links = [Links::NONE; 2];
        slot
    }

    /// Gives the record of a segment back that is in no structure any more.
    #[inline]
    pub(super) fn put(&mut self, slot: Slot) {
        let spare = self.spare;
        let segment = &mut self[slot];
        segment.kind = Kind::Spare;
        segment.chain[0] = spare;
        self.spare = slot;
        self.spares += 1;
    }

    /// Puts `new` between two neighbours.
    #[inline]
    pub(super) fn link_between(&mut self, before: Slot, new: Slot, after: Slot) {
        let segment = &mut self[new];
        segment.before = before;
        segment.after = after;
        self[before].after = new;
        self[after].before = new;
    }

    /// Takes `slot` out of the ring.
    #[inline]
    pub(super) fn unlink(&mut self, slot: Slot) {
        let Segment { before, after, .. } = self[slot];
        self[before].after = after;
        self[after].before = before;
    }

    /// Every segment and border, in address order.
    pub(super) fn ring(&self) -> impl Iterator<Item = (Slot, &Segment)> {
        let mut at = self[Slot::NIL].after;
        // A damaged ring must not hold its walker: no list is longer than the pool.
        (1..self.len()).map_while(move |_| {
            let slot = at;
            at = self[slot].after;
            (!slot.is_nil()).then(|| (slot, &self[slot]))
        })
    }
}

impl Index<Slot> for Pool<'_> {
    type Output = Segment;

    #[inline]
    fn index(&self, slot: Slot) -> &Segment {
        #[cfg(test)]
        super::tests::count_read();
        &self.records[slot.0 as usize]
    }
}

impl IndexMut<Slot> for Pool<'_> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Segment {
        &mut self.records[slot.0 as usize]
    }
}
