//! What a span needs by way of metadata, how it is set up, and how it grows.

use core::sync::atomic::AtomicU8;

use super::group::{CLUSTER_ORDER, GROUP_ORDER};
use super::states::touched;
use super::{Buddy, Group, LARGE_ORDERS, SMALL_ORDERS, SpanError, States};
use crate::bitmap::Bitmaps;
use crate::frame::FrameRange;

/// How much metadata a span needs: about 1.15 bytes a frame, or 0.028 % of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// State bytes: one for each frame of the span, holes included, and one for each 512 frames
    /// from a multiple of 512 on that the span touches.
    pub states: usize,
    /// Groups: one for each such 512 frames, and one for each 512 of these.
    pub groups: usize,
    /// Words of the summaries.
    pub words: usize,
}

impl Need {
    /// What a span over `cover` needs.
    pub const fn for_span(cover: FrameRange) -> Self {
        let groups = touched(cover, GROUP_ORDER);
        let clusters = touched(cover, CLUSTER_ORDER);
        let words = Bitmaps::<SMALL_ORDERS>::words_needed(groups)
            + Bitmaps::<LARGE_ORDERS>::words_needed(clusters);
        Self { states: States::needed(cover), groups: groups + clusters, words }
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
    /// One byte a frame, and one a group. Shared, because CPUs keep frames beside the span.
    pub states: &'m [AtomicU8],
    /// One group for 512 frames, and one for 512 of these.
    pub groups: &'m mut [Group],
    /// The words of the summaries.
    pub words: &'m mut [u64],
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
        let groups = touched(cover, GROUP_ORDER);
        let clusters = touched(cover, CLUSTER_ORDER);
        let words = Bitmaps::<SMALL_ORDERS>::words_needed(groups);
        let (small, large) = metadata.words.split_at_mut(words);
        let (groups_of_frames, clusters_of_groups) = metadata.groups.split_at_mut(groups);
        Ok(Self {
            cover,
            states: States::new(cover, metadata.states),
            groups: groups_of_frames,
            clusters: clusters_of_groups,
            small: Bitmaps::new(groups, small).unwrap_or_default(),
            large: Bitmaps::new(clusters, large).unwrap_or_default(),
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
        if need.groups > Bitmaps::<SMALL_ORDERS>::MAX_BITS {
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
        self.states.absorb(old.states);
        for (index, group) in old.groups.iter().enumerate() {
            // The groups at the ends may be shared with a span that was absorbed before.
            let at = old.group_start(index);
            if self.change_group(at, |new, _| new.merge(group)) && !group.is_whole() {
                self.give_large(at, GROUP_ORDER);
            }
        }
        for (index, cluster) in old.clusters.iter().enumerate() {
            for group in cluster.iter() {
                self.give_large(old.cluster_start(index) + (group << GROUP_ORDER), GROUP_ORDER);
            }
        }
        self.available += old.available;
        self.managed += old.managed;
    }
}
