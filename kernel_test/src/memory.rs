//! The boot loader's memory map, and the memory that kmem is given by it.

use bootloader::BootInfo;
use bootloader::bootinfo::MemoryRegionType;
use kmem::{Frame, FrameRange};
use spin::Once;

use crate::platform;

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

static BOOT: Once<&'static BootInfo> = Once::new();

/// Takes over what the boot loader says of memory. Called once.
pub(crate) fn init(boot: &'static BootInfo) {
    BOOT.call_once(|| boot);
    let end = regions().map(|region| region.frames.end()).max().unwrap_or_default();
    // SAFETY: with its feature `map_physical_memory` the boot loader maps all physical memory up to
    // the last address of its memory map at this offset, readable and writable; the kernel never
    // changes that.
    unsafe { platform::init(boot.physical_memory_offset, end.start().as_u64()) };
}

/// The boot loader's memory map, as it stands.
pub(crate) fn regions() -> impl Iterator<Item = Region> + Clone {
    let map = BOOT.get().map_or(&[][..], |boot| &boot.memory_map[..]);
    map.iter().filter_map(|region| {
        let start = Frame::new(region.range.start_frame_number as usize)?;
        let end = Frame::new(region.range.end_frame_number as usize)?;
        Some(Region { frames: FrameRange::new(start, end)?, kind: region.region_type })
    })
}
