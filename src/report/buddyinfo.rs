//! Free blocks by order.

use core::fmt;

use crate::frame::Order;
use crate::page::PageAllocator;
use crate::platform::Platform;

/// The free blocks of each zone, a column for each order from 0 up: `/proc/buddyinfo`.
pub struct Buddyinfo<'a, P: Platform>(pub &'a PageAllocator<P>);

impl<P: Platform> fmt::Display for Buddyinfo<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.zones().try_for_each(|zone| write_zone(f, zone.kind.name(), &zone.available_blocks))
    }
}

impl<P: Platform> fmt::Debug for Buddyinfo<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line. kmem knows one NUMA node, which is node 0.
pub(super) fn write_zone(
    f: &mut impl fmt::Write,
    name: &str,
    blocks: &[usize; Order::COUNT],
) -> fmt::Result {
    write!(f, "Node 0, zone {name:>8} ")?;
    blocks.iter().try_for_each(|count| write!(f, "{count:6} "))?;
    writeln!(f)
}
