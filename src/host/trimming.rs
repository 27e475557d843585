//! When memory that nobody uses goes back to the system: at once where there is much of it, after a while otherwise.
//!
//! There is no thread for this. Whoever frees pays for it, in proportion to what was freed.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;

use super::system;
use crate::frame::FRAME_SIZE;

/// Memory that nobody uses goes back at once when more than this has come since the last time, in bytes,
const MUCH_BYTES: usize = 16 << 20;

/// and more than this part of what is open:
const MUCH_PART: usize = 64;

/// so many frames side by side, or more.
const LEAST_RUN: usize = 16;

/// As [`LEAST_RUN`], for memory that has been kept for the trim delay.
pub(super) const LEAST_OLD_RUN: usize = 4;

/// Less than this is not given back by itself, in bytes.
const LEAST_TRIM_BYTES: usize = 512 << 10;

/// How long memory is kept that nobody uses, unless [`set_delay`](Trimming::set_delay) says otherwise.
const TRIM_DELAY_MS: u64 = 500;

/// When and how memory was given back.
pub(super) struct Trimming {
    /// Held meanwhile.
    lock: spin::Mutex<()>,
    /// When that was last, in milliseconds of the system's clock,
    trimmed_at: AtomicU64,
    /// and how many dirty frames it left.
    left_dirty: AtomicUsize,
    /// Much was left, in pieces.
    is_scattered: AtomicBool,
    delay_ms: AtomicU64,
}

impl Trimming {
    pub(super) const fn new() -> Self {
        Self {
            lock: spin::Mutex::new(()),
            trimmed_at: AtomicU64::new(0),
            left_dirty: AtomicUsize::new(0),
            is_scattered: AtomicBool::new(false),
            delay_ms: AtomicU64::new(TRIM_DELAY_MS),
        }
    }

    /// Lets the caller give memory back, unless another thread is at it.
    pub(super) fn try_begin(&self) -> Option<spin::MutexGuard<'_, ()>> {
        self.lock.try_lock()
    }

    /// Memory was given back, except that of so many dirty frames.
    pub(super) fn done(&self, left_dirty: usize, opened_bytes: usize) {
        self.left_dirty.store(left_dirty, Relaxed);
        self.trimmed_at.store(now(), Relaxed);
        if is_much(left_dirty * FRAME_SIZE, opened_bytes) {
            self.is_scattered.store(true, Relaxed);
        }
    }

    /// Whether what was left lay in pieces, and was much.
    #[inline]
    pub(super) fn is_scattered(&self) -> bool {
        self.is_scattered.load(Relaxed)
    }

    /// The same; after this not any more.
    pub(super) fn take_scattered(&self) -> bool {
        self.is_scattered.swap(false, Relaxed)
    }

    /// How long memory is kept.
    pub(super) fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis().min(u32::MAX as u128) as u64, Relaxed);
    }

    /// Whether memory should go back now that so many frames are dirty, and of how many side by side, at least: there is much of it
    /// that nobody uses, or some for long. Frames that lie alone among used ones stay: each would cost a system call and, soon, a fault.
    pub(super) fn due(&self, dirty: usize, opened_bytes: usize) -> Option<usize> {
        if dirty * FRAME_SIZE < LEAST_TRIM_BYTES {
            return None;
        }
        let new_bytes = dirty.saturating_sub(self.left_dirty.load(Relaxed)) * FRAME_SIZE;
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
        trimming.done(10 * MIB, 1 << 30);
        assert!(!trimming.is_scattered());
        assert_eq!(trimming.due(26 * MIB, 1 << 30), None);
        assert_eq!(trimming.due(27 * MIB, 1 << 30), Some(LEAST_RUN));
        trimming.done(17 * MIB, 1 << 30);
        assert!(trimming.take_scattered() && !trimming.is_scattered());
    }

    #[test]
    fn what_is_kept_for_long_goes_back_in_shorter_runs_but_not_a_little() {
        let trimming = Trimming::new();
        trimming.done(0, 0);
        trimming.set_delay(Duration::ZERO);
        assert_eq!(trimming.due(MIB, 1 << 30), Some(LEAST_OLD_RUN));
        assert_eq!(trimming.due(MIB / 4, 1 << 30), None);
    }
}
