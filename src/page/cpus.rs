//! The CPUs' frame lists in front of the zones: hits, refills, spills and drains.
//!
//! A request is served here only if any frame will do: no particular zone, not movable, and of an order that
//! has a list. A slot serves one span, the one that it was last refilled from; blocks of other spans
//! go to their zone.
//!
//! While a slot is used, its lists and a zone's lock are held in that order. Everything here is
//! optional: whatever cannot be done in a CPU's slot, because an interrupt handler came upon it busy or a remote has it,
//! is done on the shared path.

use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use super::flags::AllocFlags;
use super::frame_lists::{FrameLists, Given, ListIndex, MAX_BATCH};
use super::passes::Offer;
use super::zone::{Choice, Depth, Zone};
use super::{AllocError, BlockOwner, PageAllocator};
use crate::buddy::Placement;
use crate::check::{Rule, Violation, violation};
use crate::cpu_local::CpuSlot;
use crate::frame::{Frame, Order};
use crate::platform::Platform;

/// One CPU's frame lists.
pub(super) struct Cpu {
    lists: CpuSlot<FrameLists>,
    /// Whether the lists may hold blocks. Set before a refill and cleared after a drain: a drain passes over
    /// CPUs that have nothing.
    in_use: AtomicBool,
}

// What `CpuLists::Keep` says.
const _: () = assert!(size_of::<Cpu>() < 6 << 10);

impl Cpu {
    /// A CPU whose share of the memory is so many frames.
    pub(super) fn new(share: usize) -> Self {
        Self { lists: CpuSlot::new(FrameLists::new(share)), in_use: AtomicBool::new(false) }
    }
}

/// The slots of all CPUs, once there are any: a slice that a hit reads without asking first whether it is there.
///
/// # Invariants
///
/// `first` leads to `len` slots that live for good, whatever `len` was read before `first`.
pub(super) struct Cpus {
    first: AtomicPtr<Cpu>,
    len: AtomicUsize,
}

impl Cpus {
    pub(super) const fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::dangling_mut()), len: AtomicUsize::new(0) }
    }

    /// Has CPUs use these slots from now on. Called once.
    pub(super) fn set(&self, slots: &'static [Cpu]) {
        debug_assert!(
            self.all().is_empty(),
            "whoever has read the old length would go beyond the new slots"
        );
        if self.len.load(Ordering::Relaxed) == 0 {
            self.first.store(slots.as_ptr().cast_mut(), Ordering::Relaxed);
            // Release, for the Acquire in `all`: the pointer and the slots are written.
            self.len.store(slots.len(), Ordering::Release);
        }
    }

    #[inline(always)]
    pub(super) fn all(&self) -> &'static [Cpu] {
        let len = self.len.load(Ordering::Acquire);
        // SAFETY: if `len` is 0, any aligned pointer that is not null will do, and there is no other. Otherwise it was
        // stored, once, after a pointer to so many slots that live for good and are never borrowed mutably.
        unsafe { slice::from_raw_parts(self.first.load(Ordering::Relaxed), len) }
    }
}

/// What requests that a CPU's lists can serve may ask for.
const SERVED: AllocFlags = AllocFlags::ZERO.union(AllocFlags::ATOMIC).union(AllocFlags::NO_WAIT);

impl<P: Platform> PageAllocator<P> {
    /// Lets `work` use the running CPU's lists, pinned to it.
    #[inline(always)]
    fn with_lists<R>(&self, work: impl FnOnce(&Cpu, &mut FrameLists) -> R) -> Option<R> {
        let running = self.platform.pin_here();
        let used = self.cpus.all().get(running.index()).and_then(|cpu| {
            // SAFETY: the thread has been pinned to the CPU whose slot this is, and what `work` does here
            // neither switches threads nor unwinds.
            unsafe { cpu.lists.with_local::<P, R>(|lists| work(cpu, lists)) }
        });
        self.platform.unpin_from(running);
        used
    }

    /// A block from the running CPU's lists, refilled if need be; `None` if it must come from the zones.
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
        self.with_lists(|cpu, lists| match lists.take(index, owner) {
            Some(frame) => Some(frame),
            None if index.moves_singly() => self.take_single(cpu, lists, order, owner, flags),
            None => self.refill(cpu, lists, index, owner, flags),
        })?
    }

    /// Puts a block into the running CPU's lists, spilled if need be; `false` if it must go to its zone, which also
    /// finds out what is wrong with it.
    #[inline(always)]
    pub(super) fn give_local(&self, frame: Frame, order: Order, owner: BlockOwner) -> bool {
        let Some(index) = ListIndex::of(order) else { return false };
        let given = self.with_lists(|_, lists| match lists.give(frame, index, owner) {
            Given::Taken => true,
            Given::Refused => false,
            Given::NoRoom if index.moves_singly() => false,
            Given::NoRoom => self.give_after_spill(lists, frame, index, owner),
        });
        given == Some(true)
    }

    /// Puts a block into a full list after making room; not into one that is not used.
    #[cold]
    #[inline(never)]
    fn give_after_spill(
        &self,
        lists: &mut FrameLists,
        frame: Frame,
        index: ListIndex,
        owner: BlockOwner,
    ) -> bool {
        let Some(blocks) = lists.spill(index) else { return false };
        self.spill(lists, index, blocks);
        lists.give(frame, index, owner) == Given::Taken
    }

    /// Takes a block from the zones for the caller alone, and has the lists follow its span.
    #[cold]
    #[inline(never)]
    fn take_single(
        &self,
        cpu: &Cpu,
        lists: &mut FrameLists,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        self.begin_use(cpu)?;
        let (first, _) = self.candidates(flags).next()?;
        let mut zone = self.lock(first, flags).ok()?;
        let (frame, buddy) = zone.take_at_once(order, owner, Placement::Low)?;
        let (start, states) = (buddy.cover().start(), buddy.states());
        drop(zone);
        self.follow(lists, start, states);
        Some(frame)
    }

    /// Takes a batch from the zones, one block of it for the caller.
    #[cold]
    #[inline(never)]
    fn refill(
        &self,
        cpu: &Cpu,
        lists: &mut FrameLists,
        index: ListIndex,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Option<Frame> {
        lists.spill(index)?;
        self.begin_use(cpu)?;
        let order = index.order();
        let mut batch = [Frame::ZERO; MAX_BATCH];
        // Only while there is plenty, so that no reserve goes where any request can take it.
        let request = &mut |zone: &mut Zone, offer: Offer| {
            zone.counts.refills += 1;
            let most = index.refill().min(offer.spare / order.frames());
            let taken = zone.ask(Placement::Low, |buddy| {
                let batch = batch.get_mut(..most).unwrap_or_default();
                match buddy.alloc_cached(order, batch, Placement::Low) {
                    0 => Err(AllocError::OutOfMemory),
                    taken => Ok((taken, buddy.cover().start(), buddy.states())),
                }
            })?;
            if let Some((blocks, ..)) = taken
                && offer.choice == Choice::Fallback
            {
                zone.counts.fallbacks += blocks as u64;
            }
            Ok(taken)
        };
        let (taken, start, states) =
            self.pass(order.frames(), flags, Depth::Plenty, request).ok()??;
        self.follow(lists, start, states);
        let batch = batch.get(..taken).unwrap_or_default();
        let kept = lists.fill(index, batch);
        // The last ones found no room; none do where the list was empty.
        self.give_cached(batch.get(..taken - kept).unwrap_or_default(), order);
        lists.take(index, owner)
    }

    /// Marks the CPU as one whose lists may hold blocks, unless they are to be kept empty.
    fn begin_use(&self, cpu: &Cpu) -> Option<()> {
        // Relaxed, both: a drain that must see it synchronizes with this CPU before it looks into the slot.
        if self.lists_kept_empty.load(Ordering::Relaxed) > 0 {
            return None;
        }
        cpu.in_use.store(true, Ordering::Relaxed);
        Some(())
    }

    /// Gives the lists the span that their CPU took from last; what they hold of another goes back.
    fn follow(&self, lists: &mut FrameLists, start: Frame, states: &'static [AtomicU8]) {
        if lists.span_start() != Some(start) {
            self.empty(lists);
            lists.set_span(start, states);
        }
    }

    /// Gives the list's oldest blocks back to their zone, `blocks` of them.
    #[cold]
    #[inline(never)]
    fn spill(&self, lists: &mut FrameLists, index: ListIndex, blocks: usize) {
        let batch = lists.oldest(index, blocks);
        let moved = batch.len();
        self.give_cached(batch, index.order());
        lists.forget_oldest(index, moved);
    }

    /// Gives all blocks back to their zone.
    fn empty(&self, lists: &mut FrameLists) {
        for index in ListIndex::all() {
            if lists.len(index) > 0 {
                self.spill(lists, index, usize::MAX);
            }
        }
        lists.set_span(Frame::ZERO, &[]);
    }

    /// Gives blocks of one span, in the state of cached ones, back to their zone.
    fn give_cached(&self, blocks: &[Frame], order: Order) {
        let Some((setup, &first)) = self.setup.get().zip(blocks.first()) else { return };
        let mut zone = self.zone(setup, first);
        zone.counts.spills += 1;
        let freed = match zone.buddy_of(first) {
            Some(buddy) => buddy.free_cached(blocks, order).map_err(|(at, _)| at),
            None => Err(0),
        };
        drop(zone);
        if let Err(at) = freed {
            let frame = blocks.get(at).copied().unwrap_or(first);
            let address = frame.start().as_u64() as usize;
            violation(&Violation::new(Rule::Corrupted, address).on_cpu(self.platform.cpu_id()));
        }
    }

    /// How many frames the running CPU keeps ready.
    pub fn frames_kept(&self) -> usize {
        self.with_lists(|_, lists| lists.frames()).unwrap_or(0)
    }

    /// Gives all blocks in the running CPU's lists back to their zones.
    ///
    /// A kernel calls this before it takes a CPU away; what is left on a CPU that has gone comes back by
    /// [`drain`](Self::drain) as well.
    pub fn drain_local(&self) {
        self.with_lists(|cpu, lists| {
            self.empty(lists);
            cpu.in_use.store(false, Ordering::Relaxed);
        });
    }

    /// Gives all blocks in all CPUs' lists back to their zones; says whether nothing stayed behind, which it
    /// may on a CPU that is inside its lists, or where the platform cannot
    /// [synchronize](Platform::synchronize) CPUs.
    ///
    /// Called with no lock held. The allocator does so itself before a request fails that may wait.
    pub fn drain(&self) -> bool {
        self.drain_local();
        // Relaxed: a CPU that begins to use its lists just now may be passed over.
        self.drain_cpus(|cpu| cpu.in_use.load(Ordering::Relaxed))
    }

    /// Empties the lists of those CPUs; whether all could be emptied.
    fn drain_cpus(&self, which: impl Fn(&Cpu) -> bool) -> bool {
        self.cpus.all().iter().filter(|cpu| which(cpu)).fold(true, |all, cpu| {
            let drained = cpu.lists.with_remote(&self.platform, |lists| {
                self.empty(lists);
                cpu.in_use.store(false, Ordering::Relaxed);
            });
            all && drained.is_some()
        })
    }

    /// Empties all CPUs' lists and keeps them empty until the answer is dropped. Called with no lock held.
    pub(super) fn keep_lists_empty(&self) -> ListsKeptEmpty<'_> {
        self.lists_kept_empty.fetch_add(1, Ordering::Relaxed);
        // All of them: none that begins to use its lists just now may be passed over.
        let all = self.drain_cpus(|_| true);
        ListsKeptEmpty { count: &self.lists_kept_empty, all }
    }
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
