//! A CPU's own frames: small blocks and blocks of 2 MiB, taken and given back without a lock.
//!
//! Each CPU has a stack of blocks for each of a few orders, in front of the zone that it took from
//! last. A hit touches the CPU's slot, one state byte and nothing else. An empty stack takes
//! several blocks, a full one is emptied to two thirds or more, under one hold of the zone's lock,
//! so of any sequence of n calls at most n / (the lesser of both) + 1 reach the zone. How long
//! stacks grow depends on the memory that there is for each CPU.
//!
//! # Invariants
//!
//! 1. A block in a stack of order k lies in the stack's span and has the state `Cached(k)`: it is
//!    neither available to the zone nor in anybody's hands.
//! 2. What is in a CPU's lists is changed by who is inside (`gate`, invariant 2): the gate's limits
//!    are shut, or the numbers of the span's first frame and of the one behind it. So a hit that
//!    finds its block below the ceiling has also found that no remote is there.
//! 3. `frames` and `groups` lead to the states of all frames and groups of the span, which is a
//!    living one: before a span's metadata move, every slot is emptied and forgets its span, and
//!    none is given one until they have moved.
//! 4. A list has at most its limit of blocks, and that is at most its places.
//!
//! # Sources
//!
//! Bonwick and Adams, *Magazines and Vmem*, 2001; Linux's per-CPU page lists.

use core::ops::{Deref, Range};
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::Relaxed};

use super::list_index::{LISTS, ListIndex, PLACES, spill};
use crate::buddy::{BlockOwner, State, States};
use crate::frame::{AtomicFrame, Frame, FrameRange, Order};
use crate::gate::{Gate, Gated, UNNUMBERED};
use crate::platform::Pinning;

/// What became of a block that was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    /// It is in the list.
    Taken,
    /// It could be, but the list is full.
    NoRoom,
    /// It is no such block of the list's span.
    Refused,
}

/// How many blocks a list has, and may have: none in a list that is not used.
#[derive(Debug)]
struct Len {
    now: AtomicUsize,
    limit: usize,
}

/// The frames that a CPU keeps, behind a gate.
#[repr(C, align(64))]
pub(super) struct FrameLists {
    gate: Gate,
    /// Where frame 0, and where the first group of frames, would have their state bytes.
    frames: AtomicPtr<AtomicU8>,
    groups: AtomicPtr<AtomicU8>,
    lens: [Len; LISTS],
    /// The span's first frame, and the one behind it: the same where there is no span.
    start: AtomicFrame,
    end: AtomicFrame,
    /// Whether the lists may hold blocks. Set before a refill and cleared after a drain: a drain
    /// passes over CPUs that have nothing.
    in_use: AtomicBool,
    /// The lists, one behind the other.
    blocks: [AtomicFrame; PLACES],
}

impl Gated for FrameLists {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl FrameLists {
    /// Lists without a span, of a CPU whose share of the memory is so many frames.
    pub(super) fn new(share: usize) -> Self {
        Self::with(Gate::new(UNNUMBERED), ListIndex::limits(share))
    }

    /// The lists of a CPU that has none.
    pub(super) const fn absent() -> Self {
        Self::with(Gate::walled(), [0; LISTS])
    }

    const fn with(gate: Gate, limits: [usize; LISTS]) -> Self {
        let mut lens = [const { Len { now: AtomicUsize::new(0), limit: 0 } }; LISTS];
        let mut index = 0;
        while index < LISTS {
            lens[index].limit = limits[index];
            index += 1;
        }
        Self {
            gate,
            frames: AtomicPtr::new(ptr::null_mut()),
            groups: AtomicPtr::new(ptr::null_mut()),
            lens,
            start: AtomicFrame::new(Frame::ZERO),
            end: AtomicFrame::new(Frame::ZERO),
            in_use: AtomicBool::new(false),
            blocks: [const { AtomicFrame::new(Frame::ZERO) }; PLACES],
        }
    }

    /// A block for `owner`; `None` if that needs more than a look at the list's last block.
    ///
    /// # Safety
    ///
    /// `pinning` is the platform's. Where it is [`Pinning::Pinned`], the caller runs on the lists'
    /// CPU and stays there.
    #[inline(always)]
    pub(super) unsafe fn take(
        &self,
        pinning: Pinning,
        index: ListIndex,
        owner: BlockOwner,
    ) -> Option<Frame> {
        // SAFETY: the caller's promise.
        if !unsafe { self.gate.enter_as(UNNUMBERED, pinning) } {
            return None;
        }
        // SAFETY: entered just now, until `leave`.
        let taken = unsafe { self.pop(self.gate.ceiling(), index, owner) };
        self.gate.leave(UNNUMBERED);
        taken
    }

    /// Takes `owner`'s block back; `false`, and nothing has changed, if that needs more.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take).
    #[inline(always)]
    pub(super) unsafe fn give(
        &self,
        pinning: Pinning,
        frame: Frame,
        index: ListIndex,
        owner: BlockOwner,
    ) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { self.gate.enter_as(UNNUMBERED, pinning) } {
            return false;
        }
        // SAFETY: entered just now, until `leave`.
        let given = unsafe { self.push(self.gate.limits(), frame, index, owner) };
        self.gate.leave(UNNUMBERED);
        given == Given::Taken
    }

    /// Enters for more than a hit; `None` if somebody is inside.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take), until the answer is dropped.
    #[inline]
    pub(super) unsafe fn visit(&self, pinning: Pinning) -> Option<Visit<'_>> {
        // SAFETY: the caller's promise.
        unsafe { self.gate.visit(UNNUMBERED, pinning) }.then(|| Visit(Inside(self)))
    }

    /// The lists, for who is inside.
    ///
    /// # Safety
    ///
    /// The caller is, and stays there as long as the answer is used.
    pub(super) unsafe fn inside(&self) -> Inside<'_> {
        Inside(self)
    }

    /// Whether the lists may hold blocks: a CPU that begins to use them just now may be passed
    /// over.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.load(Relaxed)
    }

    /// The first frame of the span that the lists have blocks of, for who need not be exact.
    pub(super) fn span_start(&self) -> Frame {
        self.start.load()
    }

    /// Frames in all lists, for who need not be exact, or is inside.
    pub(super) fn frames(&self) -> usize {
        let frames = |index: ListIndex| index.order().frames() * self.len(index).now.load(Relaxed);
        ListIndex::all().map(frames).sum()
    }

    /// The last block of a list, if its state is what it must be.
    ///
    /// # Safety
    ///
    /// The caller has set the gate's mark. `end` is the gate's ceiling, read after that; or the
    /// caller is inside, and it is the number of the frame behind the span.
    #[inline(always)]
    unsafe fn pop(&self, end: usize, index: ListIndex, owner: BlockOwner) -> Option<Frame> {
        let order = index.order();
        let len = &self.len(index).now;
        // One comparison: less than nothing is more than any list holds.
        let top = len.load(Relaxed).wrapping_sub(1);
        if top >= index.places() {
            return None;
        }
        let frame = self.blocks.get(index.first() + top)?.load();
        if frame.number() >= end {
            return None;
        }
        // SAFETY: the ceiling is not shut, so the caller is inside, and a list has nothing but
        // frames of the span (invariant 1).
        let state = unsafe { self.state(frame, order) };
        if state.load(Relaxed) != State::cached(order).byte() {
            return None;
        }
        state.store(State::head(owner, order).byte(), Relaxed);
        len.store(top, Relaxed);
        Some(frame)
    }

    /// Puts a block into a list. Unless it is taken, nothing has changed.
    ///
    /// # Safety
    ///
    /// The caller has set the gate's mark. `span` is between the gate's limits, read after that; or
    /// the caller is inside, and those are the numbers of the span's frames.
    #[inline(always)]
    unsafe fn push(
        &self,
        span: Range<usize>,
        frame: Frame,
        index: ListIndex,
        owner: BlockOwner,
    ) -> Given {
        let order = index.order();
        if !span.contains(&frame.number()) {
            return Given::Refused;
        }
        // Frames of one group have one byte.
        if order >= States::GROUP && !frame.is_aligned_to(order) {
            return Given::Refused;
        }
        // SAFETY: the limits are not shut, so the caller is inside, and the frame lies in the span.
        let state = unsafe { self.state(frame, order) };
        if state.load(Relaxed) != State::head(owner, order).byte() {
            return Given::Refused;
        }
        let Len { now, limit } = self.len(index);
        let len = now.load(Relaxed);
        if len >= *limit {
            return Given::NoRoom;
        }
        // SAFETY: invariant 4: the list has places for so many.
        unsafe { self.blocks.get_unchecked(index.first() + len) }.store(frame);
        now.store(len + 1, Relaxed);
        state.store(State::cached(order).byte(), Relaxed);
        Given::Taken
    }

    /// The state of a block.
    ///
    /// # Safety
    ///
    /// The caller is inside, and the frame lies in the span.
    #[inline(always)]
    unsafe fn state(&self, frame: Frame, order: Order) -> &AtomicU8 {
        let byte = if order < States::GROUP {
            self.frames.load(Relaxed).wrapping_add(frame.number())
        } else {
            self.groups.load(Relaxed).wrapping_add(frame.number() >> States::GROUP.get())
        };
        // SAFETY: the byte exists (invariant 3), and it is never borrowed mutably.
        unsafe { &*byte }
    }

    #[inline(always)]
    fn len(&self, index: ListIndex) -> &Len {
        &self.lens[index.number()]
    }
}

/// A CPU in its own lists, for more than a hit. Until this is dropped nobody else touches them.
pub(super) struct Visit<'a>(Inside<'a>);

impl<'a> Deref for Visit<'a> {
    type Target = Inside<'a>;

    #[inline]
    fn deref(&self) -> &Inside<'a> {
        &self.0
    }
}

impl Drop for Visit<'_> {
    #[inline]
    fn drop(&mut self) {
        let Inside(lists) = self.0;
        let Range { start, end } = self.span();
        lists.gate.open(start, end);
        lists.gate.leave(UNNUMBERED);
    }
}

impl Visit<'_> {
    /// Puts blocks of the span, which the zone has marked as cached, into the list; how many there
    /// was room for. Those come from the back, so that the front's are handed out first.
    pub(super) fn fill(&mut self, index: ListIndex, blocks: &[Frame]) -> usize {
        let (len, limit) = (self.len(index), self.limit(index));
        let room = self.places(index).get_mut(len..limit).unwrap_or_default();
        let places = room.iter_mut().zip(blocks.iter().rev());
        let put = places.map(|(place, &block)| *place = block).count();
        self.set_len(index, len + put);
        put
    }

    /// The blocks that were put in longest ago, at most `most`.
    pub(super) fn oldest(&mut self, index: ListIndex, most: usize) -> &[Frame] {
        let len = self.len(index);
        self.places(index).get(..len.min(most)).unwrap_or_default()
    }

    /// Forgets as many of the blocks that were put in longest ago.
    pub(super) fn forget_oldest(&mut self, index: ListIndex, blocks: usize) {
        let len = self.len(index);
        let gone = blocks.min(len);
        self.places(index).copy_within(gone..len, 0);
        self.set_len(index, len - gone);
    }

    /// The list's places.
    fn places(&mut self, index: ListIndex) -> &mut [Frame] {
        let places = self.0.places(index);
        // SAFETY: an `AtomicFrame` is laid out as a frame and may change behind a shared reference.
        // Until the visit ends nobody else reads or writes the blocks: handlers find the
        // gate's mark, and whoever comes from elsewhere waits until it is cleared.
        unsafe { slice::from_raw_parts_mut(places.as_ptr().cast_mut().cast(), places.len()) }
    }
}

/// A CPU's lists, for who is inside.
#[derive(Clone, Copy)]
pub(super) struct Inside<'a>(&'a FrameLists);

impl<'a> Inside<'a> {
    /// A block for `owner`; `None` if the list is empty, or the block's state is not what it must
    /// be.
    #[inline]
    pub(super) fn take(self, index: ListIndex, owner: BlockOwner) -> Option<Frame> {
        // SAFETY: inside.
        unsafe { self.0.pop(self.span().end, index, owner) }
    }

    /// Takes `owner`'s block back. Unless it is taken, nothing has changed.
    #[inline]
    pub(super) fn give(self, frame: Frame, index: ListIndex, owner: BlockOwner) -> Given {
        // SAFETY: inside.
        unsafe { self.0.push(self.span(), frame, index, owner) }
    }

    /// Says whether the lists may hold blocks from now on.
    #[inline]
    pub(super) fn set_in_use(self, in_use: bool) {
        self.0.in_use.store(in_use, Relaxed);
    }

    /// How many blocks a full list gives back at once; `None` if the list is not used.
    pub(super) fn spill(self, index: ListIndex) -> Option<usize> {
        let limit = self.0.len(index).limit;
        (limit > 0).then(|| spill(limit))
    }

    /// The span's first frame, if there is a span.
    #[inline]
    pub(super) fn span_start(self) -> Option<Frame> {
        (!self.span().is_empty()).then(|| self.0.start.load())
    }

    /// The numbers of the span's frames.
    #[inline]
    fn span(self) -> Range<usize> {
        self.0.start.load().number()..self.0.end.load().number()
    }

    /// Gives the lists, which are empty, another span.
    pub(super) fn set_span(self, span: FrameRange, states: States<'static>) {
        debug_assert_eq!(self.frames(), 0, "blocks of the old span would be lost");
        debug_assert_eq!(states.of_frames().len(), span.frames());
        let start = span.start().number();
        let frame_0 = states.of_frames().as_ptr().wrapping_sub(start);
        let group_0 = states.of_groups().as_ptr().wrapping_sub(start >> States::GROUP.get());
        self.0.frames.store(frame_0.cast_mut(), Relaxed);
        self.0.groups.store(group_0.cast_mut(), Relaxed);
        self.0.start.store(span.start());
        self.0.end.store(span.end());
    }

    /// Has the lists, which are empty, forget their span.
    pub(super) fn forget_span(self) {
        self.set_span(FrameRange::EMPTY, States::NONE);
    }

    /// Frames in all lists.
    pub(super) fn frames(self) -> usize {
        self.0.frames()
    }

    /// Copies the blocks that were put in last, as many as find room; how many those are.
    pub(super) fn newest(self, index: ListIndex, room: &mut [Frame]) -> usize {
        let rest = self.len(index).saturating_sub(room.len());
        let blocks = self.places(index).iter().take(self.len(index)).skip(rest);
        room.iter_mut().zip(blocks).map(|(place, block)| *place = block.load()).count()
    }

    /// Forgets as many of the blocks that were put in last.
    pub(super) fn forget_newest(self, index: ListIndex, blocks: usize) {
        self.set_len(index, self.len(index).saturating_sub(blocks));
    }

    /// How many blocks more the list may have.
    #[inline]
    pub(super) fn room(self, index: ListIndex) -> usize {
        self.limit(index).saturating_sub(self.len(index))
    }

    /// How many blocks the list has.
    #[inline]
    pub(super) fn len(self, index: ListIndex) -> usize {
        self.0.len(index).now.load(Relaxed)
    }

    /// How many blocks the list may have.
    #[inline]
    fn limit(self, index: ListIndex) -> usize {
        self.0.len(index).limit
    }

    #[inline]
    fn set_len(self, index: ListIndex, len: usize) {
        debug_assert!(len <= self.limit(index));
        self.0.len(index).now.store(len, Relaxed);
    }

    /// The list's places.
    #[inline]
    fn places(self, index: ListIndex) -> &'a [AtomicFrame] {
        let first = index.first();
        self.0.blocks.get(first..first + index.places()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
