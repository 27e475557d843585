//! A day of rising and falling load, and what becomes of memory in its course.

use std::alloc::Layout;
use std::f64::consts::TAU;
use std::ptr::NonNull;

use kmem::report::HeapMap;
use kmem::{AllocFlags, Frame, FrameRange, Heap, Order};

use super::machine::{self, Pages};

/// Memory of the machine.
const MEMORY_BYTES: usize = 64 << 20;
/// Samples of a day: one in six minutes.
pub(crate) const SAMPLES: usize = 240;
/// Allocations and frees between two of them.
const CALLS: usize = 400;
/// Cells of a map.
const CELLS: usize = 1024;
/// What a cell stands for.
pub(crate) const CELL_KIB: usize = (MEMORY_BYTES / CELLS) >> 10;
/// The order of a block of 2 MiB.
const HUGE: Order = Order::new(9).expect("an order");

/// What a frame is used for, by the characters of [`HeapMap`].
pub(crate) const USES: [char; 6] = ['R', 'F', 'S', 'H', 'c', '.'];

/// How memory is used at one time of the day.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Frames of each use, in the order of [`USES`].
    pub frames: [usize; USES.len()],
    /// Available frames in blocks that are too short for 2 MiB.
    pub broken_frames: usize,
}

/// What the day leaves to be drawn.
pub(crate) struct Day {
    pub samples: Vec<Sample>,
    /// Maps, each with the time it was made at.
    pub maps: Vec<(&'static str, String)>,
}

/// What somebody holds.
enum Piece {
    Frames(Frame, Order),
    Bytes(NonNull<u8>, Layout),
}

/// Marsaglia's xorshift, so that every day is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Two waves of load; one piece in fifty is kept for good, and in the evening all others are given
/// back.
pub(crate) fn day() -> Day {
    let (pages, heap) = machine::boot(MEMORY_BYTES);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut held, mut live_bytes) = (Vec::new(), 0);
    let (mut samples, mut maps) = (Vec::new(), Vec::new());
    for time in 0..SAMPLES {
        let wave = (1.0 - (2.0 * TAU * time as f64 / SAMPLES as f64).cos()) / 2.0;
        let wanted_bytes = (MEMORY_BYTES as f64 * (0.1 + 0.7 * wave)) as usize;
        for _ in 0..CALLS {
            if live_bytes < wanted_bytes {
                let is_kept = random.below(50) == 0;
                let Some((piece, bytes)) = take(pages, heap, &mut random, is_kept) else {
                    continue;
                };
                if !is_kept {
                    live_bytes += bytes;
                    held.push((piece, bytes));
                }
            } else if !held.is_empty() {
                let (piece, bytes) = held.swap_remove(random.below(held.len()));
                live_bytes -= bytes;
                give(pages, heap, piece);
            }
        }
        samples.push(sample(pages));
        if time == SAMPLES / 4 {
            maps.push(("at the height of the first wave", map(pages, CELLS)));
        }
    }
    held.into_iter().for_each(|(piece, _)| give(pages, heap, piece));
    heap.reclaim();
    pages.drain();
    samples.push(sample(pages));
    maps.push(("in the evening, when only what is kept for good is left", map(pages, CELLS)));
    pages.verify().expect("sound");
    heap.verify().expect("sound");
    Day { samples, maps }
}

/// A piece at random: most are objects, a fifth are frames, a few are long. Frames that will go
/// back are asked for as movable.
fn take(
    pages: &Pages,
    heap: &Heap<'_, Pages>,
    random: &mut Random,
    is_kept: bool,
) -> Option<(Piece, usize)> {
    let flags = if is_kept { AllocFlags::empty() } else { AllocFlags::MOVABLE };
    let bytes = match random.below(100) {
        0..20 => {
            let order = Order::new(random.below(3) as u8)?;
            let frame = pages.alloc(order, flags).ok()?;
            return Some((Piece::Frames(frame, order), order.len_bytes() as usize));
        }
        20 => (20 << 10) + random.below(200 << 10),
        _ => 16 + random.below(2000),
    };
    let layout = Layout::from_size_align(bytes, 8).ok()?;
    let block = heap.allocate(layout, AllocFlags::empty()).ok()?;
    Some((Piece::Bytes(block.cast(), layout), bytes))
}

fn give(pages: &Pages, heap: &Heap<'_, Pages>, piece: Piece) {
    match piece {
        Piece::Frames(frame, order) => pages.free(frame, order).expect("an allocated block"),
        Piece::Bytes(block, layout) => {
            // SAFETY: the heap has handed this block out for this layout, and nobody uses it any
            // more.
            unsafe { heap.deallocate(block, layout) }.expect("an allocated block");
        }
    }
}

/// All memory that the machine has.
fn cover(pages: &Pages) -> FrameRange {
    pages.zones().last().expect("a zone with memory").cover
}

fn map(pages: &Pages, cells: usize) -> String {
    HeapMap::new(pages, cover(pages), cells).to_string()
}

fn sample(pages: &Pages) -> Sample {
    // A cell a frame: none has several uses.
    let map = map(pages, cover(pages).frames());
    let frames = USES.map(|kind| cells(&map).flatten().filter(|&cell| cell == kind).count());
    let whole_frames: usize = pages
        .zones()
        .flat_map(|zone| {
            Order::all()
                .filter(|order| *order >= HUGE)
                .map(move |order| zone.available_blocks[order.index()] * order.frames())
        })
        .sum();
    let broken_frames = frames[USES.len() - 1].saturating_sub(whole_frames);
    Sample { frames, broken_frames }
}

/// The lines of a map's cells, without addresses and frame.
pub(crate) fn cells(map: &str) -> impl Iterator<Item = std::str::Chars<'_>> {
    map.lines().filter_map(|line| Some(line.split_once('|')?.1.rsplit_once('|')?.0.chars()))
}
