//! What lies idle goes back: from magazines and shelves to the slabs, and from empty slabs to the
//! source.

use core::iter;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::descriptor::{CACHED, Entry};
use super::find::find;
use super::inside::Inside;
use super::lifecycle::Lifecycle;
use super::lists::{Filling, Lists};
use super::magazine::Magazine;
use super::shelf::Shelf;
use crate::lock::IrqLock;
use crate::page::FrameSource;
use crate::platform::{CpuId, MAX_CPUS};

/// How other CPUs' objects are to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Others {
    /// At once, by going there: takes a barrier on every CPU.
    Visit,
    /// At their next call.
    Ask,
}

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// Puts the rounds of a magazine back into their slabs, and returns it without them. Neighbours
    /// in a magazine are often neighbours in a slab: that one is found, and sorted into its list,
    /// once for all of them.
    pub(super) fn empty(&self, lists: &mut Lists, magazine: Magazine) -> Magazine {
        let mut rest = magazine.as_slice(self.platform());
        while let Some(&first) = rest.first() {
            // SAFETY: the object lies in the magazine, so it is out of its slab.
            let Some(slab) = (unsafe { find(self.source, first.object) }) else {
                self.report_lost(first);
                rest = &rest[1..];
                continue;
            };
            let mut filling = Filling::new(slab);
            let stop = rest.iter().position(|&entry| !filling.put(entry));
            lists.finish(self.platform(), filling);
            let mut put = stop.unwrap_or(rest.len());
            if put == 0 {
                if first.state().load(Relaxed) == CACHED {
                    // It is another slab's: one of the two records is wrong.
                    self.report_lost(first);
                } else {
                    self.report_twice(first);
                }
                put = 1;
            }
            rest = &rest[put..];
        }
        magazine.emptied()
    }

    /// The records say of an object in a magazine that it is none of the cache's.
    #[cold]
    fn report_lost(&self, entry: Entry) {
        super::corrupted(self.platform(), entry.object.addr().get(), Some(self.name));
    }

    /// Puts the rounds of a slot's magazines back into their slabs: all that a remote does in a
    /// slot (`slot`, invariant 1).
    pub(super) fn drain_inside(&self, slot: Inside<'_>) {
        let mut lists = self.lists.lock(self.platform());
        let [loaded, previous, foreign] = self.take_emptied(&mut lists, slot);
        slot.load(self.platform(), loaded);
        slot.put_previous(previous);
        slot.put_foreign(foreign);
    }

    /// Takes a slot's magazines out, and puts their rounds back into their slabs: the loaded one,
    /// the previous one, and that for objects from other ways' slabs, as far as there are any.
    fn take_emptied(&self, lists: &mut Lists, slot: Inside<'_>) -> [Magazine; 3] {
        slot.settle();
        let taken = [slot.take_loaded(), slot.take_previous(), slot.take_foreign()];
        taken.map(|magazine| self.empty(lists, magazine))
    }

    /// Puts idle objects back into their slabs: the running CPU's, those on all shelves, and other
    /// CPUs'. What cannot be had of those, they are asked for. Whether memory of magazines went
    /// back, too.
    pub(super) fn drain(&self, others: Others) -> bool {
        let platform = self.platform();
        if let Some(held) = self.hold() {
            self.drain_inside(*held);
        }
        // What a CPU takes from its shelf before this is found in its slot,
        let before = self.clear_shelves();
        if self.cpus.ask(platform) && others == Others::Visit {
            self.cpus.visit_all(platform, self.rounds(), |slot| self.drain_inside(slot));
        }
        // and what it puts there before that, here.
        before + self.clear_shelves() > 0
    }

    /// Empties all shelves; how many magazines they had.
    fn clear_shelves(&self) -> usize {
        self.shelves().map(|shelf| self.clear_shelf(shelf, usize::MAX, usize::MAX)).sum()
    }

    /// The CPUs' shelves and the depot.
    pub(super) fn shelves(&self) -> impl Iterator<Item = &IrqLock<Shelf>> {
        let own = self.cpus.slots(self.platform()).map(|slot| &slot.shelf);
        own.chain(iter::once(&self.depot))
    }

    /// Takes full magazines from a shelf, puts their rounds back into their slabs, and gives empty
    /// ones' memory back: so many of each at most. How many there were.
    fn clear_shelf(&self, shelf: &IrqLock<Shelf>, full: usize, empty: usize) -> usize {
        let platform = self.platform();
        let mut cleared = 0;
        for _ in 0..full {
            let emptied = {
                // Held until the rounds are in their slabs: in a process that is copied while
                // nobody holds a lock (`host`) they would be nowhere.
                let mut shelf = shelf.lock(platform);
                let Some(magazine) = shelf.take_idle(platform) else { break };
                self.empty(&mut self.lists.lock(platform), magazine)
            };
            self.give_magazine(emptied);
            cleared += 1;
        }
        for _ in 0..empty {
            let Some(magazine) = shelf.lock(platform).empty.pop(platform) else { break };
            self.give_magazine(magazine);
            cleared += 1;
        }
        cleared
    }

    pub(super) fn give_magazine(&self, magazine: Magazine) {
        if !magazine.is_none() {
            // SAFETY: the magazine was ours; its record came from `new_magazine`.
            unsafe { self.records().give(self.source, magazine.into_id()) };
        }
    }

    /// Puts the objects of a CPU that has stopped back into their slabs, and gives its
    /// magazines' memory back. Nothing stays behind, whoever else drains it, so there is nothing to
    /// answer, as [`PageAllocator::drain_cpu`](crate::page::PageAllocator::drain_cpu) has.
    ///
    /// # Safety
    ///
    /// The CPU did not stop in the midst of a call of the cache and makes none before this returns,
    /// and the caller sees what it did. Others may call. Of a CPU that stopped in the midst of one,
    /// the objects are lost: see [`abandon_cpu`](Self::abandon_cpu).
    pub unsafe fn drain_cpu(&self, cpu: CpuId) {
        let Some(slot) = self.cpus.slot(self.platform(), cpu) else { return };
        let emptied = {
            let mut lists = self.lists.lock(self.platform());
            // SAFETY: the caller's promise: the CPU is not inside. A remote may be let in, but does
            // nothing there without the lists' lock (`slot`, invariant 1).
            let slot = unsafe { Inside::new(slot, self.rounds()) };
            let emptied = self.take_emptied(&mut lists, slot);
            // No magazine is loaded any more, so this shuts the gate, as anybody may.
            slot.open(self.limits());
            emptied
        };
        emptied.into_iter().for_each(|magazine| self.give_magazine(magazine));
        self.clear_shelf(&slot.shelf, usize::MAX, usize::MAX);
        self.trim();
    }

    /// Forgets a CPU's magazines, whose objects are lost: see
    /// [`Heap::abandon_cpu`](crate::heap::Heap::abandon_cpu).
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn abandon_cpu(&self, cpu: CpuId) {
        let Some(slot) = self.cpus.slot(self.platform(), cpu) else { return };
        // A remote may be there.
        let _lists = self.lists.lock(self.platform());
        self.cpus.abandon(slot);
    }

    /// Lets a CPU use its magazines again, from which another kept it that is not there any more.
    #[cfg(feature = "mmap")]
    pub(crate) fn readmit_cpu(&self, cpu: CpuId) {
        self.cpus.readmit(self.platform(), cpu);
    }

    /// Empties every magazine and gives its memory back.
    pub(super) fn drain_all(&mut self) {
        for cpu in (0..MAX_CPUS).filter_map(CpuId::new) {
            // SAFETY: the exclusive borrow shows that no CPU is in the midst of a call, and whoever
            // has it sees what they did.
            unsafe { self.drain_cpu(cpu) };
        }
        self.clear_shelf(&self.depot, usize::MAX, usize::MAX);
    }

    /// Gives back what has not been needed since the last call: the fewest empty slabs and the
    /// fewest magazines on each shelf that there have been at any time in between. Called at
    /// intervals, it follows the working set. How many frames were given back.
    pub fn reap(&self) -> usize {
        let platform = self.platform();
        for shelf in self.shelves() {
            let (full, empty) = {
                let shelf = shelf.lock(platform);
                (shelf.full.idle(), shelf.empty.idle())
            };
            self.clear_shelf(shelf, full, empty);
            shelf.lock(platform).settle();
        }
        let idle = self.lists.lock(platform).idle;
        let mut frames = 0;
        for _ in 0..idle {
            let slab = self.lists.lock(platform).remove_empty(platform);
            let Some(slab) = slab else { break };
            frames += slab.slab().order().frames();
            // SAFETY: it comes from this cache's lists.
            unsafe { self.release(slab) };
        }
        self.lists.lock(platform).settle();
        frames
    }

    /// Gives back empty slabs beyond those that the cache keeps. Each was emptied by an earlier
    /// free, so the work is bounded by theirs.
    pub(super) fn trim(&self) {
        loop {
            let surplus = {
                let mut lists = self.lists.lock(self.platform());
                self.surplus(&mut lists)
            };
            let Some(slab) = surplus else { return };
            // SAFETY: it comes from this cache's lists.
            unsafe { self.release(slab) };
        }
    }
}
