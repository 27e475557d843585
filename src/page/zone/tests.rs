use core::sync::atomic::Ordering;

use super::*;
use crate::memory_map::{Region, RegionKind};
use crate::page::{CpuLists, InitOptions, ZoneLimits};
use crate::test_support::{booted, frame, frames};

#[test]
fn damage_to_a_zone_is_seen() {
    let memory = [frames(0x400, 0x600), frames(0x3000, 0x3200)];
    let map = memory.map(|frames| Region::from_frames(frames, RegionKind::Usable));
    let limits = ZoneLimits::NONE;
    let options = InitOptions { limits, cpu_lists: CpuLists::Omit, ..InitOptions::DEFAULT };
    let pages = booted(frames(0, 0x4000), &map, options);
    let mut zone = pages.zones[ZoneKind::Normal.index()].lock(pages.platform());
    let all = frames(0, 0x4000);
    assert_eq!(zone.verify(all), Ok(()));
    // A span beyond either limit.
    for limits in [frames(0, 0x3100), frames(0x500, 0x4000)] {
        assert!(zone.verify(limits).is_err(), "{limits}");
    }
    // Spans in the wrong order.
    zone.spans.swap(0, 1);
    assert!(zone.verify(all).is_err());
    zone.spans.swap(0, 1);
    // Watermarks of before.
    zone.watermarks.min += 1;
    assert!(zone.verify(all).is_err());
    zone.set_watermarks();
    assert_eq!(zone.verify(all), Ok(()));
    // A span that is damaged itself.
    let states = zone.buddy_of(frame(0x3000)).expect("managed").states();
    states.of_frames()[0x10].store(0xff, Ordering::Relaxed);
    assert!(zone.verify(all).is_err());
}
