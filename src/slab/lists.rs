//! A cache's slabs, sorted by how many of their objects are available.
//!
//! # Invariants
//!
//! 1. A slab is in the list that [`Fill::of`] says.
//! 2. `available` is the sum over all slabs of available objects.
//! 3. All changes are made under the cache's lock.
//! 4. A slab in the lists lives: [`Lists::add`] takes the [`OwnSlab`] of each, and
//!    [`Lists::remove_empty`] gives it back. Slabs and objects that the lists are handed apart from
//!    that are those of slabs in them.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::descriptor::{CACHED, Entry, IN_SLAB, RUINED, Slab};
use super::way::Way;
use crate::page::records::NONE;
use crate::platform::{CpuId, Platform};

/// Which slabs a CPU may take from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Its own and unused ones, and others' if more objects are available than these.
    Near(usize),
    /// Every slab.
    All,
}

/// A doubly linked list of slabs.
pub(super) struct Chain {
    head: u32,
    len: u32,
}

impl Chain {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// Which list a slab belongs into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fill {
    /// None of its objects is available.
    Full,
    /// All are.
    Empty,
    /// Some are; by the CPU that took from it last.
    Partial(Way),
}

impl Fill {
    const COUNT: usize = 2 + Way::COUNT;

    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Full, Self::Empty].into_iter().chain(Way::all().map(Self::Partial))
    }

    /// The list for a slab.
    #[inline]
    pub(super) fn of(slab: Slab<'_>) -> Self {
        match slab.available() {
            0 => Self::Full,
            available if available == slab.objects() => Self::Empty,
            _ => Self::Partial(slab.way()),
        }
    }

    /// The number of the list, for the slabs that are in it; never 0.
    #[inline]
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::Empty => 2,
            Self::Partial(way) => 3 + way.number(),
        }
    }

    #[inline]
    const fn index(self) -> usize {
        self.number() as usize - 1
    }
}

/// A slab that objects are put back into, one after the other, before it is sorted into its list
/// anew.
///
/// Neighbours' bits go into the free set together: see [`flush`](Self::flush).
pub(super) struct Filling<'s> {
    slab: Slab<'s>,
    before: Fill,
    objects: usize,
    /// Bits of the word `word` of the free set that are still to be set.
    bits: u64,
    word: usize,
    /// The state bytes of that word's objects.
    states: &'s [AtomicU8],
    /// The first object that was put back though its bit says that it is there.
    damaged: Option<NonNull<u8>>,
}

impl<'s> Filling<'s> {
    pub(super) fn new(slab: Slab<'s>) -> Self {
        let before = Fill::of(slab);
        Self { slab, before, objects: 0, bits: 0, word: 0, states: &[], damaged: None }
    }

    /// Puts an object back; `false`, and nothing has changed, if it is not in a magazine, or none
    /// of this slab's.
    #[inline(always)]
    pub(super) fn put(&mut self, entry: Entry) -> bool {
        // Whatever is not the state of one of the word's objects is far behind them.
        if entry.index_among(self.states) >= self.states.len() && !self.turn_to(entry) {
            return false;
        }
        let state = entry.state();
        if state.load(Relaxed) != CACHED {
            return false;
        }
        state.store(IN_SLAB, Relaxed);
        self.bits |= 1 << (entry.index_among(self.states) % 64);
        true
    }

    /// Turns to the word of the free set that the object's bit is in; whether it is in one.
    #[inline]
    fn turn_to(&mut self, entry: Entry) -> bool {
        let all = self.slab.states();
        let word = entry.index_among(all) / 64;
        let Some(states) = all.chunks(64).nth(word) else { return false };
        if self.bits != 0 {
            self.flush();
        }
        (self.word, self.states) = (word, states);
        true
    }

    /// Sets the bits that are still to be set.
    #[inline]
    fn flush(&mut self) {
        let bits = core::mem::take(&mut self.bits);
        let set_before = self.slab.put_word(self.word, bits);
        self.objects += (bits & !set_before).count_ones() as usize;
        if set_before != 0 {
            let index = self.word * 64 + set_before.trailing_zeros() as usize;
            self.damaged.get_or_insert(self.slab.object(index));
        }
    }
}

/// A slab that is in no list, by its only owner: from its making to [`Lists::add`], and from
/// [`Lists::remove_empty`] to its release.
pub(super) struct OwnSlab(Slab<'static>);

impl OwnSlab {
    /// The owner of a slab.
    ///
    /// # Safety
    ///
    /// It lives until this is released, is in no list, and has no other owner.
    pub(super) unsafe fn new(slab: Slab<'static>) -> Self {
        Self(slab)
    }

    pub(super) fn slab(&self) -> Slab<'_> {
        self.0
    }
}

/// So many slabs may stay though most of their objects are available.
const FEW_SLABS: usize = 64;

/// The slabs of one cache.
pub(super) struct Lists {
    chains: [Chain; Fill::COUNT],
    /// Invariant 2.
    pub(super) available: usize,
    /// Fewest empty slabs since the last reaping: those have not been needed.
    pub(super) idle: usize,
}

impl Lists {
    pub(super) const fn new() -> Self {
        Self {
            chains: [const { Chain { head: NONE, len: 0 } }; Fill::COUNT],
            available: 0,
            idle: 0,
        }
    }

    pub(super) fn chain(&self, fill: Fill) -> &Chain {
        &self.chains[fill.index()]
    }

    pub(super) fn slabs(&self) -> usize {
        self.chains.iter().map(Chain::len).sum()
    }

    /// Whether the users are about to be done: of many slabs of `objects` each three quarters are
    /// available, but few slabs are empty, or they would have gone. Then one object at hand may be
    /// the last of its slab.
    pub(super) fn recede(&self, objects: usize) -> bool {
        let slabs = self.slabs();
        slabs > FEW_SLABS && self.available >= slabs * objects / 4 * 3
    }

    /// Begins a new interval for `idle`.
    pub(super) fn settle(&mut self) {
        self.idle = self.chain(Fill::Empty).len();
    }

    /// Adds a new slab.
    pub(super) fn add<P: Platform>(&mut self, platform: &P, slab: OwnSlab) {
        let slab = slab.0;
        self.available += slab.available();
        self.link(platform, slab, Fill::of(slab));
    }

    /// Takes an empty slab out, to be released.
    pub(super) fn remove_empty<P: Platform>(&mut self, platform: &P) -> Option<OwnSlab> {
        // SAFETY: it is released by the owner of the answer.
        let slab = unsafe { self.first(platform, Fill::Empty) }?;
        self.unlink(platform, slab, Fill::Empty);
        self.available -= slab.available();
        self.idle = self.idle.min(self.chain(Fill::Empty).len());
        Some(OwnSlab(slab))
    }

    /// Takes up to `wanted` objects for `cpu`, marks them `state` and hands them to `sink`; how
    /// many there were. Partly used slabs come first, so that empty ones stay empty.
    #[inline]
    pub(super) fn take<P: Platform>(
        &mut self,
        platform: &P,
        cpu: CpuId,
        scope: Scope,
        wanted: usize,
        state: u8,
        mut sink: impl FnMut(Entry),
    ) -> usize {
        let way = Way::of(cpu);
        let mut taken = 0;
        while taken < wanted {
            // SAFETY: the slab stays in the lists.
            let Some((slab, fill)) = (unsafe { self.choose(platform, way, scope) }) else { break };
            slab.set_way(way);
            let got = slab.take(wanted - taken, state, &mut sink);
            let gone = got.objects + got.damaged;
            if gone == 0 {
                break;
            }
            taken += got.objects;
            self.available -= gone;
            self.relink(platform, slab, fill);
            // Last: a hook may unwind.
            if got.damaged > 0 {
                super::corrupted(platform, slab.object(0).as_ptr() as usize, None);
            }
        }
        taken
    }

    /// The slab that a CPU of the way `way` should take from: one that it took from last, else an
    /// empty one, else another way's.
    ///
    /// # Safety
    ///
    /// As [`at`](Self::at).
    #[inline]
    unsafe fn choose<'r, P: Platform>(
        &self,
        platform: &P,
        way: Way,
        scope: Scope,
    ) -> Option<(Slab<'r>, Fill)> {
        // SAFETY: the caller's promise.
        let first_of = |fill| unsafe { self.first(platform, fill) }.map(|slab| (slab, fill));
        first_of(Fill::Partial(way)).or_else(|| first_of(Fill::Empty)).or_else(|| match scope {
            Scope::Near(left) if self.available <= left => None,
            _ => Way::all().find_map(|way| first_of(Fill::Partial(way))),
        })
    }

    /// Puts an object back that is not in its slab.
    #[inline]
    pub(super) fn put<P: Platform>(&mut self, platform: &P, slab: Slab<'_>, index: usize) {
        let before = Fill::of(slab);
        if !slab.put(index) {
            return super::corrupted(platform, slab.object(index).as_ptr() as usize, None);
        }
        self.available += 1;
        self.relink(platform, slab, before);
    }

    /// Sorts a slab into its list after objects were put into it.
    pub(super) fn finish<P: Platform>(&mut self, platform: &P, mut filling: Filling<'_>) {
        filling.flush();
        self.available += filling.objects;
        self.relink(platform, filling.slab, filling.before);
        // Last: a hook may unwind.
        if let Some(object) = filling.damaged {
            super::corrupted(platform, object.as_ptr() as usize, None);
        }
    }

    /// The slab behind `slab` in its list, or the first of the list.
    pub(super) fn walk<'l, P: Platform>(
        &'l self,
        platform: &P,
        fill: Fill,
        after: Option<Slab<'l>>,
    ) -> Option<Slab<'l>> {
        let id = after.map_or(self.chain(fill).head, |slab| slab.next().load(Relaxed));
        // SAFETY: from a list, which does not change while it is borrowed.
        unsafe { self.at(platform, id) }
    }

    /// Puts objects that were set aside back into their slabs, which are about to go.
    pub(super) fn restore_ruined<P: Platform>(&mut self, platform: &P) {
        for fill in Fill::all() {
            // SAFETY: from a list, as is what follows; nothing leaves the lists here.
            let mut at = unsafe { self.first(platform, fill) };
            while let Some(slab) = at {
                // Before the slab moves. All of its objects at once: it may be in a list then that
                // has been walked.
                let next = slab.next().load(Relaxed);
                for (index, state) in slab.states().iter().enumerate() {
                    if state.load(Relaxed) == RUINED {
                        self.put(platform, slab, index);
                    }
                }
                // SAFETY: as above.
                at = unsafe { self.at(platform, next) };
            }
        }
    }

    /// # Safety
    ///
    /// As [`at`](Self::at).
    unsafe fn first<'r, P: Platform>(&self, platform: &P, fill: Fill) -> Option<Slab<'r>> {
        // SAFETY: the caller's promise.
        unsafe { self.at(platform, self.chain(fill).head) }
    }

    /// The slab with this id, if it is one.
    ///
    /// # Safety
    ///
    /// The id comes from the lists (invariant 4), and the answer is not used when the slab has left
    /// them and is released.
    #[inline]
    unsafe fn at<'r, P: Platform>(&self, platform: &P, id: u32) -> Option<Slab<'r>> {
        // SAFETY: the caller's promise.
        (id != NONE).then(|| unsafe { Slab::from_id(platform, id) })
    }

    /// Moves a slab from where it is to where its fill demands.
    #[inline]
    fn relink<P: Platform>(&mut self, platform: &P, slab: Slab<'_>, from: Fill) {
        let to = Fill::of(slab);
        if from != to {
            self.unlink(platform, slab, from);
            self.link(platform, slab, to);
            if from == Fill::Empty {
                self.idle = self.idle.min(self.chain(Fill::Empty).len());
            }
        }
    }

    /// Puts a slab first in its list, or second where the first lies lower in memory: objects come
    /// from low slabs, so that high ones become empty and can go.
    fn link<P: Platform>(&mut self, platform: &P, slab: Slab<'_>, fill: Fill) {
        // SAFETY: it stays in the list.
        let first = unsafe { self.first(platform, fill) };
        let lower = first.filter(|first| first.object(0) < slab.object(0));
        let chain = &mut self.chains[fill.index()];
        let prev = lower.map_or(NONE, Slab::id);
        let next = lower.map_or(chain.head, |lower| lower.next().load(Relaxed));
        match lower {
            Some(lower) => lower.next().store(slab.id(), Relaxed),
            None => chain.head = slab.id(),
        }
        chain.len += 1;
        slab.next().store(next, Relaxed);
        slab.prev().store(prev, Relaxed);
        slab.list().store(fill.number(), Relaxed);
        // SAFETY: as above.
        if let Some(next) = unsafe { self.at(platform, next) } {
            next.prev().store(slab.id(), Relaxed);
        }
    }

    fn unlink<P: Platform>(&mut self, platform: &P, slab: Slab<'_>, fill: Fill) {
        let (next, prev) = (slab.next().load(Relaxed), slab.prev().load(Relaxed));
        // SAFETY: the slab's neighbours, which stay in the list.
        if let Some(next) = unsafe { self.at(platform, next) } {
            next.prev().store(prev, Relaxed);
        }
        // SAFETY: as above.
        match unsafe { self.at(platform, prev) } {
            Some(prev) => prev.next().store(next, Relaxed),
            None => self.chains[fill.index()].head = next,
        }
        self.chains[fill.index()].len -= 1;
    }
}
