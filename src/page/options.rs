//! What a kernel can choose when it hands its memory over, and what it is told afterwards.

use core::fmt;

use super::ZONES;
use crate::frame::{FRAME_SIZE, Frame, FrameRange, PhysAddr};

/// A zone: memory below an address limit, for devices that reach no further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ZoneKind {
    /// The lowest memory: on a PC the first 16 MiB, for ISA devices.
    Dma,
    /// Memory with addresses of 32 bits.
    Dma32,
    /// Everything above.
    Normal,
}

impl ZoneKind {
    /// All zones, lowest first.
    pub const ALL: [Self; ZONES] = [Self::Dma, Self::Dma32, Self::Normal];

    /// This zone's place in tables of all zones.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name that Linux gives it in /proc/buddyinfo.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where zones end. A zone that ends where the one below it does, or lower, is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimits {
    /// The address behind zone DMA, rounded down to a frame.
    pub dma: PhysAddr,
    /// The address behind zone DMA32, rounded down to a frame.
    pub dma32: PhysAddr,
}

impl ZoneLimits {
    /// A PC: 16 MiB and 4 GiB.
    pub const PC: Self = Self { dma: PhysAddr::new(16 << 20), dma32: PhysAddr::new(4 << 30) };

    /// A machine whose devices reach all memory: everything is Normal.
    pub const NONE: Self = Self { dma: PhysAddr::ZERO, dma32: PhysAddr::ZERO };

    /// The frames of each zone, lowest zone first.
    pub(super) fn zones(self) -> [FrameRange; ZONES] {
        let frame = |address| Frame::containing(address).unwrap_or(Frame::MAX);
        let dma = frame(self.dma);
        let dma32 = frame(self.dma32).max(dma);
        let range = |start, end| FrameRange::new(start, end).unwrap_or(FrameRange::EMPTY);
        [range(Frame::default(), dma), range(dma, dma32), range(dma32, Frame::MAX)]
    }
}

/// Whether every frame gets an owner record, which slabs and the heap need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    /// Four bytes a frame, 0.1 % of memory.
    Keep,
    /// None: for kernels that want frames only. Slabs and the heap answer every request with
    /// [`NoOwnerRecord`](super::AllocError::NoOwnerRecord).
    Omit,
}

/// Whether each CPU keeps some frames ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuLists {
    /// Less than 8 KiB for each of [`Platform::cpu_count`](crate::platform::Platform::cpu_count)
    /// CPUs. On each, up to 96 frames of each of the orders 0 to 3, or less than a ninth of its
    /// share of the memory in up to 128 blocks of orders 0 to 6, and two blocks of 2 MiB. None
    /// where no zone has twice as much to spare.
    Keep,
    /// None: every request goes to the zones.
    Omit,
}

/// What the memory given to kmem holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Anything: what kmem keeps its metadata in, it zeroes first.
    Unknown,
    /// Zeros, such as a fresh anonymous mapping: kmem's metadata are not touched before they are
    /// used. Their own frames look like holes then, not like reserved ones.
    Zeroed,
}

/// What a kernel can choose at [`init_with`](super::PageAllocator::init_with).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitOptions {
    /// Where zones end.
    pub limits: ZoneLimits,
    /// Whether frames have owner records.
    pub owners: Owners,
    /// Whether CPUs keep frames ready.
    pub cpu_lists: CpuLists,
    /// What the memory holds.
    pub contents: Contents,
    /// Frames that may be added later: their metadata are laid out at once, so that adding them
    /// moves nothing. They need not exist yet. Those that the memory map calls anything but usable
    /// are left out.
    pub provision: FrameRange,
}

impl InitOptions {
    /// A PC with slabs and a heap.
    pub const DEFAULT: Self = Self {
        limits: ZoneLimits::PC,
        owners: Owners::Keep,
        cpu_lists: CpuLists::Keep,
        contents: Contents::Unknown,
        provision: FrameRange::EMPTY,
    };
}

impl Default for InitOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What became of the memory given to [`init`](super::PageAllocator::init).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BootReport {
    /// Frames that the map says are usable.
    pub usable_frames: usize,
    /// Frames that can be allocated: the usable ones without those of the metadata.
    pub managed_frames: usize,
    /// Frames that kmem keeps its metadata in, and the CPUs' lists.
    pub metadata_frames: usize,
    /// Bytes that the metadata of the buddy allocators take in them.
    pub buddy_bytes: usize,
    /// Bytes that the owner records take in them.
    pub owner_bytes: usize,
    /// In how many pieces the metadata of spans lie.
    pub carve_outs: usize,
    /// How many spans there are, in all zones.
    pub spans: usize,
    /// Managed frames of each zone, lowest zone first.
    pub zone_frames: [usize; ZONES],
    /// Entries of the map that say nothing: empty or reversed.
    pub void_regions: usize,
}

impl BootReport {
    /// `bytes` in thousandths of a percent of the usable memory.
    const fn milli_percent(&self, bytes: usize) -> u64 {
        let usable = self.usable_frames as u64 * FRAME_SIZE as u64;
        match (bytes as u64).saturating_mul(100_000).checked_div(usable) {
            Some(share) => share,
            None => 0,
        }
    }

    /// The buddy allocators' metadata in thousandths of a percent of the usable memory.
    pub const fn buddy_milli_percent(&self) -> u64 {
        self.milli_percent(self.buddy_bytes)
    }

    /// All metadata, with owner records, in thousandths of a percent of the usable memory.
    pub const fn metadata_milli_percent(&self) -> u64 {
        self.milli_percent(self.buddy_bytes + self.owner_bytes)
    }
}

impl fmt::Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (buddy, all) = (self.buddy_milli_percent(), self.metadata_milli_percent());
        writeln!(f, "usable    {:>10} frames", self.usable_frames)?;
        write!(f, "managed   {:>10} frames in {} spans", self.managed_frames, self.spans)?;
        for (kind, frames) in ZoneKind::ALL.iter().zip(self.zone_frames) {
            write!(f, ", {kind} {frames}")?;
        }
        writeln!(f)?;
        write!(
            f,
            "metadata  {:>10} frames, carve-outs: {}; buddy {} bytes ({}.{:03} %), with owners {} bytes ({}.{:03} %)",
            self.metadata_frames,
            self.carve_outs,
            self.buddy_bytes,
            buddy / 1000,
            buddy % 1000,
            self.buddy_bytes + self.owner_bytes,
            all / 1000,
            all % 1000,
        )
    }
}
