//! A boot loader's memory map, however untidy, as sorted, disjoint, typed ranges of frames.
//!
//! A [`MemoryMap`] is an iterator over any `Clone` iterator of [`Region`]s. It needs no heap and
//! no buffer, so it has no limit on the number of entries: it sweeps over the edges of
//! the regions in ascending order, and asks all of them at each edge.
//!
//! # Invariants
//!
//! 1. Ranges come in ascending order, are not empty and share no frame.
//! 2. Two ranges of one kind never touch: they would be one.
//! 3. A frame is usable exactly if *every byte* of it is in a usable region and *no byte* of it in
//!    a region of another kind. So usable memory is rounded inwards and everything else outwards.
//! 4. A frame that several other kinds reach into is of the strongest of them, by the order of
//!    [`RegionKind`].
//!
//! By the third rule a frame whose halves lie in two usable regions is usable: loaders cut regions
//! where *they* change hands, not where the memory does, and each byte is vouched for.
//!
//! # Entries that cannot be true
//!
//! In doubt memory is not used. An empty region says nothing. A region that ends before it starts
//! says nothing either: it may be swapped, wrapped or inclusive by mistake, and each reading would
//! claim other memory. A length that runs past the end of the address space is cut off there if it
//! takes memory away, and void if it would make memory usable ([`Region::from_len`]).
//!
//! # How it works
//!
//! Let the *edges* be the numbers of the frames in which regions begin and end, each rounded both
//! ways. Between two neighbouring edges all frames are alike, so it is enough to classify the first
//! of them. With n regions, that and finding the next edge are O(n); a frame on whose inside usable
//! regions meet needs as many passes as it has such seams. The whole sweep is O(n²), at boot, for n
//! in the hundreds.
//!
//! # Rejected
//!
//! Sorting into a fixed buffer: every size of buffer is too small for some firmware, and a map cut
//! short loses reserved entries as readily as others. Linux's memblock starts with a static array
//! of 128 and doubles it by allocating from itself, while it is being built.
//!
//! Sources: Linux `mm/memblock.c` and `arch/x86/kernel/e820.c` (what firmware reports); J. F.
//! Allen, "Maintaining knowledge about temporal intervals", 1983 (the thirteen relations of two
//! intervals).

#![forbid(unsafe_code)]

use core::fmt;

use crate::frame::{Frame, FrameRange, PhysAddr};

/// What a region of memory is, weakest first: where regions overlap, the stronger kind wins.
///
/// The order asks when the memory could be used at all: now, after booting, after reading tables,
/// after the kernel itself, never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RegionKind {
    /// Free for use.
    Usable,
    /// The boot loader's: free once the kernel has read what it left there.
    Bootloader,
    /// ACPI tables: free once the kernel has read them.
    AcpiReclaimable,
    /// The kernel's image, modules, stacks.
    Kernel,
    /// Kept by the firmware across sleep.
    AcpiNvs,
    /// Somebody else's, or not memory.
    Reserved,
    /// Memory that has failed.
    Bad,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Usable => "usable",
            Self::Bootloader => "boot loader",
            Self::AcpiReclaimable => "ACPI reclaimable",
            Self::Kernel => "kernel",
            Self::AcpiNvs => "ACPI NVS",
            Self::Reserved => "reserved",
            Self::Bad => "bad",
        })
    }
}

/// One entry of a memory map as the boot loader states it, not trusted in any way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// The first byte.
    pub start: PhysAddr,
    /// The byte behind the last one.
    pub end: PhysAddr,
    /// What the memory is said to be.
    pub kind: RegionKind,
}

impl Region {
    /// The bytes from `start` up to, not including, `end`.
    pub const fn new(start: PhysAddr, end: PhysAddr, kind: RegionKind) -> Self {
        Self { start, end, kind }
    }

    /// The `len_bytes` bytes from `start` on. Where they run past the end of the address space,
    /// usable memory is void and any other kind ends there.
    pub const fn from_len(start: PhysAddr, len_bytes: u64, kind: RegionKind) -> Self {
        let end = match (start.checked_add(len_bytes), kind) {
            (Some(end), _) => end,
            (None, RegionKind::Usable) => start,
            (None, _) => PhysAddr::MAX,
        };
        Self { start, end, kind }
    }

    /// The whole of `frames`.
    pub const fn from_frames(frames: FrameRange, kind: RegionKind) -> Self {
        Self { start: frames.start().start(), end: frames.end().start(), kind }
    }

    /// Whether the region says nothing: it has no byte, or ends before it starts.
    pub const fn is_void(&self) -> bool {
        self.end.as_u64() <= self.start.as_u64()
    }
}

/// Frames of one kind: what a [`MemoryMap`] yields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TypedRange {
    /// The frames.
    pub frames: FrameRange,
    /// What they are.
    pub kind: RegionKind,
}

/// The tidy view of an untidy map: an iterator over its [`TypedRange`]s. See the module's
/// documentation.
///
/// The last frame of the 64-bit address space is in no range: no [`FrameRange`] can end behind it.
///
/// ```
/// use kmem::memory_map::{MemoryMap, Region, RegionKind};
/// use kmem::{Frame, FrameRange, PhysAddr};
///
/// let region = |start, end, kind| Region::new(PhysAddr::new(start), PhysAddr::new(end), kind);
/// let map = [
///     region(0x4000, 0x5800, RegionKind::Kernel),
///     region(0x1000, 0x9000, RegionKind::Usable),
/// ];
/// let frames = |start, end| FrameRange::new(Frame::new(start)?, Frame::new(end)?);
/// // The kernel's second frame is its own, though it fills only half of it.
/// assert!(MemoryMap::new(map).usable().eq([frames(1, 4), frames(6, 9)].into_iter().flatten()));
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct MemoryMap<I> {
    regions: I,
    /// Where the next range is looked for: everything below has been dealt with.
    at: Frame,
}

impl<I: Iterator<Item = Region> + Clone> MemoryMap<I> {
    /// The tidy view of `regions`, in whatever order and shape they are.
    pub fn new(regions: impl IntoIterator<IntoIter = I>) -> Self {
        Self { regions: regions.into_iter(), at: Frame::default() }
    }

    /// The ranges of usable frames that are left.
    pub fn usable(self) -> impl Iterator<Item = FrameRange> + Clone {
        self.filter(|range| range.kind == RegionKind::Usable).map(|range| range.frames)
    }

    /// How many frames of `kind` are left.
    pub fn frames(self, kind: RegionKind) -> usize {
        self.filter(|range| range.kind == kind).map(|range| range.frames.frames()).sum()
    }

    fn regions(&self) -> impl Iterator<Item = Region> + use<I> {
        self.regions.clone().filter(|region| !region.is_void())
    }

    /// The smallest edge above `frame`.
    fn edge_above(&self, frame: Frame) -> Option<Frame> {
        self.regions()
            .flat_map(|region| [region.start, region.end])
            .flat_map(|address| [floor(address), ceil(address)])
            .filter(|&edge| edge > frame)
            .min()
    }

    /// What `frame` is; `None` if it is a hole, or usable only in part.
    fn kind_of(&self, frame: Frame) -> Option<RegionKind> {
        let strongest = self
            .regions()
            .filter(|region| floor(region.start) <= frame && frame < ceil(region.end))
            .map(|region| region.kind)
            .max()?;
        (strongest != RegionKind::Usable || self.is_covered(frame)).then_some(strongest)
    }

    /// Whether usable regions together hold every byte of `frame`.
    fn is_covered(&self, frame: Frame) -> bool {
        let mut covered = frame.start();
        let Some(end) = frame.checked_add(1).map(Frame::start) else { return false };
        while covered < end {
            let further = self
                .regions()
                .filter(|region| region.kind == RegionKind::Usable && region.start <= covered)
                .map(|region| region.end)
                .max();
            match further {
                Some(further) if further > covered => covered = further,
                _ => return false,
            }
        }
        true
    }
}

impl<I: Iterator<Item = Region> + Clone> Iterator for MemoryMap<I> {
    type Item = TypedRange;

    fn next(&mut self) -> Option<TypedRange> {
        loop {
            let start = self.at;
            self.at = self.edge_above(start)?;
            let Some(kind) = self.kind_of(start) else { continue };
            while self.kind_of(self.at) == Some(kind) {
                let Some(edge) = self.edge_above(self.at) else { break };
                self.at = edge;
            }
            let frames = FrameRange::new(start, self.at)?;
            return Some(TypedRange { frames, kind });
        }
    }
}

impl<I: Iterator<Item = Region> + Clone> core::iter::FusedIterator for MemoryMap<I> {}

/// The frame that holds `address`.
fn floor(address: PhysAddr) -> Frame {
    Frame::containing(address).unwrap_or(Frame::MAX)
}

/// The first frame that starts at or above `address`.
fn ceil(address: PhysAddr) -> Frame {
    let frame = floor(address);
    if address.is_frame_aligned() { frame } else { frame.checked_add(1).unwrap_or(Frame::MAX) }
}

#[cfg(test)]
mod tests;
