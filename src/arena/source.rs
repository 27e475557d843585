//! Where an arena gets more from.

use core::ops::Range;

use super::Arena;

/// What a source answers when it does not take a span back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kept;

/// Something that hands out spans: another arena, the page layer, an operating system.
pub trait Source {
    /// A span of at least `len`, that overlaps nothing handed out before and not taken back, its
    /// ends multiples of the importing arena's quantum. A span that breaks these rules is given
    /// back unused.
    fn import(&mut self, len: u64) -> Option<Range<u64>>;

    /// Takes a span back that [`import`](Self::import) handed out and of which nothing is in use
    /// any more.
    ///
    /// # Errors
    ///
    /// [`Kept`] if the source will not or cannot: the span stays in the arena, available.
    fn release(&mut self, span: Range<u64>) -> Result<(), Kept>;
}

/// No source: the arena has what was added to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NoSource;

impl Source for NoSource {
    fn import(&mut self, _len: u64) -> Option<Range<u64>> {
        None
    }

    fn release(&mut self, _span: Range<u64>) -> Result<(), Kept> {
        Err(Kept)
    }
}

impl<S: Source> Source for Arena<'_, S> {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        let len = self.round_up(len).ok()?;
        let start = self.alloc(len).ok()?;
        Some(start..start + len)
    }

    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        self.free(span.start, span.end - span.start).map_err(|_| Kept)
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        (**self).import(len)
    }

    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        (**self).release(span)
    }
}

/// A source that several arenas share. Arenas form a tree, so their locks are taken from the
/// leaf towards the root only.
impl<S: Source> Source for &spin::Mutex<S> {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        self.lock().import(len)
    }

    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        self.lock().release(span)
    }
}
