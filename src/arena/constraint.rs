//! What a request may ask for beyond a length.

use core::ops::Range;

use super::error::AllocError;

/// Where a request may be placed. Start from [`Constraint::NONE`] and set what matters:
///
/// ```
/// use kmem::arena::Constraint;
///
/// // Below 16 MiB, aligned to 4 KiB, not across a multiple of 64 KiB: a buffer for ISA DMA.
/// let isa = Constraint { align: 4096, nocross: Some(65536), max: 1 << 24, ..Constraint::NONE };
/// # assert_eq!(isa.min, 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Constraint {
    /// The start minus [`phase`](Self::phase) is a multiple of this power of two. Below the
    /// quantum it asks for nothing.
    pub align: u64,
    /// How far above a multiple of [`align`](Self::align) the start lies: a multiple of the
    /// quantum, less than `align`.
    pub phase: u64,
    /// The range contains no multiple of this power of two except, perhaps, as its start.
    pub nocross: Option<u64>,
    /// The start is at least this.
    pub min: u64,
    /// The end is at most this.
    pub max: u64,
}

impl Constraint {
    /// Anywhere.
    pub const NONE: Self = Self { align: 1, phase: 0, nocross: None, min: 0, max: u64::MAX };

    /// The request for `len` (a multiple of the quantum) under this constraint.
    pub(super) fn request(&self, len: u64, quantum: u64) -> Result<Request, AllocError> {
        let align = self.align.max(quantum);
        if !align.is_power_of_two() {
            return Err(AllocError::BadAlignment { align: self.align });
        }
        if self.phase >= align || !self.phase.is_multiple_of(quantum) {
            return Err(AllocError::BadPhase { phase: self.phase, align });
        }
        let mut slack = align - quantum;
        if let Some(boundary) = self.nocross {
            // Starts differ from `phase` by multiples of `align`. If a range that begins as far
            // above a boundary as they at least do reaches the next one, then all do.
            let above = self.phase & boundary.wrapping_sub(1);
            let fits = boundary.is_power_of_two()
                && above.checked_add(len).is_some_and(|end| end <= boundary);
            if !fits {
                return Err(AllocError::BadBoundary { boundary, len });
            }
            slack = slack.saturating_mul(2).saturating_add(len - quantum);
        }
        let min = self.min.checked_next_multiple_of(quantum);
        let max = self.max - self.max % quantum;
        match min {
            Some(min) if min <= max && max - min >= len => Ok(Request {
                len,
                align,
                phase: self.phase,
                nocross: self.nocross,
                min,
                max,
                slack,
                windowed: self.min != 0 || self.max != u64::MAX,
            }),
            _ => Err(AllocError::BadWindow { min: self.min, max: self.max, len }),
        }
    }
}

impl Default for Constraint {
    fn default() -> Self {
        Self::NONE
    }
}

/// A checked request, in multiples of the quantum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) len: u64,
    align: u64,
    phase: u64,
    nocross: Option<u64>,
    pub(super) min: u64,
    pub(super) max: u64,
    /// A segment this much longer than `len` has room for the request wherever it starts.
    pub(super) slack: u64,
    /// Whether `min` or `max` were asked for.
    pub(super) windowed: bool,
}

impl Request {
    /// `len` anywhere.
    #[inline]
    pub(super) const fn anywhere(len: u64) -> Self {
        Self {
            len,
            align: 1,
            phase: 0,
            nocross: None,
            min: 0,
            max: u64::MAX,
            slack: 0,
            windowed: false,
        }
    }

    /// The same request, not below `min`.
    #[inline]
    pub(super) const fn not_below(mut self, min: u64) -> Self {
        if min > self.min {
            self.min = min;
        }
        self
    }

    /// Whether every available segment of `len` will do.
    #[inline]
    pub(super) const fn is_plain(&self) -> bool {
        self.slack == 0 && self.min == 0 && !self.windowed && self.nocross.is_none()
    }

    /// The lowest start in `segment` that meets the request.
    #[inline]
    pub(super) fn place_in(&self, segment: Range<u64>) -> Option<u64> {
        let end = segment.end.min(self.max);
        let mut start = self.aligned(segment.start.max(self.min))?;
        if let Some(boundary) = self.nocross
            && start.checked_add(self.len)? > (start | (boundary - 1)).saturating_add(1)
        {
            start = self.aligned((start | (boundary - 1)).checked_add(1)?)?;
        }
        (start.checked_add(self.len)? <= end).then_some(start)
    }

    /// The first aligned start at or above `from`.
    #[inline]
    fn aligned(&self, from: u64) -> Option<u64> {
        let up = self.phase.wrapping_sub(from) & (self.align - 1);
        from.checked_add(up)
    }
}
