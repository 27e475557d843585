//! The CPUs' frame lists in front of the zones: hits, refills, spills and drains.
//!
//! A request is served here only if any frame will do: no particular zone, not movable, and of an
//! order that has a list. A slot serves one span, the one that it was last refilled from; blocks of
//! other spans go to their zone.
//!
//! While a slot is used, its lists and a zone's lock are held in that order. Everything here is
//! optional: whatever cannot be done in a CPU's slot, because an interrupt handler came upon it
//! busy or a remote has it, is done on the shared path.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::flags::AllocFlags;
use super::frame_lists::{FrameLists, Given, Inside, Visit};
use super::list_index::{ListIndex, MAX_BATCH};
use super::passes::Offer;
use super::zone::{Choice, Depth, Zone};
use super::{AllocError, BlockOwner, PageAllocator};
use crate::buddy::{Placement, States};
use crate::check::{Rule, Violation, violation};
use crate::cpu_set::CpuSet;
use crate::frame::{Frame, FrameRange, Order};
use crate::gate;
use crate::platform::{CpuId, MAX_CPUS, Pinned, Platform};

// What `CpuLists::Keep` says.
const _: () = assert!(size_of::<FrameLists>() < 8 << 10);

/// The lists of CPUs that have none.
static ABSENT: FrameLists = FrameLists::absent();

/// The lists of all CPUs: a table that a hit reads without asking first whether they are there, or
/// how many.
///
/// # Invariants
///
/// A cell leads to [`ABSENT`], or to lists that live for good and are its CPU's alone.
pub(super) struct Cpus {
    cells: [AtomicPtr<FrameLists>; MAX_CPUS],
}

impl Cpus {
    pub(super) const fn new() -> Self {
        Self { cells: [const { AtomicPtr::new((&raw const ABSENT).cast_mut()) }; MAX_CPUS] }
    }

    /// Has the CPUs use these lists from now on, the first one's first. Called once.
    pub(super) fn set(&self, lists: &'static [FrameLists]) {
        debug_assert!(self.are_absent(), "CPUs have lists");
        for (cell, lists) in self.cells.iter().zip(lists) {
            // Release, for the Acquire in `at`: the lists are written.
            cell.store((&raw const *lists).cast_mut(), Ordering::Release);
        }
    }

    /// Whether no CPU has lists.
    pub(super) fn are_absent(&self) -> bool {
        self.get(CpuId::BOOT).is_none()
    }

    /// The lists of the CPU, or [`ABSENT`].
    #[inline(always)]
    fn at(&self, cpu: CpuId) -> &'static FrameLists {
        // SAFETY: a `CpuId` is below `MAX_CPUS`.
        let cell = unsafe { self.cells.get_unchecked(cpu.index()) };
        // SAFETY: by the invariant, they live for good, and they are never borrowed mutably.
        unsafe { &*cell.load(Ordering::Acquire) }
    }

    /// The lists of the CPU, if it has some.
    pub(super) fn get(&self, cpu: CpuId) -> Option<&'static FrameLists> {
        let lists = self.at(cpu);
        (!ptr::eq(lists, &ABSENT)).then_some(lists)
    }

    /// How many frames the lists of all CPUs have whose span begins in `cover`.
    pub(super) fn frames_within(&self, cover: FrameRange) -> usize {
        let all = (0..MAX_CPUS).filter_map(CpuId::new).filter_map(|cpu| self.get(cpu));
        all.filter(|lists| cover.contains(lists.span_start())).map(FrameLists::frames).sum()
    }
}

/// What requests that a CPU's lists can serve may ask for.
const SERVED: AllocFlags = AllocFlags::ZERO.union(AllocFlags::ATOMIC).union(AllocFlags::NO_WAIT);

/// How often CPUs are asked to leave their lists before memory is not added.
const DRAINS: usize = 8;

impl<P: Platform> PageAllocator<P> {
    /// Lets `work` use the running CPU's lists, pinned to it, for more than a hit; `None` where
    /// there are none, or somebody is inside.
    pub(super) fn visit<R>(&self, work: impl FnOnce(&mut Visit<'_>) -> R) -> Option<R> {
        let pin = Pinned::here(&self.platform);
        // SAFETY: the thread is pinned to the CPU whose lists these are for longer than the visit
        // lasts, also where a hook unwinds, and what `work` does here switches no threads.
        let mut visit = unsafe { self.cpus.at(pin.cpu()).visit(P::PINNING) };
        visit.as_mut().map(work)
    }

    /// A block from the running CPU's lists, refilled if need be; `None` if it must come from the
    /// zones.
    #[inline(always)]
    pub(super) fn take_local(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        if !SERVED.contains(flags) {
            return None;
        }
        let index = ListIndex::of(order)?;
        let running = self.platform.pin_here();
        // SAFETY: the thread has been pinned to the CPU whose lists these are.
        let taken = unsafe { self.cpus.at(running).take(P::PINNING, index, owner) };
        self.platform.unpin_from(running);
        match taken {
            Some(frame) => Some(frame),
            None => self.take_refilled(index, owner, flags),
        }
    }

    /// As [`take_local`](Self::take_local), where the list's last block is not to be had.
    #[cold]
    #[inline(never)]
    fn take_refilled(
        &self,
        index: ListIndex,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        self.visit(|lists| match lists.take(index, owner) {
            Some(frame) => Some(frame),
            None if index.moves_singly() => self.take_single(lists, index.order(), owner, flags),
            None => self.refill(lists, index, owner, flags),
        })?
    }

    /// Puts a block into the running CPU's lists, spilled if need be; `false` if it must go to its
    /// zone, which also finds out what is wrong with it.
    #[inline(always)]
    pub(super) fn give_local(&self, frame: Frame, order: Order, owner: BlockOwner) -> bool {
        let Some(index) = ListIndex::of(order) else { return false };
        let running = self.platform.pin_here();
        // SAFETY: the thread has been pinned to the CPU whose lists these are.
        let given = unsafe { self.cpus.at(running).give(P::PINNING, frame, index, owner) };
        self.platform.unpin_from(running);
        given || self.give_spilled(frame, index, owner)
    }

    /// As [`give_local`](Self::give_local), where the list has no room, or the block is not what it
    /// must be.
    #[cold]
    #[inline(never)]
    fn give_spilled(&self, frame: Frame, index: ListIndex, owner: BlockOwner) -> bool {
        // Where blocks move singly there is nothing to spill.
        if index.moves_singly() {
            return false;
        }
        let given = self.visit(|lists| match lists.give(frame, index, owner) {
            Given::Taken => true,
            Given::Refused => false,
            Given::NoRoom => self.give_after_spill(lists, frame, index, owner),
        });
        given == Some(true)
    }

    /// Puts a block into a full list after making room; not into one that is not used.
    fn give_after_spill(
        &self,
        lists: &mut Visit<'_>,
        frame: Frame,
        index: ListIndex,
        owner: BlockOwner,
    ) -> bool {
        let Some(blocks) = lists.spill(index) else { return false };
        let oldest = lists.oldest(index, blocks);
        let Ok(given) = self.give_cached(oldest, index.order(), AllocFlags::empty()) else {
            return false;
        };
        lists.forget_oldest(index, blocks);
        self.report_damaged(given);
        lists.give(frame, index, owner) == Given::Taken
    }

    /// Takes a block from the zones for the caller alone, and has the lists follow its span if they
    /// can.
    fn take_single(
        &self,
        lists: &mut Visit<'_>,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        self.begin_use(**lists)?;
        let (first, _) = self.candidates(flags).next()?;
        let mut zone = self.lock(first, flags).ok()?;
        let (frame, buddy) = zone.take_at_once(order, owner, Placement::Low)?;
        let (span, states) = (buddy.cover(), buddy.states());
        drop(zone);
        if can_follow(**lists, span, flags) {
            self.follow(**lists, span, states);
        }
        Some(frame)
    }

    /// Takes a batch from the zones, one block of it for the caller.
    fn refill(
        &self,
        lists: &mut Visit<'_>,
        index: ListIndex,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        let room = lists.room(index);
        if room == 0 {
            return None;
        }
        self.begin_use(**lists)?;
        let (order, inside) = (index.order(), **lists);
        // A smaller batch than a spill would have more calls reach the zone.
        let least = lists.spill(index)?;
        let mut batch = [Frame::ZERO; MAX_BATCH];
        // Only while there is plenty, so that no reserve goes where any request can take it.
        let request = &mut |zone: &mut Zone, offer: Offer| {
            let most = index.refill().min(room).min(offer.spare / order.frames());
            let mut is_elsewhere = false;
            let taken = zone.ask(Placement::Low, |buddy| {
                if !can_follow(inside, buddy.cover(), flags) {
                    is_elsewhere = true;
                    return Err(AllocError::OutOfMemory);
                }
                let batch = batch.get_mut(..most).unwrap_or_default();
                match buddy.alloc_cached(order, batch, least, Placement::Low) {
                    0 => Err(AllocError::OutOfMemory),
                    taken => Ok((taken, buddy.cover(), buddy.states())),
                }
            })?;
            if let Some((blocks, ..)) = taken {
                zone.counts.refills += 1;
                let is_fallback = offer.choice == Choice::Fallback;
                zone.counts.fallbacks += if is_fallback { blocks as u64 } else { 0 };
            } else if is_elsewhere {
                // It is this zone that serves the request, if not by way of the lists: no lower
                // one.
                return Err(AllocError::WouldBlock);
            }
            Ok(taken)
        };
        let (taken, span, states) =
            self.pass(order.frames(), flags, Depth::Plenty, request).ok()??;
        self.follow(**lists, span, states);
        let batch = batch.get(..taken).unwrap_or_default();
        let kept = lists.fill(index, batch);
        debug_assert_eq!(kept, taken, "no more were taken than there is room for");
        lists.take(index, owner)
    }

    /// Marks the CPU as one whose lists may hold blocks, unless they are to be kept empty.
    fn begin_use(&self, lists: Inside<'_>) -> Option<()> {
        // Relaxed, both: a drain that must see it synchronizes with this CPU before it looks into
        // the slot.
        if self.lists_kept_empty.load(Ordering::Relaxed) > 0 {
            return None;
        }
        lists.set_in_use(true);
        Some(())
    }

    /// Gives the lists the span that their CPU took from last; what they hold of another goes back.
    fn follow(&self, lists: Inside<'_>, span: FrameRange, states: States<'static>) {
        if lists.span_start() != Some(span.start()) && self.empty(lists, AllocFlags::empty()) {
            lists.set_span(span, states);
        }
    }

    /// Gives all blocks back to their zone; `false` if some are left, by a request that may not
    /// wait.
    fn empty(&self, lists: Inside<'_>, flags: AllocFlags) -> bool {
        for index in ListIndex::all() {
            while lists.len(index) > 0 {
                let mut batch = [Frame::ZERO; MAX_BATCH];
                let len = lists.newest(index, &mut batch);
                let blocks = batch.get(..len).unwrap_or_default();
                let Ok(given) = self.give_cached(blocks, index.order(), flags) else {
                    return false;
                };
                lists.forget_newest(index, len);
                self.report_damaged(given);
            }
        }
        lists.forget_span();
        true
    }

    /// Gives blocks of one span, in the state of cached ones, back to their zone; the first that is
    /// in no such state, before which it stopped. That is to be [reported](Self::report_damaged)
    /// once the lists have forgotten the blocks: a hook may unwind.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and nothing has changed, if that takes a wait that `flags` forbid.
    fn give_cached(
        &self,
        blocks: &[Frame],
        order: Order,
        flags: AllocFlags,
    ) -> Result<Option<Frame>, AllocError> {
        let Some((setup, &first)) = self.setup.get().zip(blocks.first()) else { return Ok(None) };
        let mut zone = self.lock(setup.zone_of(first), flags)?;
        zone.counts.spills += 1;
        let freed = match zone.buddy_of(first) {
            Some(buddy) => buddy.free_cached(blocks, order).map_err(|(at, _)| at),
            None => Err(0),
        };
        Ok(freed.err().map(|at| blocks.get(at).copied().unwrap_or(first)))
    }

    /// Reports what [`give_cached`](Self::give_cached) found.
    fn report_damaged(&self, frame: Option<Frame>) {
        if let Some(frame) = frame {
            let address = frame.start().as_u64() as usize;
            violation(&Violation::new(Rule::Corrupted, address).on_cpu(self.platform.cpu_id()));
        }
    }

    /// How many frames the running CPU keeps ready; 0 where this interrupts a call that uses them.
    pub fn frames_kept(&self) -> usize {
        self.visit(|lists| lists.frames()).unwrap_or(0)
    }

    /// Gives all blocks in the running CPU's lists back to their zones.
    ///
    /// A kernel calls this before it takes a CPU away; what is left on a CPU that has gone comes
    /// back by [`drain_cpu`](Self::drain_cpu). What the CPU keeps of caches and of a heap, theirs
    /// give back: [`RawCache::drain_cpu`](crate::slab::RawCache::drain_cpu),
    /// [`Heap::drain_cpu`](crate::heap::Heap::drain_cpu).
    pub fn drain_local(&self) {
        self.drain_local_for(AllocFlags::empty());
    }

    /// The same on behalf of a request, as far as it may wait.
    pub(super) fn drain_local_for(&self, flags: AllocFlags) {
        self.visit(|lists| self.empty_for_now(**lists, flags));
    }

    /// Gives all blocks in the lists of a CPU that has stopped back to their zones, also where the
    /// platform cannot [synchronize](Platform::synchronize) CPUs; says whether nothing stayed
    /// behind, which it may while another CPU drains it.
    ///
    /// # Safety
    ///
    /// The CPU did not stop in the midst of a call of the allocator and makes none before this
    /// returns, and the caller sees what it did. Others may call.
    pub unsafe fn drain_cpu(&self, cpu: CpuId) -> bool {
        if self.cpus.get(cpu).is_none() {
            return true;
        }
        let mut is_empty = false;
        let empty = |lists: &FrameLists| {
            // SAFETY: `visit_stopped` has let us in, until this returns.
            let lists = unsafe { lists.inside() };
            self.empty_for_now(lists, AllocFlags::empty());
            is_empty = lists.frames() == 0;
        };
        // SAFETY: the caller's promise.
        unsafe { gate::visit_stopped(&self.platform, cpu, |cpu| self.cpus.at(cpu), empty) };
        is_empty
    }

    /// Gives all blocks in all CPUs' lists back to their zones; says whether nothing stayed behind,
    /// which it may on a CPU that is inside its lists, or where the platform cannot
    /// [synchronize](Platform::synchronize) CPUs, or that another CPU drains at the same time.
    ///
    /// Called with no lock held. The allocator does so itself before a request fails that may wait.
    pub fn drain(&self) -> bool {
        self.drain_local();
        self.drain_cpus(FrameLists::is_in_use)
    }

    /// Empties the lists of those CPUs; whether all could be emptied.
    fn drain_cpus(&self, which: impl Fn(&FrameLists) -> bool) -> bool {
        let chosen = CpuSet::of(|cpu| self.cpus.get(cpu).is_some_and(&which));
        let mut left = chosen.len();
        gate::visit_all(
            &self.platform,
            chosen,
            |cpu| self.cpus.at(cpu),
            |lists| {
                // SAFETY: `visit_all` has let us in, until this returns.
                self.empty_for_now(unsafe { lists.inside() }, AllocFlags::empty());
                left -= 1;
            },
        );
        left == 0
    }

    /// Empties lists that a drain may pass over until they are used again.
    fn empty_for_now(&self, lists: Inside<'_>, flags: AllocFlags) {
        if self.empty(lists, flags) {
            lists.set_in_use(false);
        }
    }

    /// Empties all CPUs' lists and keeps them empty until the answer is dropped. Called with no
    /// lock held.
    pub(super) fn keep_lists_empty(&self) -> ListsKeptEmpty<'_> {
        self.lists_kept_empty.fetch_add(1, Ordering::Relaxed);
        let mut kept = ListsKeptEmpty { count: &self.lists_kept_empty, all: false };
        // Those of this CPU need nobody else, and are all that can be had where the platform does
        // not synchronize CPUs.
        self.drain_local();
        // All of them: none that begins to use its lists just now may be passed over. Who was
        // inside leaves soon, and does not refill.
        kept.all = (0..DRAINS).any(|_| self.drain_cpus(|_| true));
        kept
    }
}

/// Whether the lists can be given this span on behalf of a request: one that may not wait leaves
/// blocks of another where they are, since their zone's lock would be needed.
#[inline]
fn can_follow(lists: Inside<'_>, span: FrameRange, flags: AllocFlags) -> bool {
    !flags.contains(AllocFlags::NO_WAIT)
        || lists.span_start() == Some(span.start())
        || lists.frames() == 0
}

/// While it lives no CPU refills its lists.
pub(super) struct ListsKeptEmpty<'a> {
    count: &'a AtomicUsize,
    all: bool,
}

impl ListsKeptEmpty<'_> {
    /// Whether all lists are empty: not if a CPU could not be drained.
    pub(super) fn are_all_empty(&self) -> bool {
        self.all
    }
}

impl Drop for ListsKeptEmpty<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
