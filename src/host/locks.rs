//! Who uses a lock of kmem, so that a process is copied while nobody does.
//!
//! A copy of a process has the thread that made it and no other. A lock that another held would
//! stay closed in it, and what that was changing would stay half done. So every thread marks its
//! slot while it holds a lock or waits for one, and whoever forks sets a mark of its own and waits
//! until there is no other.
//!
//! # Invariants
//!
//! 1. While `FORKER` names a thread, every other passes from no lock to its first only after that:
//!    [`enter`] waits.
//! 2. Of a thread that marks its slot and one that forks, each of which then looks for the other's
//!    mark, at least one sees it: by a barrier between the two, which the one that forks sends to
//!    all threads if it can.
//! 3. A signal handler may come between any two steps of a thread. It leaves the slot's mark as it
//!    was, and passes by a fork only where the thread that it interrupted holds a lock.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, compiler_fence};

use rustix::thread::{MembarrierCommand, membarrier};

use super::{slot, system, thread};
use crate::platform::{CpuId, MAX_CPUS};

/// The thread that copies the process, by the address of its `Thread`; 0 while none does.
static FORKER: AtomicUsize = AtomicUsize::new(0);

/// How many calls of [`quiesce`] are open inside that thread's outermost.
static NESTED_FORKS: AtomicUsize = AtomicUsize::new(0);

/// The mark of a slot: how many calls of [`enter`] its thread is in, those of signal handlers among
/// them. In a line of its own, since it is written by that thread alone.
#[repr(align(64))]
struct Inside(AtomicU32);

static INSIDE: [Inside; MAX_CPUS] = [const { Inside(AtomicU32::new(0)) }; MAX_CPUS];

/// Whether whoever forks sends barriers.
static HAS_BARRIERS: AtomicBool = AtomicBool::new(false);

/// Asks the system to let [`quiesce`] send a memory barrier to every thread. Called once, early;
/// where the system cannot, each thread pays for a barrier of its own whenever it uses a lock.
pub(super) fn prepare_barriers() {
    if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
        HAS_BARRIERS.store(true, Ordering::SeqCst);
    }
}

/// Has every thread pass a memory barrier; whether all have when this returns.
#[cold]
pub(super) fn send_barriers() -> bool {
    let sent = membarrier(MembarrierCommand::PrivateExpedited).or_else(|_| {
        // A process that was copied may have to ask anew.
        membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
        membarrier(MembarrierCommand::PrivateExpedited)
    });
    // The last is slow, and always there.
    sent.or_else(|_| membarrier(MembarrierCommand::Global)).is_ok()
}

/// Marks this thread as one that uses a lock of kmem, unless a fork is under way: then it waits
/// until that is over. Nests.
pub(super) fn enter() {
    slot::enter();
    let this = thread::this();
    let inside = inside_own();
    let entered = inside.load(Ordering::Relaxed) + 1;
    // Invariant 2.
    if HAS_BARRIERS.load(Ordering::Relaxed) {
        inside.store(entered, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    } else {
        inside.store(entered, Ordering::SeqCst);
    }
    if this.locks.get() == 0 && FORKER.load(Ordering::SeqCst) != 0 {
        wait_for_fork(inside);
    }
    this.locks.set(this.locks.get() + 1);
    // A handler that comes from here on finds that this thread may hold a lock.
    compiler_fence(Ordering::SeqCst);
}

/// Waits until no other thread copies the process. The one that does goes on: handlers of others
/// may allocate in between.
#[cold]
#[inline(never)]
fn wait_for_fork(inside: &AtomicU32) {
    while FORKER.load(Ordering::SeqCst) != 0 && !is_forking() {
        // Also of what this thread was about when it was interrupted, which is no lock.
        let entered = inside.swap(0, Ordering::Release);
        system::yield_now();
        inside.store(entered, Ordering::SeqCst);
    }
}

/// The mark of this thread's slot.
fn inside_own() -> &'static AtomicU32 {
    &INSIDE[usize::from(thread::slot()) % MAX_CPUS].0
}

/// Whether this thread is between [`quiesce`] and what ends it.
pub(super) fn is_forking() -> bool {
    FORKER.load(Ordering::Relaxed) == slot::token()
}

/// Undoes one [`enter`].
pub(super) fn leave() {
    let this = thread::this();
    compiler_fence(Ordering::SeqCst);
    this.locks.set(this.locks.get().saturating_sub(1));
    compiler_fence(Ordering::SeqCst);
    let inside = inside_own();
    // Release, for the look of who forks: what was done under the lock is done.
    inside.store(inside.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
    slot::leave();
}

/// Waits until no other thread uses a lock of kmem, and keeps it so until [`resume`] or
/// [`resume_alone`]. Nests.
pub(super) fn quiesce() {
    while !try_quiesce() {
        system::yield_now();
    }
}

/// How often a thread that forks lets others run before it gives up for now.
const YIELDS_TO_QUIESCE: usize = 1000;

/// As [`quiesce`]; `false`, and nothing has changed, if that would take long.
pub(super) fn try_quiesce() -> bool {
    if is_forking() {
        NESTED_FORKS.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    // If this thread shares its slot, none of the others with it is anywhere in kmem from here on.
    slot::enter();
    if FORKER.compare_exchange(0, slot::token(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
        // Another thread forks.
        slot::leave();
        return false;
    }
    if HAS_BARRIERS.load(Ordering::SeqCst) && !send_barriers() {
        // A sandbox that was entered later refuses them. What other processors have stored arrives
        // by itself meanwhile.
        system::nap();
    }
    // A handler that forks on top of an allocation has locks itself; nothing can be done about
    // those.
    let mut yields = 0;
    for inside in others() {
        while inside.load(Ordering::SeqCst) != 0 {
            if yields == YIELDS_TO_QUIESCE {
                resume();
                return false;
            }
            yields += 1;
            system::yield_now();
        }
    }
    true
}

/// Ends what [`quiesce`] began.
pub(super) fn resume() {
    let nested = NESTED_FORKS.load(Ordering::Relaxed);
    if let Some(fewer) = nested.checked_sub(1) {
        return NESTED_FORKS.store(fewer, Ordering::Relaxed);
    }
    FORKER.store(0, Ordering::SeqCst);
    slot::leave();
}

/// Ends what [`quiesce`] began, in a process that has only this thread: see [`slot::free_others`].
pub(super) fn resume_alone(abandon: impl Fn(CpuId)) {
    slot::free_others(abandon);
    others().for_each(|inside| inside.store(0, Ordering::Relaxed));
    resume();
}

/// The marks of the slots that another thread ever held.
fn others() -> impl Iterator<Item = &'static AtomicU32> {
    let own = slot::current();
    slot::ever_held().filter(move |&cpu| cpu != own).map(|cpu| &INSIDE[cpu.index()].0)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread::scope;

    use super::*;
    use crate::host::slot::tests::alone;

    fn is_marked() -> bool {
        inside_own().load(Ordering::SeqCst) != 0
    }

    #[test]
    fn a_thread_is_marked_until_it_leaves_its_outermost_lock() {
        let _alone = alone();
        enter();
        enter();
        leave();
        assert!(is_marked() && thread::is_locking());
        leave();
        assert!(!is_marked() && !thread::is_locking());
    }

    #[test]
    fn who_comes_to_a_lock_while_another_forks_waits_for_the_end_and_is_marked_then() {
        let _alone = alone();
        let has_come = AtomicBool::new(false);
        quiesce();
        let (is_over, is_marked) = scope(|scope| {
            let other = scope.spawn(|| {
                has_come.store(true, Ordering::SeqCst);
                enter();
                let state = (FORKER.load(Ordering::SeqCst) == 0, is_marked());
                leave();
                state
            });
            while !has_come.load(Ordering::SeqCst) {
                system::yield_now();
            }
            // The other gets so many chances to go on too early.
            (0..200).for_each(|_| system::yield_now());
            resume();
            other.join().expect("no panic")
        });
        assert!(is_over, "it did not wait");
        assert!(is_marked, "the next fork would not see it");
    }

    #[test]
    fn of_nested_forks_the_outermost_ends_it() {
        let _alone = alone();
        for _ in 0..2 {
            quiesce();
            assert!(try_quiesce());
            resume();
            assert!(is_forking());
            resume();
            assert!(!is_forking());
        }
    }

    #[test]
    fn a_fork_that_gives_up_since_another_holds_a_lock_keeps_nobody_waiting() {
        let _alone = alone();
        let barrier = Barrier::new(2);
        let (begun, is_forking) = scope(|scope| {
            scope.spawn(|| {
                enter();
                barrier.wait();
                barrier.wait();
                leave();
            });
            barrier.wait();
            let found = (try_quiesce(), is_forking());
            barrier.wait();
            found
        });
        assert!(!begun && !is_forking);
        quiesce();
        resume();
    }
}
