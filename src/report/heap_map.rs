//! A map of memory: one character for each stretch of frames.

use core::fmt;

use crate::frame::{Frame, FrameRange};
use crate::page::{BlockOwner, FrameState, PageAllocator};
use crate::platform::Platform;

/// What a range of frames is used for, a character for each stretch of it.
///
/// | character | the stretch is |
/// | --- | --- |
/// | space | a hole |
/// | `R` | reserved |
/// | `.` | available |
/// | `c` | ready in a CPU's frame list |
/// | `F` | frames in a caller's hands |
/// | `S` | slabs |
/// | `H` | page runs of the heap |
/// | `:` | several of these, at least half of it available |
/// | `+` | several of these, less than half of it available |
/// | `!` | damaged: its records contradict each other |
///
/// It asks for each block once in each stretch; of holes and reserved memory for each frame.
pub struct HeapMap<'a, P: Platform> {
    pages: &'a PageAllocator<P>,
    range: FrameRange,
    frames_per_cell: usize,
}

const CELLS_PER_LINE: usize = 64;

impl<'a, P: Platform> HeapMap<'a, P> {
    /// A map of `range` with about `cells` characters, of which 64 stand on a line.
    pub fn new(pages: &'a PageAllocator<P>, range: FrameRange, cells: usize) -> Self {
        let frames_per_cell = range.frames().div_ceil(cells.max(1)).max(1);
        Self { pages, range, frames_per_cell }
    }

    /// The character of the stretch.
    fn cell(&self, stretch: FrameRange) -> char {
        let mut at = stretch.start();
        let mut first = None;
        let (mut mixed, mut available) = (false, 0);
        while at < stretch.end() {
            let (kind, behind) = self.piece(at);
            let piece = FrameRange::new(at, behind).unwrap_or(stretch).intersect(stretch);
            if kind == '.' {
                available += piece.frames();
            }
            mixed |= first.is_some_and(|first| first != kind);
            first = first.or(Some(kind));
            at = piece.end();
        }
        match first {
            Some(kind) if !mixed => kind,
            _ if available * 2 >= stretch.frames() => ':',
            _ => '+',
        }
    }

    /// What the frame is, and the first frame behind it that may be something else.
    fn piece(&self, at: Frame) -> (char, Frame) {
        let next = at.checked_add(1).unwrap_or(Frame::MAX);
        let behind = |head: Frame, frames| head.checked_add(frames).unwrap_or(Frame::MAX).max(next);
        match self.pages.lookup(at) {
            FrameState::OutOfRange | FrameState::Hole => (' ', next),
            FrameState::Reserved => ('R', next),
            FrameState::Available { head, order } => ('.', behind(head, order.frames())),
            FrameState::Cached { head, order } => ('c', behind(head, order.frames())),
            FrameState::Allocated { head, order, owner } => {
                (letter(owner), behind(head, order.frames()))
            }
            FrameState::Run { run, owner } => (letter(owner), run.end().max(next)),
            FrameState::Corrupted => ('!', next),
        }
    }
}

fn letter(owner: BlockOwner) -> char {
    match owner {
        BlockOwner::Caller => 'F',
        BlockOwner::Slab => 'S',
        BlockOwner::Heap => 'H',
    }
}

impl<P: Platform> fmt::Display for HeapMap<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.range;
        while !rest.is_empty() {
            write!(f, "{:>#014x} |", rest.start().start().as_u64())?;
            for _ in 0..CELLS_PER_LINE {
                let cut = rest.start().checked_add(self.frames_per_cell).unwrap_or(rest.end());
                let (stretch, behind) = rest.split_at(cut);
                if stretch.is_empty() {
                    break;
                }
                write!(f, "{}", self.cell(stretch))?;
                rest = behind;
            }
            writeln!(f, "|")?;
        }
        Ok(())
    }
}

impl<P: Platform> fmt::Debug for HeapMap<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
