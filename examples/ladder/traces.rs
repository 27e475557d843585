//! The sequences that the lectures follow step by step, run on the real thing.

use std::fmt::Write;
use std::sync::atomic::AtomicU8;

use kmem::arena::{Arena, Config, Fit, Segment, SegmentState};
use kmem::buddy::{BlockOwner, Buddy, FrameState, Group, Metadata, Need, Placement};
use kmem::{Frame, FrameRange, Order};

use super::managers::Manager;
use super::managers::chunks::Chunks;

const KIB: usize = 1024;
const FRAME_BYTES: usize = 4 * KIB;
/// The lecture's blocks are powers of two times this.
const BLOCK_BYTES: usize = 64 * KIB;
const SPAN_BYTES: usize = 1024 * KIB;

/// A block of the buddy example, of `2^power` times 64 KiB.
struct Block {
    /// In units of 64 KiB.
    start: usize,
    power: u32,
    is_allocated: bool,
    name: Option<char>,
}

/// Requests of 34, 66, 35 and 67 KiB in 1 MiB of 64 KiB blocks, and their frees, on kmem's buddy
/// allocator. One line a step: the blocks from the lowest address on, `2^k` times 64 KiB each.
pub(crate) fn buddy_blocks() -> String {
    let show = |block: &Block| {
        let size = format!("2^{}", block.power);
        block.name.map_or(size.clone(), |name| format!("{name}: {size}"))
    };
    let line = |(step, blocks): (String, Vec<Block>)| {
        let blocks: Vec<String> = blocks.iter().map(show).collect();
        format!("{step:<18}| {} |\n", blocks.join(" | "))
    };
    buddy_steps().into_iter().map(line).collect()
}

/// The same blocks as the fields of a buddy structure, one line a block.
///
/// | field | says |
/// | --- | --- |
/// | TAG | 1: allocated; 0: free |
/// | TYPE | whether the block is the left or the right buddy, then whether its parent is; `-`: it is no buddy |
/// | INDEX | the power of two that is its size |
///
/// kmem stores none but the first and the last, a byte a frame: the type follows from the address.
pub(crate) fn buddy_fields() -> String {
    let mut text = format!("{:<18}| at KiB | TAG | TYPE | INDEX |\n", "");
    for (step, blocks) in buddy_steps() {
        let mut step = step.as_str();
        for Block { start, power, is_allocated, name } in blocks {
            let (at, tag) = (start * BLOCK_BYTES / KIB, u8::from(is_allocated));
            let kind = [side(start, power), side(start, power + 1)];
            let kind = String::from_iter(kind);
            let name = name.map_or(String::new(), |name| format!(" {name}"));
            let _ =
                writeln!(text, "{step:<18}| {at:>6} | {tag:>3} | {kind:>4} | {power:>5} |{name}");
            step = "";
        }
    }
    text
}

/// Which buddy the block of that size is that `start` lies in.
fn side(start: usize, power: u32) -> char {
    match start >> power & 1 {
        _ if BLOCK_BYTES << power >= SPAN_BYTES => '-',
        0 => 'L',
        _ => 'R',
    }
}

/// What happens in the example, and the blocks after it, from the lowest address on.
fn buddy_steps() -> Vec<(String, Vec<Block>)> {
    let cover = Frame::new(0)
        .and_then(|start| FrameRange::from_len(start, SPAN_BYTES / FRAME_BYTES))
        .expect("1 MiB of frames");
    let need = Need::for_span(cover);
    let states: Vec<AtomicU8> = (0..need.states).map(|_| AtomicU8::new(0)).collect();
    let mut groups = vec![Group::EMPTY; need.groups];
    let mut words = vec![0; need.words];
    let metadata = Metadata { states: &states, groups: &mut groups, words: &mut words };
    let mut buddy = Buddy::new(cover, metadata).expect("metadata as needed");
    buddy.add(cover).expect("a span of holes");

    let order_for = |bytes: usize| {
        let frames = bytes.max(BLOCK_BYTES).next_power_of_two() / FRAME_BYTES;
        Order::new(frames.ilog2() as u8).expect("an order")
    };
    let mut named: Vec<(char, Frame, Order)> = Vec::new();
    let mut steps = vec![("1 MiB".to_owned(), blocks(&buddy, cover, &named))];
    for (name, kib) in [('A', 34), ('B', 66), ('C', 35), ('D', 67)] {
        let order = order_for(kib * KIB);
        let frame = buddy.alloc(order, BlockOwner::Caller, Placement::Low).expect("room");
        named.push((name, frame, order));
        steps.push((format!("{name} requests {kib} KiB"), blocks(&buddy, cover, &named)));
    }
    for freed in ['B', 'D', 'A', 'C'] {
        let at = named.iter().position(|&(name, ..)| name == freed).expect("an allocated block");
        let (_, frame, order) = named.remove(at);
        buddy.free(frame, order, BlockOwner::Caller).expect("an allocated block");
        steps.push((format!("{freed} is freed"), blocks(&buddy, cover, &named)));
    }
    steps
}

fn blocks(buddy: &Buddy<'_>, cover: FrameRange, named: &[(char, Frame, Order)]) -> Vec<Block> {
    let mut all = Vec::new();
    let mut start = 0;
    while start < SPAN_BYTES / BLOCK_BYTES {
        let at = cover.start().checked_add(start * BLOCK_BYTES / FRAME_BYTES).expect("in the span");
        let (is_allocated, order) = match buddy.lookup(at) {
            FrameState::Allocated { order, .. } => (true, order),
            FrameState::Available { order, .. } => (false, order),
            other => unreachable!("{other:?} in a span without holes"),
        };
        let name = named.iter().find(|(_, frame, _)| *frame == at).map(|&(name, ..)| name);
        let power = (order.frames() * FRAME_BYTES / BLOCK_BYTES).ilog2();
        all.push(Block { start, power, is_allocated, name });
        start += 1 << power;
    }
    all
}

/// The five mallocs of 3, 1, 4, 6 and 2 units with frees among them, under first fit. One line a
/// step: a letter for each unit in use, `.` for one that is not.
pub(crate) fn five_mallocs() -> String {
    const UNITS: u64 = 16;
    let mut pool = [Segment::SPARE; 20];
    let config = Config::new("units", 1, Fit::First);
    let mut arena = Arena::new(config, &mut pool).expect("a sound configuration");
    arena.add(0..UNITS).expect("an empty arena");

    let mut starts = [None; 6];
    let mut text = String::new();
    let steps = [(1, 3), (2, 1), (3, 4), (2, 0), (4, 6), (3, 0), (5, 2), (1, 0), (4, 0), (5, 0)];
    for (name, len) in steps {
        let step = match len {
            0 => {
                let start = starts[name].take().expect("allocated before");
                arena.free_at(start).expect("allocated before");
                format!("free(p{name})")
            }
            _ => {
                starts[name] = Some(arena.alloc(len).expect("room"));
                format!("p{name} = malloc({len})")
            }
        };
        let unit = |unit| {
            let segment = arena.lookup(unit).expect("a unit of the arena");
            let owner = starts.iter().position(|start| *start == Some(segment.range.start));
            match segment.state {
                SegmentState::Allocated => owner.map_or('?', |name| (b'0' + name as u8) as char),
                _ => '.',
            }
        };
        let map: String = (0..UNITS).map(unit).collect();
        let _ = writeln!(text, "{step:<16}{map}");
    }
    text
}

/// Five chunks of 8 to 64 bytes, viewed before and after they are freed in order. The listing is
/// as if the heap began at `base`.
pub(crate) fn five_chunks(base: usize) -> (String, String) {
    let mut chunks = Chunks::new();
    let payloads = [8, 16, 32, 48, 64].map(|len| chunks.malloc(len));
    let before = chunks.view_chunk(base);
    for at in payloads {
        chunks.free(at);
    }
    (before, chunks.view_chunk(base))
}
