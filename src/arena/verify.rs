//! The invariants of an arena, recounted.

use core::fmt;

use super::bins::{Bins, LISTS};
use super::policy::Fit;
use super::segment::{BY_ADDRESS, BY_POLICY, Kind, Origin, Pool, Segment, Slot};
use super::show::Stats;
use super::{Arena, MAX_CACHED_QUANTA, Source};

/// The invariant of the [module](super) that does not hold, and where that showed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Corruption {
    /// The number of the invariant.
    pub invariant: u8,
    /// The start of the segment at which it showed; 0 if it concerns the arena as a whole.
    pub at: u64,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, expected } = self;
        write!(f, "arena invariant {invariant} at {at:#x}: expected {expected}")
    }
}

impl core::error::Error for Corruption {}

fn expect(holds: bool, invariant: u8, at: u64, expected: &'static str) -> Result<(), Corruption> {
    if holds { Ok(()) } else { Err(Corruption { invariant, at, expected }) }
}

/// Segments of each sort that the walk along the ring has met.
#[derive(Default)]
struct Met {
    available: usize,
    /// Allocated and cached.
    taken: usize,
    cached: usize,
    /// Those of `taken` that the hash chains met so far hold.
    chained: usize,
}

/// The run that the walk along the ring is in.
struct RunSoFar {
    head: Slot,
    /// Members that its head counts and that have not come yet.
    missing: u8,
}

impl<S: Source> Arena<'_, S> {
    /// Checks every invariant of the [module](super). O(n log n).
    ///
    /// # Errors
    ///
    /// [`Corruption`] names the first that does not hold.
    pub fn verify(&self) -> Result<(), Corruption> {
        let pool = &self.pool;
        let by_len = matches!(self.index.fit, Fit::Best | Fit::Worst);
        // Links first: what comes after them follows links, and must not go in circles.
        for (slot, segment) in pool.ring() {
            if segment.members > 0 {
                verify_links::<BY_ADDRESS>(pool, self.index.by_address.heads.root(), slot)?;
            }
            if by_len && segment.is_available() {
                verify_links::<BY_POLICY>(pool, self.index.by_len.root(), slot)?;
            }
        }
        let (mut counted, mut records) = (Stats::default(), 0);
        let mut met = Met::default();
        let mut previous = Slot::NIL;
        let mut run = RunSoFar { head: Slot::NIL, missing: 0 };
        for (slot, segment) in pool.ring() {
            records += 1;
            self.verify_order(previous, slot)?;
            run = self.verify_run(run, slot)?;
            self.verify_membership(slot)?;
            met.available += usize::from(segment.is_available());
            met.taken += usize::from(is_taken(segment));
            met.cached += usize::from(segment.kind == Kind::Cached);
            met.chained += self.verify_chain(slot, pool.len() - met.chained)?;
            match segment.kind {
                Kind::Available => counted.available += segment.len,
                Kind::Allocated => counted.allocated += segment.len,
                Kind::Cached => counted.cached += segment.len,
                Kind::Border => counted.spans += 1,
                Kind::Spare => {}
            }
            previous = slot;
        }
        expect(met.chained == met.taken, 6, 0, "each allocated segment in its hash chain")?;
        if self.index.fit == Fit::Instant {
            self.verify_bins(met.available)?;
        }
        self.verify_caches(met.cached)?;
        expect(pool[Slot::NIL].before == previous, 4, 0, "a closed ring")?;
        self.verify_run(run, Slot::NIL)?;
        let last_kind = pool[previous].kind;
        expect(previous.is_nil() || last_kind != Kind::Border, 1, 0, "no empty span")?;
        expect(records + 1 + pool.spares() == pool.len(), 8, 0, "every record used or spare")?;
        expect(counted == self.stats, 8, 0, "totals that agree with a recount")
    }

    /// Invariants 1 to 4 between a segment and the one before it.
    fn verify_order(&self, previous: Slot, slot: Slot) -> Result<(), Corruption> {
        let (pool, at) = (&self.pool, self.pool[slot].start);
        let (lower, upper) = (&pool[previous], &pool[slot]);
        expect(upper.before == previous, 4, at, "ring links that agree")?;
        expect(upper.kind != Kind::Spare, 8, at, "no spare record among segments")?;
        expect(at.is_multiple_of(self.quantum), 1, at, "a multiple of the quantum")?;
        expect(upper.len.is_multiple_of(self.quantum), 1, at, "a multiple of the quantum")?;
        if upper.kind == Kind::Border {
            expect(lower.end() <= at, 1, at, "spans that do not overlap")?;
            let touching = !previous.is_nil() && lower.end() == at;
            let both_added = lower.origin == Origin::Added && upper.origin == Origin::Added;
            expect(previous.is_nil() || lower.kind != Kind::Border, 1, at, "no empty span")?;
            expect(!(touching && both_added), 3, at, "added spans that touch to be one")?;
        } else {
            expect(!previous.is_nil(), 1, at, "a border before the first segment")?;
            expect(lower.end() == at && upper.len > 0, 1, at, "no gap inside a span")?;
            expect(lower.origin == upper.origin, 3, at, "one origin for a span")?;
            let both = lower.is_available() && upper.is_available();
            expect(!both, 2, at, "no two available neighbours")?;
        }
        Ok(())
    }

    /// Invariant 4 for the runs and the order of the tree of their heads. `slot` comes after `run`;
    /// NIL comes after the last.
    fn verify_run(&self, run: RunSoFar, slot: Slot) -> Result<RunSoFar, Corruption> {
        let (pool, heads) = (&self.pool, &self.index.by_address.heads);
        let (segment, at) = (&pool[slot], pool[slot].start);
        if !slot.is_nil() && segment.members == 0 {
            let belongs = run.missing > 0 && segment.links[BY_ADDRESS].parent == run.head;
            expect(belongs, 4, at, "a segment in the run that it stands in")?;
            let untouched = segment.links[BY_ADDRESS].children == [Slot::NIL; 2];
            expect(untouched && !segment.is_red(BY_ADDRESS), 4, at, "only heads in the tree")?;
            return Ok(RunSoFar { missing: run.missing - 1, ..run });
        }
        expect(run.missing == 0, 4, at, "as many members as the head of a run counts")?;
        let most = self.index.by_address.most_members();
        expect(segment.members <= most, 4, at, "no run that is too long")?;
        let next = match run.head {
            Slot::NIL => leftmost::<BY_ADDRESS>(pool, heads.root()),
            head => heads.successor(pool, head),
        };
        expect(next == slot, 4, at, "the tree in the order of the ring")?;
        Ok(RunSoFar { head: slot, missing: segment.members.saturating_sub(1) })
    }

    /// Invariants 5 and 7 for one segment, where trees hold them.
    fn verify_membership(&self, slot: Slot) -> Result<(), Corruption> {
        let (pool, segment) = (&self.pool, &self.pool[slot]);
        let at = segment.start;
        match self.index.fit {
            Fit::First | Fit::Next => {
                let [left, right] = segment.links[BY_ADDRESS].children;
                let below = pool[left].largest().max(pool[right].largest());
                let largest = below.max(segment.available_len());
                expect(segment.largest() == largest, 7, at, "the longest segment below")
            }
            Fit::Best | Fit::Worst if segment.is_available() => {
                let next = self.index.by_len.successor(pool, slot);
                let key = |segment: &Segment| (segment.len, segment.start);
                let ordered = next.is_nil() || key(segment) < key(&pool[next]);
                expect(ordered, 5, at, "the tree by length in order")
            }
            // The lists are walked once each, not once for each of their members.
            Fit::Instant | Fit::Best | Fit::Worst => Ok(()),
        }
    }

    /// Invariant 6 for the hash chain that begins with `slot`, and how long it is: 0 if none does,
    /// at most `most`.
    fn verify_chain(&self, slot: Slot, most: usize) -> Result<usize, Corruption> {
        let pool = &self.pool;
        let bucket = self.starts.bucket(pool[slot].start);
        if pool[bucket].bucket != slot {
            return Ok(0);
        }
        let (mut link, mut previous, mut members) = (slot, Slot::NIL, 0);
        while !link.is_nil() {
            let segment = &pool[link];
            let belongs = is_taken(segment) && self.starts.bucket(segment.start) == bucket;
            expect(belongs, 6, segment.start, "allocated segments alone in a hash chain")?;
            expect(segment.chain[1] == previous, 6, segment.start, "hash links that agree")?;
            expect(members < most, 6, segment.start, "a hash chain that ends")?;
            (link, previous, members) = (segment.chain[0], link, members + 1);
        }
        Ok(members)
    }

    /// Invariant 5 for the lists of Instant: each holds available segments of its lengths only, so
    /// if all together are as many as there are, none is missing.
    fn verify_bins(&self, available: usize) -> Result<(), Corruption> {
        let (pool, bins) = (&self.pool, &self.index.bins);
        let mut listed = 0;
        for list in 0..LISTS {
            let mut previous = Slot::NIL;
            for slot in bins.list(pool, list).take(pool.len()) {
                let segment = &pool[slot];
                let belongs = segment.is_available() && Bins::list_of(segment.len) == list;
                expect(belongs, 5, segment.start, "available segments of its lengths in a list")?;
                let back = segment.links[BY_POLICY].children[1];
                expect(back == previous, 5, segment.start, "list links that agree")?;
                previous = slot;
                listed += 1;
            }
            let marked = bins.occupied() & 1 << list != 0;
            expect(marked != previous.is_nil(), 5, 0, "a mark for each list with segments")?;
        }
        expect(listed == available, 5, 0, "each available segment in its list")
    }

    /// Invariant 9, in the same way.
    fn verify_caches(&self, cached: usize) -> Result<(), Corruption> {
        let pool = &self.pool;
        let mut kept = 0;
        for quanta in 1..=MAX_CACHED_QUANTA as u64 {
            let mut members = 0;
            // One more than it counts, so that one that is too long shows.
            let counted = self.caches.kept(quanta);
            for slot in self.caches.stack_of(pool, quanta).take(counted + 1) {
                let segment = &pool[slot];
                let belongs = segment.kind == Kind::Cached && segment.len == quanta * self.quantum;
                expect(belongs, 9, segment.start, "cached segments of one length in a stack")?;
                members += 1;
            }
            expect(members == counted, 9, 0, "as many segments as a quantum cache counts")?;
            kept += members;
        }
        expect(kept == cached, 9, 0, "each cached segment in its quantum cache")
    }
}

fn is_taken(segment: &Segment) -> bool {
    matches!(segment.kind, Kind::Allocated | Kind::Cached)
}

/// Invariant 4 for one node of a tree: links that agree, colours, and black nodes above it.
fn verify_links<const BY: usize>(
    pool: &Pool<'_>,
    root: Slot,
    slot: Slot,
) -> Result<(), Corruption> {
    let (links, at) = (&pool[slot].links[BY], pool[slot].start);
    let hangs = slot == root || pool[links.parent].links[BY].children.contains(&slot);
    expect(hangs, 4, at, "a node that hangs in the tree")?;
    for child in links.children {
        let agrees = child.is_nil() || pool[child].links[BY].parent == slot;
        expect(agrees, 4, at, "tree links that agree")?;
        expect(!(pool[slot].is_red(BY) && pool[child].is_red(BY)), 4, at, "no red below red")?;
    }
    expect(!pool[root].is_red(BY), 4, at, "a black root")?;
    let black = black_above::<BY>(pool, root, slot);
    expect(black.is_some(), 4, at, "a way to the root")?;
    if links.children.contains(&Slot::NIL) {
        let expected = black_above::<BY>(pool, root, leftmost::<BY>(pool, root));
        expect(black == expected, 4, at, "one number of black nodes")?;
    }
    Ok(())
}

/// Steps from the lowest node of a sound tree to its root: fewer than two for each bit of a slot.
const MAX_DEPTH: usize = 2 * u32::BITS as usize;

fn leftmost<const BY: usize>(pool: &Pool<'_>, mut slot: Slot) -> Slot {
    for _ in 0..MAX_DEPTH {
        let left = pool[slot].links[BY].children[0];
        if left.is_nil() {
            break;
        }
        slot = left;
    }
    slot
}

/// Black nodes from `slot` up to `root`; `None` if the way does not lead there.
fn black_above<const BY: usize>(pool: &Pool<'_>, root: Slot, mut slot: Slot) -> Option<usize> {
    let mut black = 0;
    for _ in 0..=MAX_DEPTH {
        if slot.is_nil() {
            break;
        }
        black += usize::from(!pool[slot].is_red(BY));
        if slot == root {
            return Some(black);
        }
        slot = pool[slot].links[BY].parent;
    }
    None
}
