//! Many CPUs at once: no frame has two owners.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

const THREADS: usize = 4;
const STEPS: usize = 20_000;

/// Who holds each frame: 0 for nobody, or the number of a thread.
struct OwnerMap(Vec<AtomicUsize>);

impl OwnerMap {
    fn exchange(&self, range: FrameRange, from: usize, to: usize) {
        for frame in range.iter() {
            let found = self.0[frame.number()].swap(to, Ordering::Relaxed);
            assert_eq!(found, from, "{frame} changes hands from {from} to {to}");
        }
    }
}

#[test]
fn threads_share_zones_without_sharing_frames() {
    share_frames(SMALL);
}

#[test]
fn threads_with_lists_of_their_own_share_frames_no_more() {
    share_frames(InitOptions { cpu_lists: CpuLists::Keep, ..SMALL });
}

fn share_frames(options: InitOptions) {
    let (pages, _) = boot(0x800, &[usable(0x10, 0x800)], options);
    let before = pages.frames_available();
    let owners = OwnerMap((0..0x800).map(|_| AtomicUsize::new(0)).collect());
    let counts = AtomicUsize::new(0);
    let flags = [
        AllocFlags::empty(),
        AllocFlags::ZONE_DMA,
        AllocFlags::ZONE_DMA32,
        AllocFlags::ATOMIC,
        AllocFlags::MOVABLE,
        AllocFlags::NO_WAIT,
    ];
    thread::scope(|scope| {
        for me in 1..=THREADS {
            let (pages, owners, counts) = (&pages, &owners, &counts);
            scope.spawn(move || {
                let mut held: Vec<FrameRange> = Vec::new();
                let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(me as u64);
                for _ in 0..STEPS {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let draw = |shift: u32, below: usize| (state >> shift) as usize % below;
                    if draw(0, 5) < 3 {
                        let flags = flags[draw(8, flags.len())];
                        let taken = if draw(16, 2) == 0 {
                            // Orders above 6 as well: they span words.
                            let order = order(draw(24, 9) as u8);
                            let frame = pages.alloc(order, flags).ok();
                            frame.and_then(|frame| FrameRange::from_len(frame, order.frames()))
                        } else {
                            pages.alloc_exact(1 + draw(24, 40), flags).ok()
                        };
                        if let Some(range) = taken {
                            owners.exchange(range, 0, me);
                            held.push(range);
                            counts.fetch_add(1, Ordering::Relaxed);
                        }
                    } else if !held.is_empty() {
                        let range = held.swap_remove(draw(8, held.len()));
                        owners.exchange(range, me, 0);
                        pages.free_exact(range).expect("it is mine");
                    }
                    // Memory is short now and then.
                    while held.len() > 40 {
                        let range = held.swap_remove(0);
                        owners.exchange(range, me, 0);
                        pages.free_exact(range).expect("it is mine");
                    }
                }
                for range in held {
                    owners.exchange(range, me, 0);
                    pages.free_exact(range).expect("it is mine");
                }
                assert!(!crate::test_support::interrupts_masked());
            });
        }
        // Memory that comes and goes meanwhile, where it happens to be available.
        let pages = &pages;
        scope.spawn(move || {
            let mut away = 0;
            for step in 0..STEPS {
                let start = 0x20 + step * 0x25 % 0x700;
                let range = frames(start, start + 1 + step % 32);
                if pages.remove(range).is_ok() {
                    away += 1;
                    // SAFETY: it was just taken from there.
                    unsafe { pages.add(range) }.expect("it is a hole now");
                }
            }
            assert!(away > 0);
        });
    });
    assert!(counts.load(Ordering::Relaxed) > STEPS);
    assert!(pages.drain());
    assert_eq!(pages.frames_available(), before);
    pages.verify().unwrap();
    exhaust(&pages);
}
