//! Taking over the memory of a machine.

use core::cmp::Reverse;
use core::iter;
use core::sync::atomic::Ordering;

use super::error::InitError;
use super::frame_lists::FrameLists;
use super::options::{BootReport, Contents, CpuLists, InitOptions};
use super::owners::OwnerRecord;
use super::plan::{List, MAX_CARVES, SpanNeed, place, spans};
use super::raw::Carving;
use super::zone::{Choice, Depth, Layout, Span};
use super::{MAX_SPANS, PageAllocator, Setup, ZONES};
use crate::buddy::Buddy;
use crate::frame::{FRAME_SIZE, FrameRange};
use crate::memory_map::{MemoryMap, Region, RegionKind};
use crate::platform::{MAX_CPUS, Platform};

/// The spans of each zone, and where their metadata go.
struct Plan {
    covers: [List<MAX_SPANS>; ZONES],
    /// One piece for all spans, or one for each.
    carves: List<MAX_CARVES>,
}

/// The owner records of a span's frames, kept until nothing can fail any more.
type OwnerTable = (FrameRange, &'static mut [OwnerRecord]);

impl<P: Platform> PageAllocator<P> {
    /// Takes over the memory of a machine as a boot loader describes it, in any order and shape
    /// (see [`memory_map`](crate::memory_map)), with [`InitOptions::DEFAULT`].
    ///
    /// # Errors
    ///
    /// As [`init_with`](Self::init_with).
    ///
    /// # Safety
    ///
    /// As [`init_with`](Self::init_with).
    pub unsafe fn init<I>(&self, regions: I) -> Result<BootReport, InitError>
    where
        I: IntoIterator<Item = Region, IntoIter: Clone>,
    {
        // SAFETY: passed on to the caller.
        unsafe { self.init_with(regions, InitOptions::DEFAULT) }
    }

    /// Takes over the memory of a machine. O(n²) for n regions, and linear in the metadata.
    ///
    /// # Errors
    ///
    /// [`AlreadyInitialized`](InitError::AlreadyInitialized), [`NoMemory`](InitError::NoMemory),
    /// [`MetadataTooSmall`](InitError::MetadataTooSmall), also if nothing would be left to manage,
    /// [`Unmapped`](InitError::Unmapped), or [`Span`](InitError::Span) for a stretch of memory
    /// that is larger than a span can be. The allocator is as before, and another call may
    /// succeed.
    ///
    /// # Safety
    ///
    /// Every frame of which the map says that all of it is usable and none of it is anything else
    /// is mapped by the platform, belongs to nobody from now on, for good, and, if the options say
    /// so, is zero.
    pub unsafe fn init_with<I>(
        &self,
        regions: I,
        options: InitOptions,
    ) -> Result<BootReport, InitError>
    where
        I: IntoIterator<Item = Region, IntoIter: Clone>,
    {
        let regions = regions.into_iter();
        let mut report = None;
        self.setup.try_call_once(|| {
            let setup = Setup { zones: options.limits.zones(), options };
            // SAFETY: passed on to the caller; that this is the first time follows from `Once`.
            report = Some(unsafe { self.set_up(regions, &setup) }?);
            Ok(setup)
        })?;
        report.ok_or(InitError::AlreadyInitialized)
    }

    /// # Safety
    ///
    /// As [`init_with`](Self::init_with), and it has not succeeded before.
    unsafe fn set_up(
        &self,
        regions: impl Iterator<Item = Region> + Clone,
        setup: &Setup,
    ) -> Result<BootReport, InitError> {
        let map = MemoryMap::new(regions.clone());
        let plan = Plan::new(regions.clone(), setup)?;
        let mut report = BootReport {
            usable_frames: map.clone().frames(RegionKind::Usable),
            metadata_frames: plan.carves.as_slice().iter().copied().map(FrameRange::frames).sum(),
            carve_outs: plan.carves.as_slice().len(),
            void_regions: regions.filter(Region::is_void).count(),
            ..BootReport::default()
        };
        let mut tables: [Option<OwnerTable>; MAX_CARVES] = [const { None }; MAX_CARVES];
        // SAFETY: passed on to the caller.
        let built = unsafe { self.build(map, &plan, setup, &mut tables, &mut report) };
        if let Err(error) = built {
            self.zones.iter().for_each(|zone| zone.lock(&self.platform).clear());
            return Err(error);
        }
        let length =
            |table: &Option<OwnerTable>| table.as_ref().map_or(0, |(frames, _)| frames.frames());
        // The longest comes first: nearly every look-up ends there.
        tables.sort_unstable_by_key(|table| Reverse(length(table)));
        for (frames, records) in tables.into_iter().flatten() {
            // There are fewer spans than places for tables.
            let _fits = self.owners.push(frames, records);
        }
        if setup.options.cpu_lists == CpuLists::Keep {
            self.set_up_cpus(setup, &mut report);
        }
        let mut carved = self.growth.lock(&self.platform);
        for &carve in plan.carves.as_slice() {
            // There are fewer spans than places.
            let _fits = carved.push(carve);
        }
        drop(carved);
        self.note_populated();
        Ok(report)
    }

    /// Puts frame lists in front of the zones; memory so small that they would take more than they
    /// leave does without.
    fn set_up_cpus(&self, setup: &Setup, report: &mut BootReport) {
        let cpus = self.platform.cpu_count().min(MAX_CPUS);
        let frames = cpus.saturating_mul(size_of::<FrameLists>()).div_ceil(FRAME_SIZE);
        let mut zones = self.zones.iter().rev();
        let taken = zones.find_map(|zone| {
            let mut zone = zone.lock(&self.platform);
            let is_worth_it = zone.spare(Depth::Reserve, Choice::First) / 2 >= frames;
            is_worth_it.then(|| zone.take_reserved(frames)).flatten()
        });
        let Some(range) = taken else { return };
        // SAFETY: the frames were just reserved for this, so they are mapped and nobody else's.
        let carving = unsafe { Carving::new(&self.platform, range, Contents::Unknown) };
        let share = report.managed_frames / cpus.max(1);
        let lists = carving.and_then(|mut carving| carving.put(cpus, || FrameLists::new(share)));
        if let Some(lists) = lists {
            self.cpus.set(lists);
        }
        report.metadata_frames += range.frames();
        report.managed_frames -= range.frames();
        report.zone_frames[setup.zone_of(range.start())] -= range.frames();
        let _kept = self.growth.lock(&self.platform).push(range);
    }

    /// Lays out each span's metadata and fills the zones.
    ///
    /// # Safety
    ///
    /// As [`set_up`](Self::set_up), and the plan was made for this map.
    unsafe fn build(
        &self,
        map: MemoryMap<impl Iterator<Item = Region> + Clone>,
        plan: &Plan,
        setup: &Setup,
        tables: &mut [Option<OwnerTable>],
        report: &mut BootReport,
    ) -> Result<(), InitError> {
        let contents = setup.options.contents;
        // The carving that holds the current span's metadata, and those of later spans.
        let mut carving = None;
        let mut carves = plan.carves.as_slice().iter();
        let mut tables = tables.iter_mut();
        for (index, zone) in self.zones.iter().enumerate() {
            for &cover in plan.covers[index].as_slice() {
                let need = SpanNeed::new(cover, cover, setup.options.owners);
                if let Some(&frames) = carves.next() {
                    // SAFETY: the plan took these frames out of the usable ones, each once; the
                    // rest is passed on to the caller. Below they become reserved in their spans.
                    let fresh = unsafe { Carving::new(&self.platform, frames, contents) };
                    carving = Some(fresh.ok_or(InitError::Unmapped { frame: frames.start() })?);
                }
                let too_small = InitError::MetadataTooSmall { need: need.frames(), largest: 0 };
                let carving = carving.as_mut().ok_or(too_small)?;
                let Layout { metadata, place, records } =
                    Span::lay_out(&need, carving).ok_or(too_small)?;
                let buddy = Buddy::new(cover, metadata).map_err(InitError::Span)?;
                let mut span = Span { buddy, metadata: place };
                populate(&mut span.buddy, map.clone(), plan.carves.as_slice(), contents);
                report.buddy_bytes += need.buddy_bytes();
                report.owner_bytes += need.owner_bytes();
                report.spans += 1;
                report.managed_frames += span.buddy.frames_managed();
                report.zone_frames[index] += span.buddy.frames_managed();
                if let Some(table) = tables.next() {
                    *table = Some((cover, records));
                }
                let inserted = zone.lock(&self.platform).insert(span);
                debug_assert!(inserted, "planned spans are disjoint and few enough");
            }
        }
        Ok(())
    }

    /// Notes which zones have memory.
    pub(super) fn note_populated(&self) {
        for (index, zone) in self.zones.iter().enumerate() {
            let zone = zone.lock(&self.platform);
            // Relaxed: whether a zone has memory is only a hint; what counts is asked under its
            // lock.
            if zone.managed() > 0 {
                self.populated.fetch_or(1 << index, Ordering::Relaxed);
            } else {
                self.populated.fetch_and(!(1 << index), Ordering::Relaxed);
            }
        }
    }
}

/// Hands the memory of the span over, and reserves what is not usable.
///
/// `carves` are reserved too, but stay holes in memory that is said to be zero: a large provision's
/// metadata are mostly never touched, and no more need be the states of their own frames.
fn populate(
    buddy: &mut Buddy<'static>,
    map: MemoryMap<impl Iterator<Item = Region> + Clone>,
    carves: &[FrameRange],
    contents: Contents,
) {
    let cover = buddy.cover();
    // The map's ranges are disjoint and these lie in the span, so none of this can be refused.
    for range in map {
        let frames = range.frames.intersect(cover);
        let done = match range.kind {
            _ if frames.is_empty() => Ok(()),
            RegionKind::Usable => {
                let free = around(frames, carves);
                free.as_slice().iter().try_for_each(|&piece| buddy.add(piece))
            }
            _ => buddy.reserve(frames),
        };
        debug_assert!(done.is_ok(), "{frames}: {done:?}");
    }
    if contents == Contents::Zeroed {
        return;
    }
    for carve in carves.iter().map(|carve| carve.intersect(cover)) {
        let done = if carve.is_empty() { Ok(()) } else { buddy.reserve(carve) };
        debug_assert!(done.is_ok(), "{carve} was planned in usable memory: {done:?}");
    }
}

/// What `carves`, which lie apart, leave of `frames`.
fn around(frames: FrameRange, carves: &[FrameRange]) -> List<{ MAX_CARVES + 1 }> {
    let mut left = List::new();
    // Each of them leaves at most one piece more.
    let fits = left.push(frames) && carves.iter().all(|&carve| left.subtract(carve));
    debug_assert!(fits, "{} carves leave at most one piece more", carves.len());
    left
}

impl Plan {
    fn new(
        regions: impl Iterator<Item = Region> + Clone,
        setup: &Setup,
    ) -> Result<Self, InitError> {
        let usable = MemoryMap::new(regions.clone()).usable();
        if usable.clone().next().is_none() {
            return Err(InitError::NoMemory);
        }
        let provision = Region::from_frames(setup.options.provision, RegionKind::Usable);
        let covered = MemoryMap::new(regions.chain(iter::once(provision))).usable();
        let covers = setup.zones.map(|zone| {
            let parts = covered.clone().map(move |range| range.intersect(zone));
            spans(parts.filter(|part| !part.is_empty()))
        });
        let needs = || {
            let covers = covers.iter().flat_map(List::as_slice);
            covers.map(|&cover| SpanNeed::new(cover, cover, setup.options.owners))
        };
        let mut carves = List::new();
        let bytes = needs().fold(0, |sum: usize, need| sum.saturating_add(need.bytes()));
        let frames = bytes.div_ceil(FRAME_SIZE);
        match place(usable.clone(), &carves, frames) {
            Ok(carve) => {
                let _fits = carves.push(carve);
            }
            Err(_) => {
                for need in needs() {
                    let carve =
                        place(usable.clone(), &carves, need.frames()).map_err(|largest| {
                            InitError::MetadataTooSmall { need: need.frames(), largest }
                        })?;
                    let _fits = carves.push(carve);
                }
            }
        }
        let metadata: usize = carves.as_slice().iter().copied().map(FrameRange::frames).sum();
        if usable.clone().map(FrameRange::frames).sum::<usize>() <= metadata {
            let largest = usable.map(FrameRange::frames).max().unwrap_or(0);
            return Err(InitError::MetadataTooSmall { need: metadata + 1, largest });
        }
        Ok(Self { covers, carves })
    }
}
