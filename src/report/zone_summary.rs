//! Zones at a glance.

use core::fmt;

use crate::frame::Order;
use crate::page::{PageAllocator, ZoneStats};
use crate::platform::Platform;

/// A line for each zone: how full it is, how much CPUs keep ready, how much it holds back, and how
/// broken up what is available is. Numbers are of frames.
///
/// The last column is the share of the available frames, in percent, that lie in blocks too small
/// for a request of 2 MiB.
pub struct ZoneSummary<'a, P: Platform>(pub &'a PageAllocator<P>);

impl<P: Platform> fmt::Display for ZoneSummary<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "zone       managed  available    on CPUs       used    min    low   high  largest  below 2 MiB"
        )?;
        self.0.zones().try_for_each(|zone| write_zone(f, &zone))
    }
}

impl<P: Platform> fmt::Debug for ZoneSummary<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line.
pub(super) fn write_zone(f: &mut impl fmt::Write, zone: &ZoneStats) -> fmt::Result {
    let free = zone.available_frames.saturating_add(zone.kept_frames);
    let used = zone.managed_frames.saturating_sub(free);
    let largest = Order::all().rev().find(|order| zone.available_blocks[order.index()] > 0);
    write!(
        f,
        "{:<8} {:>9}  {:>9}  {:>9}  {used:>9} {:>6} {:>6} {:>6}",
        zone.kind.name(),
        zone.managed_frames,
        zone.available_frames,
        zone.kept_frames,
        zone.watermarks.min,
        zone.watermarks.low,
        zone.watermarks.high,
    )?;
    match largest {
        Some(order) => write!(f, " {:>8}", order.get())?,
        None => write!(f, " {:>8}", "-")?,
    }
    writeln!(f, " {:>10} %", percent_below(zone, HUGE))
}

/// A block of 2 MiB.
const HUGE: Order = match Order::new(9) {
    Some(order) => order,
    None => Order::MAX,
};

/// The share of the available frames that lie in blocks below `order`, in percent, rounded up.
fn percent_below(zone: &ZoneStats, order: Order) -> usize {
    let below: usize = Order::all()
        .take_while(|&smaller| smaller < order)
        .map(|smaller| zone.available_blocks[smaller.index()].saturating_mul(smaller.frames()))
        .fold(0, usize::saturating_add);
    below.saturating_mul(100).div_ceil(zone.available_frames.max(1)).min(100)
}
