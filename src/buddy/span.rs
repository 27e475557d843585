//! What a span needs by way of metadata, how it is set up, and how it grows.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::group::GROUP_ORDER;
use super::{Buddy, Group, SpanError};
use crate::bitmap::Bitmap;
use crate::frame::{FrameRange, Order};

/// How much metadata a span needs: about 1.17 bytes a frame, or 0.0285 % of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// State bytes: one for each frame of the span, holes included.
    pub states: usize,
    /// Groups: one for each 512 frames from a multiple of 512 on that the span touches.
    pub groups: usize,
    /// Words of the summaries.
    pub words: usize,
}

impl Need {
    /// What a span over `cover` needs.
    pub const fn for_span(cover: FrameRange) -> Self {
        let mut words = 0;
        let mut order = 0;
        while order < Order::COUNT {
            words += Bitmap::words_needed(summary_bits(cover, order as u32));
            order += 1;
        }
        Self { states: cover.frames(), groups: summary_bits(cover, GROUP_ORDER), words }
    }

    /// All of it, in bytes, without padding between the three parts.
    pub const fn bytes(&self) -> usize {
        self.states + self.groups * size_of::<Group>() + self.words * size_of::<u64>()
    }
}

/// The memory that a span keeps its books in: slices of exactly the lengths that
/// [`Need::for_span`] says, all zero.
#[derive(Debug)]
pub struct Metadata<'m> {
    /// One byte a frame. Shared, because CPUs keep frames beside the span.
    pub states: &'m [AtomicU8],
    /// One group for 512 frames.
    pub groups: &'m mut [Group],
    /// The words of the summaries.
    pub words: &'m mut [u64],
}

/// How many bits the summary of `order` has: one for each group below the order of a group, one for
/// each aligned block from there on.
const fn summary_bits(cover: FrameRange, order: u32) -> usize {
    if cover.is_empty() {
        return 0;
    }
    let shift = if order < GROUP_ORDER { GROUP_ORDER } else { order };
    let last = cover.end().number() - 1;
    (last >> shift) - (cover.start().number() >> shift) + 1
}

impl<'m> Buddy<'m> {
    /// A span over `cover` that consists of holes only. Its ends need no alignment.
    ///
    /// # Errors
    ///
    /// [`SpanError::Empty`] or [`SpanError::TooLarge`] for a span that cannot be,
    /// [`SpanError::MetadataTooSmall`] for slices of other lengths than [`Need::for_span`] says.
    pub fn new(cover: FrameRange, metadata: Metadata<'m>) -> Result<Self, SpanError> {
        Self::check(cover, &metadata)?;
        let mut rest = metadata.words;
        let free = core::array::from_fn(|order| {
            let bits = summary_bits(cover, order as u32);
            let (words, others) =
                core::mem::take(&mut rest).split_at_mut(Bitmap::words_needed(bits));
            rest = others;
            Bitmap::new(bits, words).unwrap_or_default()
        });
        Ok(Self {
            cover,
            states: metadata.states,
            groups: metadata.groups,
            free,
            nonempty: 0,
            available: 0,
            managed: 0,
        })
    }

    /// Whether a span can be set up over `cover` with `metadata`.
    fn check(cover: FrameRange, metadata: &Metadata<'_>) -> Result<(), SpanError> {
        if cover.is_empty() {
            return Err(SpanError::Empty);
        }
        let need = Need::for_span(cover);
        if need.groups > Bitmap::MAX_BITS {
            return Err(SpanError::TooLarge { frames: cover.frames() });
        }
        let given = Need {
            states: metadata.states.len(),
            groups: metadata.groups.len(),
            words: metadata.words.len(),
        };
        if given == need { Ok(()) } else { Err(SpanError::MetadataTooSmall { need }) }
    }

    /// The same content under a larger cover, with new metadata; the old metadata are no longer
    /// used. Linear in the size of the old span.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`SpanError::NotCovered`] if `cover` does not contain the whole
    /// of the old one. The span comes back unchanged.
    #[expect(clippy::result_large_err, reason = "the error gives the span back")]
    pub fn migrate<'n>(
        self,
        cover: FrameRange,
        metadata: Metadata<'n>,
    ) -> Result<Buddy<'n>, (Self, SpanError)> {
        if !cover.contains_range(self.cover) {
            let error = SpanError::NotCovered { old: self.cover, new: cover };
            return Err((self, error));
        }
        let mut new = match Buddy::new(cover, metadata) {
            Ok(new) => new,
            Err(error) => return Err((self, error)),
        };
        new.absorb(&self);
        Ok(new)
    }

    /// The content of this span and of `upper` in one, under a cover that contains both, with new
    /// metadata; the old metadata are no longer used. What lies between them is a hole. Linear in
    /// the size of the old spans.
    ///
    /// # Errors
    ///
    /// As [`migrate`](Self::migrate). Both spans come back unchanged.
    #[expect(clippy::result_large_err, reason = "the error gives the spans back")]
    pub fn join<'n>(
        self,
        upper: Self,
        cover: FrameRange,
        metadata: Metadata<'n>,
    ) -> Result<Buddy<'n>, (Self, Self, SpanError)> {
        let between = FrameRange::new(self.cover.end(), upper.cover.start());
        if between.is_none() || !cover.contains_range(upper.cover) {
            let error = SpanError::NotCovered { old: upper.cover, new: cover };
            return Err((self, upper, error));
        }
        match self.migrate(cover, metadata) {
            Ok(mut new) => {
                new.absorb(&upper);
                Ok(new)
            }
            Err((lower, error)) => Err((lower, upper, error)),
        }
    }

    /// Takes over the content of a span that this one covers, whose frames are all holes here.
    fn absorb(&mut self, old: &Buddy<'_>) {
        let lead = old.start() - self.start();
        for (to, from) in self.states[lead..].iter().zip(old.states) {
            to.store(from.load(Relaxed), Relaxed);
        }
        for (index, group) in old.groups.iter().enumerate() {
            // The groups at the ends may be shared with a span that was absorbed before.
            self.change_group(old.group_start(index), |new, _| new.merge(group));
        }
        for order in GROUP_ORDER..Order::COUNT as u32 {
            for index in old.free[order as usize].iter() {
                let at = old.block_at(order, index);
                self.mark(order, self.block_index(order, at));
            }
        }
        self.available += old.available;
        self.managed += old.managed;
    }
}
