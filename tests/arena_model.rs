//! Every fit of `arena` against a model that looks at every place for every request.
//!
//! The model knows spans and live segments, nothing else. What is available it works out anew each
//! time, and where a request goes it finds by trying every start. After each step the arena and
//! the model must agree on every segment, and `verify` must hold.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use kmem::arena::{
    AddError, AllocError, Arena, Config, ConfigError, Constraint, Fit, FreeError, Kept,
    ResizeError, Segment, SegmentInfo, SegmentState, Source,
};
use proptest::prelude::*;

const QUANTUM: u64 = 4;
/// All tests use integers below this.
const LIMIT: u64 = 1024;

// ---------------------------------------------------------------------------------------------
// The model
// ---------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    range: Range<u64>,
    imported: bool,
}

#[derive(Debug)]
struct Model {
    fit: Fit,
    /// Sorted; added spans that touch are one.
    spans: Vec<Span>,
    /// Start to length.
    live: BTreeMap<u64, u64>,
    cursor: u64,
}

impl Model {
    fn new(fit: Fit) -> Self {
        Self { fit, spans: Vec::new(), live: BTreeMap::new(), cursor: 0 }
    }

    fn add(&mut self, range: Range<u64>, imported: bool) {
        self.spans.push(Span { range, imported });
        self.spans.sort_by_key(|span| span.range.start);
        let mut joined: Vec<Span> = Vec::new();
        for span in self.spans.drain(..) {
            match joined.last_mut() {
                Some(last)
                    if !last.imported && !span.imported && last.range.end == span.range.start =>
                {
                    last.range.end = span.range.end;
                }
                _ => joined.push(span),
            }
        }
        self.spans = joined;
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let mut all = Vec::new();
        for span in &self.spans {
            let state =
                if span.imported { SegmentState::ImportedSpan } else { SegmentState::AddedSpan };
            all.push(SegmentInfo { range: span.range.start..span.range.start, state });
            let mut at = span.range.start;
            for (&start, &len) in self.live.range(span.range.clone()) {
                if at < start {
                    all.push(SegmentInfo { range: at..start, state: SegmentState::Available });
                }
                all.push(SegmentInfo { range: start..start + len, state: SegmentState::Allocated });
                at = start + len;
            }
            if at < span.range.end {
                all.push(SegmentInfo { range: at..span.range.end, state: SegmentState::Available });
            }
        }
        all
    }

    fn available(&self) -> Vec<Range<u64>> {
        let available = |segment: &SegmentInfo| segment.state == SegmentState::Available;
        self.segments().into_iter().filter(available).map(|segment| segment.range).collect()
    }

    fn available_len(&self) -> u64 {
        self.available().iter().map(|range| range.end - range.start).sum()
    }

    /// The start that the fit demands; `None` if the request fits nowhere.
    fn choose(&self, len: u64, constraint: &Constraint) -> Option<u64> {
        let placed = |range: &Range<u64>| {
            let len_of_range = range.end - range.start;
            Some((len_of_range, lowest_start(range, len, constraint, 0)?))
        };
        let candidates: Vec<(u64, u64)> = self.available().iter().filter_map(placed).collect();
        let longest = candidates.iter().map(|&(len, _)| len).max();
        let first = candidates.iter().map(|&(_, start)| start).min();
        match self.fit {
            Fit::First => first,
            Fit::Best => candidates.iter().min().map(|&(_, start)| start),
            Fit::Worst => candidates
                .iter()
                .filter(|&&(len, _)| Some(len) == longest)
                .map(|&(_, start)| start)
                .min(),
            Fit::Next => self
                .available()
                .iter()
                .filter_map(|range| lowest_start(range, len, constraint, self.cursor))
                .min()
                .or(first),
            Fit::Instant => unreachable!("instant fit has its own rule"),
        }
    }

    /// Whether `answer` keeps the rule of instant fit, for requests without constraint: from the
    /// lowest power of two whose segments are all long enough, and at the start of a segment.
    fn instant_allows(&self, len: u64, answer: Option<u64>) -> Result<(), String> {
        let class = |len: u64| len.ilog2();
        let available = self.available();
        let length = |range: &Range<u64>| range.end - range.start;
        let sure = len.next_power_of_two().ilog2();
        let lowest = available.iter().map(|r| class(length(r))).filter(|&c| c >= sure).min();
        match (answer, lowest) {
            (None, Some(class)) => Err(format!("refused, though class {class} has a segment")),
            (None, None) => {
                let fits = available.iter().filter(|r| length(r) >= len).count();
                let near = available.iter().filter(|r| class(length(r)) == class(len)).count();
                if fits > 0 && near <= 16 {
                    Err("refused, though within reach".into())
                } else {
                    Ok(())
                }
            }
            (Some(start), lowest) => {
                let from = available.iter().find(|range| range.start == start);
                let Some(from) = from else { return Err("not the start of a segment".into()) };
                match lowest {
                    Some(lowest) if class(length(from)) != lowest => {
                        Err(format!("class {}, expected {lowest}", class(length(from))))
                    }
                    _ if length(from) < len => Err("too short".into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What a wrong free at `start` must answer.
    fn diagnosis(&self, start: u64) -> FreeError {
        let hit = self.segments().into_iter().find(|segment| segment.range.contains(&start));
        match hit {
            None => FreeError::OutOfRange { start },
            Some(SegmentInfo { range, state: SegmentState::Allocated }) => {
                FreeError::NotAStart { start, allocated: range }
            }
            Some(SegmentInfo { range, .. }) => FreeError::NotAllocated { start, available: range },
        }
    }
}

/// The lowest start in `range`, at least `from`, that meets the constraint: by trial.
fn lowest_start(range: &Range<u64>, len: u64, c: &Constraint, from: u64) -> Option<u64> {
    (range.start..range.end).step_by(QUANTUM as usize).find(|&start| {
        let end = start + len;
        let align = c.align.max(QUANTUM);
        let crosses = |b: u64| start / b != (end - 1) / b;
        start >= from
            && end <= range.end
            && start % align == c.phase
            && c.nocross.is_none_or(|boundary| !crosses(boundary))
            && start >= c.min
            && end <= c.max
    })
}

// ---------------------------------------------------------------------------------------------
// A source that both sides can see
// ---------------------------------------------------------------------------------------------

/// Hands out pages of 64 in a scattered order; keeps those from `keeps_from` on.
#[derive(Debug, Default)]
struct Pages {
    spare: Vec<u64>,
    out: Vec<Range<u64>>,
    keeps_from: u64,
}

const PAGE: u64 = 64;

impl Pages {
    fn scattered() -> RefCell<Self> {
        let spare = [3, 9, 4, 5, 12, 1, 15, 8].map(|page| page * PAGE).to_vec();
        RefCell::new(Self { spare, out: Vec::new(), keeps_from: 8 * PAGE })
    }
}

struct Handle<'p>(&'p RefCell<Pages>);

impl Source for Handle<'_> {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        let mut pages = self.0.borrow_mut();
        if len > PAGE {
            return None;
        }
        let start = pages.spare.pop()?;
        pages.out.push(start..start + PAGE);
        Some(start..start + PAGE)
    }

    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        let mut pages = self.0.borrow_mut();
        if span.start >= pages.keeps_from {
            return Err(Kept);
        }
        pages.out.retain(|out| *out != span);
        pages.spare.push(span.start);
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------
// Steps
// ---------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        len: u64,
    },
    Constrained {
        len: u64,
        constraint: Constraint,
    },
    /// The n-th live segment, by its start and length or by its start alone.
    Free {
        nth: usize,
        sized: bool,
    },
    /// Any address and length.
    WrongFree {
        start: u64,
        len: u64,
    },
    /// The n-th live segment with another length.
    WrongLength {
        nth: usize,
        len: u64,
    },
    Add {
        range: Range<u64>,
    },
    /// The n-th live segment, to any length.
    Resize {
        nth: usize,
        len: u64,
    },
    /// A pool with so many records more.
    GrowPool {
        more: usize,
    },
}

fn constraints() -> impl Strategy<Value = Constraint> {
    let power = |below: u32| (0..below).prop_map(|log2| 1_u64 << log2);
    (
        power(8),
        0_u64..32,
        prop_oneof![Just(None), power(9).prop_map(Some)],
        prop_oneof![Just(0), 0..LIMIT],
        prop_oneof![Just(u64::MAX), 0..LIMIT],
    )
        .prop_map(|(align, phase, nocross, min, max)| Constraint {
            align,
            phase: phase * QUANTUM % align.max(QUANTUM),
            nocross,
            min,
            max,
        })
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1_u64..40, 2 => 40_u64..200, 1 => Just(0)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => lengths().prop_map(|len| Step::Alloc { len }),
        3 => (lengths(), constraints())
            .prop_map(|(len, constraint)| Step::Constrained { len, constraint }),
        7 => (any::<usize>(), any::<bool>()).prop_map(|(nth, sized)| Step::Free { nth, sized }),
        1 => (0..LIMIT, 0_u64..40).prop_map(|(start, len)| Step::WrongFree { start, len }),
        1 => (any::<usize>(), 0_u64..80).prop_map(|(nth, len)| Step::WrongLength { nth, len }),
        1 => (0..LIMIT / 16, 1_u64..9)
            .prop_map(|(start, len)| Step::Add { range: start * 16..(start + len) * 16 }),
        3 => (any::<usize>(), lengths()).prop_map(|(nth, len)| Step::Resize { nth, len }),
        1 => (0_usize..20).prop_map(|more| Step::GrowPool { more }),
    ];
    proptest::collection::vec(step, 1..160)
}

struct Pair<'m, 'p> {
    arena: Arena<'m, Handle<'p>>,
    model: Model,
    pages: &'p RefCell<Pages>,
}

impl Pair<'_, '_> {
    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Alloc { len } => {
                let answer = self.arena.alloc(len);
                self.check_alloc(len, &Constraint::NONE, answer)?;
            }
            Step::Constrained { len, constraint } => {
                let answer = self.arena.alloc_constrained(len, &constraint);
                self.check_alloc(len, &constraint, answer)?;
            }
            Step::Free { nth, sized } => {
                let Some((start, len)) = self.nth_live(nth) else { return Ok(()) };
                if sized {
                    prop_assert_eq!(self.arena.free(start, len), Ok(()));
                } else {
                    prop_assert_eq!(self.arena.free_at(start), Ok(len));
                }
                self.model.live.remove(&start);
                self.forget_returned_spans();
            }
            Step::WrongFree { start, len } => {
                if !self.model.live.contains_key(&start) {
                    let expected = self.model.diagnosis(start);
                    prop_assert_eq!(self.arena.free(start, len), Err(expected.clone()));
                    prop_assert_eq!(self.arena.free_at(start), Err(expected));
                }
            }
            Step::WrongLength { nth, len } => {
                let Some((start, real)) = self.nth_live(nth) else { return Ok(()) };
                if len.next_multiple_of(QUANTUM) != real {
                    let allocated = start..start + real;
                    let expected = FreeError::WrongLength { allocated, given: len };
                    prop_assert_eq!(self.arena.free(start, len), Err(expected));
                }
            }
            Step::Resize { nth, len } => self.resize(nth, len)?,
            Step::GrowPool { more } => self.grow_pool(more)?,
            Step::Add { range } => {
                let hits = |other: &Range<u64>| {
                    !other.is_empty() && other.start < range.end && range.start < other.end
                };
                let spans = &self.model.spans;
                let managed = spans.iter().any(|span| hits(&span.range));
                // Pages that the source may still hand out must stay out of the arena.
                let promised = |&page: &u64| hits(&(page..page + PAGE));
                if self.pages.borrow().spare.iter().any(promised) {
                    return Ok(());
                }
                let answer = self.arena.add(range.clone());
                if managed {
                    let segments = self.model.segments();
                    let with = segments.into_iter().map(|s| s.range).find(hits).unwrap();
                    prop_assert_eq!(answer, Err(AddError::Overlap { range, with }));
                } else {
                    prop_assert_eq!(answer, Ok(()));
                    self.model.add(range, false);
                }
            }
        }
        prop_assert_eq!(self.arena.verify(), Ok(()));
        prop_assert_eq!(self.arena.segments().collect::<Vec<_>>(), self.model.segments());
        Ok(())
    }

    fn resize(&mut self, nth: usize, len: u64) -> Result<(), TestCaseError> {
        let Some((start, old)) = self.nth_live(nth) else { return Ok(()) };
        let rounded = len.next_multiple_of(QUANTUM);
        let end_of_span =
            self.model.spans.iter().find(|span| span.range.contains(&start)).unwrap().range.end;
        let behind = self
            .model
            .available()
            .into_iter()
            .find(|range| range.start == start + old && range.end <= end_of_span);
        let room = behind.map_or(start + old, |range| range.end) - start;
        let answer = self.arena.resize(start, len);
        if len == 0 {
            prop_assert_eq!(answer, Err(ResizeError::Alloc(AllocError::ZeroLength)));
        } else if rounded > room {
            prop_assert_eq!(answer, Err(ResizeError::Blocked { room }));
        } else {
            prop_assert_eq!(answer, Ok(rounded));
            self.model.live.insert(start, rounded);
        }
        Ok(())
    }

    fn grow_pool(&mut self, more: usize) -> Result<(), TestCaseError> {
        let (used, before) = self.arena.segments_used();
        // Not given back: each lasts as long as the arena, and the test is short.
        let larger = vec![Segment::SPARE; before + more].leak();
        match self.arena.grow_pool(larger) {
            Ok(smaller) => prop_assert!(more > 0 && smaller.len() == before),
            Err(error) => {
                prop_assert_eq!(more, 0);
                let (given, need) = (before, before + 1);
                prop_assert_eq!(error, ConfigError::PoolTooSmall { given, need });
            }
        }
        prop_assert_eq!(self.arena.segments_used(), (used, before + more));
        Ok(())
    }

    fn nth_live(&self, nth: usize) -> Option<(u64, u64)> {
        let live = &self.model.live;
        live.iter().nth(nth.checked_rem(live.len())?).map(|(&start, &len)| (start, len))
    }

    fn check_alloc(
        &mut self,
        len: u64,
        constraint: &Constraint,
        answer: Result<u64, AllocError>,
    ) -> Result<(), TestCaseError> {
        let rounded = len.next_multiple_of(QUANTUM);
        let before = self.model.available_len();
        let span = self.newly_imported();
        let instant = self.model.fit == Fit::Instant;
        let plain = *constraint == Constraint::NONE;
        let found = answer.ok();
        let imported = span.is_some();
        if len > 0 && instant && plain {
            let choice = if imported { None } else { found };
            let verdict = self.model.instant_allows(rounded, choice);
            prop_assert!(verdict.is_ok(), "{len}: {verdict:?}");
        } else if len > 0 && !instant {
            let expected = self.model.choose(rounded, constraint);
            let choice = if imported { None } else { found };
            prop_assert_eq!(choice, expected, "{:?} for {} {:?}", self.model.fit, len, constraint);
        }
        if let Some(span) = span {
            prop_assert!(found.is_some(), "imported for nothing");
            self.model.add(span, true);
        }
        match answer {
            Ok(start) => {
                prop_assert!(len > 0);
                let range = self.model.available().into_iter().find(|r| r.contains(&start));
                let in_it = |r: &Range<u64>| {
                    lowest_start(r, rounded, constraint, 0).is_some_and(|lowest| {
                        lowest == start || (self.model.fit == Fit::Next && !imported)
                    })
                };
                prop_assert!(range.as_ref().is_some_and(in_it), "{start:#x} in {range:?}");
                self.model.live.insert(start, rounded);
                self.model.cursor = start + rounded;
            }
            Err(AllocError::ZeroLength) => prop_assert_eq!(len, 0),
            Err(AllocError::Exhausted { available, .. }) => {
                prop_assert!(available == before && available < rounded);
            }
            Err(AllocError::Fragmented { available, .. }) => {
                prop_assert!(available == before && available >= rounded);
                // Instant fit may pass over a segment, but not when it searches for a constraint.
                if instant && !plain {
                    let nowhere =
                        |r: &Range<u64>| lowest_start(r, rounded, constraint, 0).is_none();
                    prop_assert!(self.model.available().iter().all(nowhere));
                }
            }
            Err(AllocError::BadBoundary { .. } | AllocError::BadWindow { .. }) => {
                let everything = 0..4 * LIMIT;
                prop_assert_eq!(lowest_start(&everything, rounded, constraint, 0), None);
            }
            Err(other) => prop_assert!(false, "unexpected {other:?}"),
        }
        Ok(())
    }

    /// A span that the source has handed out and the model does not know.
    fn newly_imported(&self) -> Option<Range<u64>> {
        let known = |range: &Range<u64>| self.model.spans.iter().any(|span| span.range == *range);
        self.pages.borrow().out.iter().find(|range| !known(range)).cloned()
    }

    /// Imported spans that the model knows and the source has taken back. Each must have been
    /// wholly available; each that is, and that the source takes, must have gone.
    fn forget_returned_spans(&mut self) {
        let live = &self.model.live;
        let empty = |range: &Range<u64>| live.range(range.clone()).next().is_none();
        let keeps_from = self.pages.borrow().keeps_from;
        self.model
            .spans
            .retain(|span| !(span.imported && empty(&span.range) && span.range.start < keeps_from));
        let known = self.model.spans.iter().filter(|span| span.imported).count();
        assert_eq!(self.pages.borrow().out.len(), known, "spans that went back");
    }
}

fn agree(fit: Fit, steps: Vec<Step>, with_source: bool) -> Result<(), TestCaseError> {
    let mut pool = [Segment::SPARE; 300];
    let pages = if with_source { Pages::scattered() } else { RefCell::default() };
    let config = Config::new("model", QUANTUM, fit);
    let arena = Arena::with_source(config, &mut pool, Handle(&pages)).unwrap();
    let mut pair = Pair { arena, model: Model::new(fit), pages: &pages };
    pair.run(Step::Add { range: 0x80..0xc0 })?;
    if !with_source {
        pair.run(Step::Add { range: 0xc0..0x1f0 })?;
    }
    steps.into_iter().try_for_each(|step| pair.run(step))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn best_fit_takes_the_shortest_and_lowest(steps in steps(), with_source in any::<bool>()) {
        agree(Fit::Best, steps, with_source)?;
    }

    #[test]
    fn first_fit_takes_the_lowest(steps in steps(), with_source in any::<bool>()) {
        agree(Fit::First, steps, with_source)?;
    }

    #[test]
    fn next_fit_goes_on_from_the_last_allocation(steps in steps(), with_source in any::<bool>()) {
        agree(Fit::Next, steps, with_source)?;
    }

    #[test]
    fn worst_fit_takes_the_longest_and_lowest(steps in steps(), with_source in any::<bool>()) {
        agree(Fit::Worst, steps, with_source)?;
    }

    #[test]
    fn instant_fit_takes_the_lowest_sure_power(steps in steps(), with_source in any::<bool>()) {
        agree(Fit::Instant, steps, with_source)?;
    }
}

/// Quantum caches may answer with any segment of the length that was given back, so the model
/// only says what must hold of every answer; once drained, the arena must look as if there had
/// been no caches.
fn cached_agrees(fit: Fit, cached_quanta: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut pool = [Segment::SPARE; 300];
    let config = Config { cached_quanta, ..Config::new("cached", QUANTUM, fit) };
    let mut arena = Arena::new(config, &mut pool).unwrap();
    let mut model = Model::new(fit);
    arena.add(0x80..0x140).unwrap();
    model.add(0x80..0x140, false);
    for step in steps {
        match step {
            Step::Alloc { len } if len > 0 => {
                let rounded = len.next_multiple_of(QUANTUM);
                match arena.alloc(len) {
                    Ok(start) => {
                        let range = start..start + rounded;
                        let inside = |r: &Range<u64>| r.start <= range.start && range.end <= r.end;
                        prop_assert!(model.available().iter().any(inside));
                        model.live.insert(start, rounded);
                    }
                    Err(_) if fit == Fit::Instant => {
                        model.instant_allows(rounded, None).map_err(TestCaseError::fail)?;
                    }
                    Err(_) => prop_assert_eq!(model.choose(rounded, &Constraint::NONE), None),
                }
            }
            Step::Free { nth, sized: _ } => {
                let live = &model.live;
                let Some(nth) = nth.checked_rem(live.len()) else { continue };
                let (&start, &len) = live.iter().nth(nth).unwrap();
                prop_assert_eq!(arena.free(start, len), Ok(()));
                let again = arena.free(start, len);
                prop_assert!(matches!(again, Err(FreeError::NotAllocated { .. })), "{again:?}");
                model.live.remove(&start);
            }
            Step::Resize { nth, len } if len > 0 => {
                let Some(nth) = nth.checked_rem(model.live.len()) else { continue };
                let (&start, &old) = model.live.iter().nth(nth).unwrap();
                let behind = model.available().into_iter().find(|range| range.start == start + old);
                let room = behind.map_or(start + old, |range| range.end) - start;
                let rounded = len.next_multiple_of(QUANTUM);
                let answer = arena.resize(start, len);
                if rounded > room {
                    prop_assert_eq!(answer, Err(ResizeError::Blocked { room }));
                } else {
                    prop_assert_eq!(answer, Ok(rounded));
                    model.live.insert(start, rounded);
                }
            }
            Step::GrowPool { more } => {
                let records = arena.segments_used().1 + more + 1;
                prop_assert!(arena.grow_pool(vec![Segment::SPARE; records].leak()).is_ok());
            }
            Step::WrongFree { .. } => {
                arena.drain_caches();
                prop_assert_eq!(arena.segments().collect::<Vec<_>>(), model.segments());
            }
            _ => {}
        }
        prop_assert_eq!(arena.verify(), Ok(()));
        prop_assert_eq!(arena.stats().allocated, model.live.values().sum::<u64>());
        let kept = arena.stats().available + arena.stats().cached;
        prop_assert_eq!(kept, model.available_len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantum_caches_keep_segments_whole_and_lose_none(
        fit in proptest::sample::select(&[Fit::Instant, Fit::Best, Fit::First, Fit::Next, Fit::Worst]),
        cached_quanta in 1_usize..=16,
        steps in steps(),
    ) {
        cached_agrees(fit, cached_quanta, steps)?;
    }
}
