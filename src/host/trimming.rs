//! When memory that nobody uses goes back to the system: at once where there is much of it, after a
//! while otherwise.
//!
//! There is no thread for this. Whoever frees pays for it, in proportion to what was freed.
//!
//! An object that a thread has at hand may be the last of its slab, which stays for it and keeps
//! the frames around it apart. So when memory could not be given back for this, or much less is
//! used than once, magazines are to be emptied first: a **reclaim** is due. From then on until
//! frames are taken again is an **ebb**: less lies at hand, and smaller pieces go back. The next
//! may begin when the trim delay has passed since.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;

use super::system;
use crate::frame::FRAME_SIZE;

/// Memory that nobody uses goes back at once when more than this has come since the last time, in
/// bytes,
const MUCH_BYTES: usize = 16 << 20;

/// and more than this part of what is open:
const MUCH_PART: usize = 64;

/// so many frames side by side, or more.
const LEAST_RUN: usize = 16;

/// During an ebb this is enough, in bytes,
const MUCH_EBB_BYTES: usize = 4 << 20;

/// and each frame that lies alone goes back: they would be most of what stays.
const LEAST_EBB_RUN: usize = 1;

/// As [`LEAST_RUN`], for memory that has been kept for the trim delay.
const LEAST_OLD_RUN: usize = 4;

/// Less than this is not given back by itself, in bytes.
const LEAST_TRIM_BYTES: usize = 512 << 10;

/// How long memory is kept that nobody uses, unless [`set_delay`](Trimming::set_delay) says
/// otherwise.
const TRIM_DELAY_MS: u64 = 500;

/// When and how memory was given back.
pub(super) struct Trimming {
    /// Held meanwhile.
    lock: spin::Mutex<()>,
    /// When that was last, in milliseconds of the system's clock,
    trimmed_at: AtomicU64,
    /// and how many dirty frames it left.
    left_dirty: AtomicUsize,
    /// The most frames that were in use at such times since a reclaim became due for how few they
    /// were.
    most_used: AtomicUsize,
    /// How many frames side by side are given back after a reclaim, at least; 0 while none is due.
    least_after_reclaim: AtomicUsize,
    /// See the module's documentation.
    is_ebbing: AtomicBool,
    /// When the last ebb ended, in milliseconds of the system's clock, which may have begun with
    /// the machine; 0 if none has.
    rose_at: AtomicU64,
    delay_ms: AtomicU64,
}

impl Trimming {
    pub(super) const fn new() -> Self {
        Self {
            lock: spin::Mutex::new(()),
            trimmed_at: AtomicU64::new(0),
            left_dirty: AtomicUsize::new(0),
            most_used: AtomicUsize::new(0),
            least_after_reclaim: AtomicUsize::new(0),
            is_ebbing: AtomicBool::new(false),
            rose_at: AtomicU64::new(0),
            delay_ms: AtomicU64::new(TRIM_DELAY_MS),
        }
    }

    /// Lets the caller give memory back, unless another thread is at it.
    pub(super) fn try_begin(&self) -> Option<spin::MutexGuard<'_, ()>> {
        self.lock.try_lock()
    }

    /// Memory was given back, except that of so many dirty frames; of those that are open, so many
    /// are in use.
    pub(super) fn done(&self, left_dirty: usize, used: usize, opened_bytes: usize) {
        self.left_dirty.store(left_dirty, Relaxed);
        self.trimmed_at.store(now(), Relaxed);
        let most_used = self.most_used.fetch_max(used, Relaxed);
        let is_ebb = used <= most_used / 2 && (most_used - used) * FRAME_SIZE > MUCH_BYTES;
        if is_ebb {
            self.most_used.store(used, Relaxed);
        }
        let is_scattered = is_much(left_dirty * FRAME_SIZE, opened_bytes);
        let may_ebb = !self.rose_lately();
        if is_ebb && may_ebb || is_scattered {
            let is_most_idle = may_ebb && (is_ebb || left_dirty > used / 8);
            let least = if is_most_idle { LEAST_EBB_RUN } else { LEAST_OLD_RUN };
            self.least_after_reclaim.store(least, Relaxed);
            self.is_ebbing.store(may_ebb, Relaxed);
        }
    }

    /// Whether an ebb ended before the delay was over: in a program whose needs rise and fall the
    /// next soon would.
    fn rose_lately(&self) -> bool {
        let rose_at = self.rose_at.load(Relaxed);
        rose_at != 0 && now().saturating_sub(rose_at) < self.delay_ms.load(Relaxed)
    }

    /// Whether there is an ebb.
    #[inline]
    pub(super) fn is_ebbing(&self) -> bool {
        self.is_ebbing.load(Relaxed)
    }

    /// Frames were taken: no ebb.
    #[inline]
    pub(super) fn rises(&self) {
        if self.is_ebbing() {
            self.is_ebbing.store(false, Relaxed);
            self.rose_at.store(now(), Relaxed);
        }
    }

    /// Whether a reclaim is due.
    #[inline]
    pub(super) fn is_reclaim_due(&self) -> bool {
        self.least_after_reclaim.load(Relaxed) != 0
    }

    /// How many frames side by side are to be given back after the reclaim that is due, at least.
    /// After this none is.
    pub(super) fn take_reclaim(&self) -> Option<usize> {
        Some(self.least_after_reclaim.swap(0, Relaxed)).filter(|&least| least != 0)
    }

    /// How long memory is kept.
    pub(super) fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis().min(u32::MAX as u128) as u64, Relaxed);
    }

    /// Whether memory should go back now that so many frames are dirty, and of how many side by
    /// side, at least: there is much of it that nobody uses, or some for long. Frames that lie
    /// alone among used ones stay: each would cost a system call and, soon, a fault.
    pub(super) fn due(&self, dirty: usize, opened_bytes: usize) -> Option<usize> {
        if dirty * FRAME_SIZE < LEAST_TRIM_BYTES {
            return None;
        }
        let new_bytes = dirty.saturating_sub(self.left_dirty.load(Relaxed)) * FRAME_SIZE;
        if self.is_ebbing() && new_bytes > MUCH_EBB_BYTES {
            return Some(LEAST_EBB_RUN);
        }
        if is_much(new_bytes, opened_bytes) {
            return Some(LEAST_RUN);
        }
        self.is_delay_over().then_some(LEAST_OLD_RUN)
    }

    fn is_delay_over(&self) -> bool {
        let (now, trimmed_at) = (now(), self.trimmed_at.load(Relaxed));
        if trimmed_at == 0 {
            // The first time: the delay begins.
            self.trimmed_at.store(now, Relaxed);
            return false;
        }
        now.saturating_sub(trimmed_at) >= self.delay_ms.load(Relaxed)
    }
}

fn is_much(bytes: usize, opened_bytes: usize) -> bool {
    bytes > MUCH_BYTES.max(opened_bytes / MUCH_PART)
}

/// The time, in milliseconds of the system's clock.
fn now() -> u64 {
    system::now().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = (1 << 20) / FRAME_SIZE;

    #[test]
    fn much_goes_back_at_once_and_what_had_to_stay_is_not_tried_again_before_much_more_has_come() {
        let trimming = Trimming::new();
        trimming.set_delay(Duration::from_secs(3600));
        for (dirty, opened_bytes) in [(0, 1 << 20), (16 * MIB, 0), (30 * MIB, 2 << 30)] {
            assert_eq!(trimming.due(dirty, opened_bytes), None, "{dirty} of {opened_bytes}");
        }
        assert_eq!(trimming.due(17 * MIB, 1 << 30), Some(LEAST_RUN));
        assert_eq!(trimming.due(33 * MIB, 2 << 30), Some(LEAST_RUN));
        trimming.done(10 * MIB, 1000 * MIB, 1 << 30);
        assert!(!trimming.is_reclaim_due());
        assert_eq!(trimming.due(26 * MIB, 1 << 30), None);
        assert_eq!(trimming.due(27 * MIB, 1 << 30), Some(LEAST_RUN));
        trimming.done(17 * MIB, 1000 * MIB, 1 << 30);
        assert_eq!(trimming.take_reclaim(), Some(LEAST_OLD_RUN));
        assert!(!trimming.is_reclaim_due() && trimming.take_reclaim().is_none());
    }

    #[test]
    fn each_time_that_half_of_what_was_used_is_left_everything_idle_is_reclaimed() {
        let trimming = Trimming::new();
        let mut is_due = |used: usize| {
            trimming.done(0, used * MIB, 1 << 30);
            trimming.take_reclaim() == Some(LEAST_EBB_RUN)
        };
        let ebb = [1000, 501, 500, 400, 300, 251, 250, 300, 400, 201, 200, 100, 51, 50, 34, 26, 25];
        let due = ebb.into_iter().filter(|&used| is_due(used));
        assert!(due.eq([500, 250, 200, 100, 50, 25]));
        // Of little that is used, half is not worth it.
        assert!(![25, 12, 9].into_iter().any(&mut is_due) && is_due(8));
    }

    #[test]
    fn an_ebb_gives_less_and_smaller_pieces_back_until_frames_are_taken() {
        let trimming = Trimming::new();
        trimming.set_delay(Duration::from_secs(3600));
        trimming.done(0, 100 * MIB, 1 << 30);
        assert!(!trimming.is_ebbing());
        trimming.done(2 * MIB, 50 * MIB, 1 << 30);
        assert!(trimming.is_ebbing());
        assert_eq!(trimming.due(6 * MIB, 1 << 30), None);
        assert_eq!(trimming.due(7 * MIB, 1 << 30), Some(LEAST_EBB_RUN));
        trimming.rises();
        assert!(!trimming.is_ebbing());
        assert_eq!(trimming.due(7 * MIB, 1 << 30), None);
        // The next comes when the delay is over.
        trimming.done(2 * MIB, 20 * MIB, 1 << 30);
        assert!(!trimming.is_ebbing());
        trimming.set_delay(Duration::ZERO);
        trimming.done(2 * MIB, 2 * MIB, 1 << 30);
        assert!(trimming.is_ebbing());
    }

    #[test]
    fn scattered_frames_are_reclaimed_and_the_smallest_pieces_only_if_no_ebb_ended_just_now() {
        let trimming = Trimming::new();
        // Longer than the machine has run, which is what its clock says.
        trimming.set_delay(Duration::MAX);
        trimming.done(17 * MIB, 100 * MIB, 1 << 30);
        assert!(trimming.is_ebbing());
        assert_eq!(trimming.take_reclaim(), Some(LEAST_EBB_RUN));
        trimming.rises();
        trimming.done(17 * MIB, 100 * MIB, 1 << 30);
        assert!(!trimming.is_ebbing());
        assert_eq!(trimming.take_reclaim(), Some(LEAST_OLD_RUN));
        // Little beside what is used.
        let trimming = Trimming::new();
        trimming.done(17 * MIB, 137 * MIB, 1 << 30);
        assert_eq!(trimming.take_reclaim(), Some(LEAST_OLD_RUN));
    }

    #[test]
    fn the_delay_begins_when_there_is_something_to_give_back() {
        let trimming = Trimming::new();
        trimming.set_delay(Duration::ZERO);
        assert_eq!(trimming.due(LEAST_TRIM_BYTES / FRAME_SIZE - 1, 1 << 30), None);
        assert_eq!(trimming.due(LEAST_TRIM_BYTES / FRAME_SIZE, 1 << 30), None, "it begins");
        let due = trimming.due(LEAST_TRIM_BYTES / FRAME_SIZE, 1 << 30);
        assert_eq!(due, Some(LEAST_OLD_RUN));
    }

    #[test]
    fn what_is_kept_for_long_goes_back_in_shorter_runs_but_not_a_little() {
        let trimming = Trimming::new();
        trimming.done(0, 0, 0);
        trimming.set_delay(Duration::ZERO);
        assert_eq!(trimming.due(MIB, 1 << 30), Some(LEAST_OLD_RUN));
        assert_eq!(trimming.due(MIB / 4, 1 << 30), None);
    }
}
