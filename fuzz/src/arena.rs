//! Arena calls against a list of ranges.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use kmem::arena::{Arena, Config, ConfigError, Constraint, Fit, ResizeError, Segment};

/// One call; numbers pick among what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Call {
    Add { start: u16, len: u16 },
    Alloc { len: u16 },
    AllocConstrained { len: u16, align: u8, phase: u16, nocross: u8, min: u16, max: u16 },
    Free { nth: u8 },
    FreeAny { start: u16, len: u16 },
    DrainCaches,
    FreeAt { start: u16 },
    Resize { nth: u8, len: u16 },
    ResizeAny { start: u16, len: u16 },
    GrowPool,
}

const FITS: [Fit; 5] = [Fit::Instant, Fit::Best, Fit::First, Fit::Next, Fit::Worst];
const QUANTUM: u64 = 8;

/// The longest range.
const LONGEST: u16 = 2048;

/// Records of the arena: too few for the worst input, so that running out of them is met too; and
/// after the pool has grown.
const RECORDS: [usize; 2] = [200, 240];

struct Model<'m> {
    arena: Arena<'m>,
    /// The pool to grow to, once.
    larger: Option<&'m mut [Segment]>,
    added: Vec<bool>,
    taken: BTreeMap<u64, u64>,
}

impl Model<'_> {
    fn took(&mut self, start: u64, len: u64) {
        assert!(start.is_multiple_of(QUANTUM));
        let end = start + len.next_multiple_of(QUANTUM);
        if let Some((&before, &len)) = self.taken.range(..end).next_back() {
            assert!(before + len <= start, "{start} overlaps {before}");
        }
        for quantum in start / QUANTUM..end / QUANTUM {
            assert!(self.added[quantum as usize], "{quantum} was never added");
        }
        self.taken.insert(start, end - start);
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Add { start, len } => {
                let start = u64::from(start);
                let end = start + u64::from(len % LONGEST);
                if self.arena.add(start..end).is_ok() {
                    for quantum in start / QUANTUM..end / QUANTUM {
                        assert!(!self.added[quantum as usize], "{quantum} was added twice");
                        self.added[quantum as usize] = true;
                    }
                }
            }
            Call::Alloc { len } => {
                let len = u64::from(len % LONGEST);
                if let Ok(start) = self.arena.alloc(len) {
                    assert!(len > 0);
                    self.took(start, len);
                }
            }
            Call::AllocConstrained { len, align, phase, nocross, min, max } => {
                let len = u64::from(len % LONGEST);
                let align = 1 << (align % 12);
                let nocross = (nocross % 4 != 0).then(|| 1 << (nocross % 13));
                let (phase, min, max) = (u64::from(phase), u64::from(min), u64::from(max));
                let constraint = Constraint { align, phase, nocross, min, max };
                if let Ok(start) = self.arena.alloc_constrained(len, &constraint) {
                    let end = start + len.next_multiple_of(QUANTUM);
                    let offset = start.wrapping_sub(phase);
                    assert!(offset.is_multiple_of(align.max(QUANTUM)), "{constraint:?}");
                    assert!(start >= min && end <= max, "{constraint:?}");
                    assert!(nocross.is_none_or(|every| start / every == (end - 1) / every));
                    self.took(start, len);
                }
            }
            Call::Free { nth } => {
                let Some(start) = self.nth_taken(nth) else { return };
                let len = self.taken.remove(&start).expect("taken");
                self.arena.free(start, len).expect("allocated");
            }
            Call::FreeAny { start, len } => {
                let (start, len) = (u64::from(start), u64::from(len % LONGEST));
                let rounded = len.next_multiple_of(QUANTUM);
                let is_right = len > 0 && self.taken.get(&start) == Some(&rounded);
                assert_eq!(self.arena.free(start, len).is_ok(), is_right, "{start} {len}");
                if is_right {
                    self.taken.remove(&start);
                }
            }
            Call::DrainCaches => self.arena.drain_caches(),
            Call::FreeAt { start } => {
                let start = u64::from(start);
                assert_eq!(self.arena.free_at(start).ok(), self.taken.remove(&start), "{start}");
            }
            Call::Resize { nth, len } => {
                if let Some(start) = self.nth_taken(nth) {
                    self.resize(start, u64::from(len % LONGEST));
                }
            }
            Call::ResizeAny { start, len } => {
                self.resize(u64::from(start), u64::from(len % LONGEST));
            }
            Call::GrowPool => {
                if let Some(larger) = self.larger.take() {
                    let smaller = self.arena.grow_pool(larger).expect("it is larger");
                    assert_eq!(smaller.len(), RECORDS[0]);
                    let as_small = self.arena.grow_pool(smaller);
                    assert!(matches!(as_small, Err(ConfigError::PoolTooSmall { .. })));
                }
            }
        }
    }

    /// Where some range begins that is taken.
    fn nth_taken(&self, nth: u8) -> Option<u64> {
        let nth = usize::from(nth).checked_rem(self.taken.len())?;
        self.taken.keys().nth(nth).copied()
    }

    fn resize(&mut self, start: u64, len: u64) {
        let old = self.taken.get(&start).copied();
        match (self.arena.resize(start, len), old) {
            (Ok(len), Some(_)) => {
                self.taken.remove(&start);
                self.took(start, len);
            }
            (Err(ResizeError::Blocked { room }), Some(old)) => {
                assert!((old..len.next_multiple_of(QUANTUM)).contains(&room), "{room}");
            }
            (Err(ResizeError::NoSegments { .. }), Some(old)) => assert!(len < old),
            (Err(ResizeError::Alloc(_)), Some(_)) => assert_eq!(len, 0),
            (Err(ResizeError::Free(_)), None) => {}
            (answer, old) => panic!("{answer:?} for {start}, which has {old:?}, to have {len}"),
        }
    }
}

/// Makes the calls, under the policy that the first byte says, and in the end gives everything
/// back.
pub fn run(bytes: &[u8]) {
    let Some((&first, calls)) = bytes.split_first() else { return };
    let config = Config {
        cached_quanta: if first % 2 == 0 { 0 } else { 4 },
        ..Config::new("fuzzed", QUANTUM, FITS[usize::from(first / 2) % FITS.len()])
    };
    let (mut pool, mut larger) = ([Segment::SPARE; RECORDS[0]], [Segment::SPARE; RECORDS[1]]);
    let arena = Arena::new(config, &mut pool).expect("a good configuration");
    let added = vec![false; (usize::from(u16::MAX) + usize::from(LONGEST)) / QUANTUM as usize + 1];
    let mut model = Model { arena, larger: Some(&mut larger), added, taken: BTreeMap::new() };
    for call in super::decode(calls) {
        model.call(call);
        model.arena.verify().expect("sound after each call");
    }
    while !model.taken.is_empty() {
        model.call(Call::Free { nth: 0 });
    }
    model.arena.verify().expect("sound in the end");
}
