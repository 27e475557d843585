//! The boot loader's memory map, and kmem, which is given the memory: the kernel's only allocator.

use bootloader::BootInfo;
use bootloader::bootinfo::MemoryRegionType;
use kmem::heap::Heap;
use kmem::page::{BootReport, PageAllocator};
use kmem::{Frame, FrameRange, RegionKind};
use spin::Once;

use crate::platform::{self, Pc};

/// All frames of the machine.
pub(crate) static PAGES: PageAllocator<Pc> = PageAllocator::new(Pc);

/// What Rust's `alloc` crate allocates from.
#[global_allocator]
pub(crate) static HEAP: Heap<'static, PageAllocator<Pc>> = Heap::new(&PAGES);

/// What the boot loader says of a range of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// The frames.
    pub(crate) frames: FrameRange,
    /// What they are.
    pub(crate) kind: MemoryRegionType,
}

impl Region {
    /// Whether the frames are memory that nobody uses.
    pub(crate) fn is_usable(&self) -> bool {
        self.kind == MemoryRegionType::Usable
    }
}

impl From<Region> for kmem::Region {
    fn from(region: Region) -> Self {
        let kind = match region.kind {
            MemoryRegionType::Usable => RegionKind::Usable,
            MemoryRegionType::Bootloader => RegionKind::Bootloader,
            MemoryRegionType::AcpiReclaimable => RegionKind::AcpiReclaimable,
            MemoryRegionType::AcpiNvs => RegionKind::AcpiNvs,
            MemoryRegionType::BadMemory => RegionKind::Bad,
            MemoryRegionType::Kernel
            | MemoryRegionType::KernelStack
            | MemoryRegionType::PageTable
            | MemoryRegionType::BootInfo
            | MemoryRegionType::Package => RegionKind::Kernel,
            _ => RegionKind::Reserved,
        };
        Self::from_frames(region.frames, kind)
    }
}

static BOOT: Once<(&'static BootInfo, BootReport)> = Once::new();

/// Finds the direct map. Called once.
pub(crate) fn map(boot: &'static BootInfo) {
    let end = regions_of(boot).map(|region| region.frames.end()).max().unwrap_or_default();
    // SAFETY: with its feature `map_physical_memory` the boot loader maps all physical memory up to
    // the last address of its memory map at this offset, readable and writable; the kernel never
    // changes that.
    unsafe { platform::init(boot.physical_memory_offset, end.start().as_u64()) };
}

/// Gives kmem the memory that the boot loader says is usable. Called once, when the CPUs are known,
/// as kmem keeps something for each.
pub(crate) fn init(boot: &'static BootInfo) {
    // SAFETY: the boot loader calls usable what it leaves to the kernel, and the kernel uses none
    // of it but through kmem. All of it lies in the direct map.
    let report = unsafe { PAGES.init(regions_of(boot).map(kmem::Region::from)) };
    let report = report.expect("a PC's memory map can be managed");
    BOOT.call_once(|| (boot, report));
}

/// What became of the memory at boot.
pub(crate) fn report() -> BootReport {
    BOOT.get().expect("memory is set up first").1
}

/// The boot loader's memory map, as it stands.
pub(crate) fn regions() -> impl Iterator<Item = Region> + Clone {
    regions_of(BOOT.get().expect("memory is set up first").0)
}

/// A frame below 1 MiB in which the boot loader lay, and nothing lies now.
pub(crate) fn boot_loader_frame() -> Option<Frame> {
    let boot_loaders = |region: &Region| region.kind == MemoryRegionType::Bootloader;
    let first = regions().find(boot_loaders)?.frames.start();
    (first.start().as_u64() < 1 << 20).then_some(first)
}

fn regions_of(boot: &'static BootInfo) -> impl Iterator<Item = Region> + Clone {
    boot.memory_map.iter().filter_map(|region| {
        let start = Frame::new(region.range.start_frame_number as usize)?;
        let end = Frame::new(region.range.end_frame_number as usize)?;
        Some(Region { frames: FrameRange::new(start, end)?, kind: region.region_type })
    })
}
