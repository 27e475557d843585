//! What one CPU sends to another, which gives it back: every free from every CPU to every CPU.

use core::sync::atomic::{AtomicU32, Ordering};

use kmem::CpuId;
use spin::Mutex;

use super::item::Item;
use crate::acpi::MOST_CPUS;

/// Where one CPU finds what one other sends. Nobody waits: whoever finds a place in use passes it
/// over.
struct Mailbox {
    places: [Mutex<Option<Item>>; 8],
    /// Items that have been taken out.
    received: AtomicU32,
}

/// A mailbox for each pair of CPUs: `[to][from]`.
static MAIL: [[Mailbox; MOST_CPUS]; MOST_CPUS] =
    [const { [const { Mailbox::new() }; MOST_CPUS] }; MOST_CPUS];

impl Mailbox {
    const fn new() -> Self {
        Self { places: [const { Mutex::new(None) }; 8], received: AtomicU32::new(0) }
    }
}

/// Sends `item`, or returns it if there is no room.
pub(super) fn post(from: CpuId, to: CpuId, item: Item) -> Result<(), Item> {
    let places = &MAIL[to.index()][from.index()].places;
    for place in places {
        if let Some(mut place) = place.try_lock()
            && place.is_none()
        {
            *place = Some(item);
            return Ok(());
        }
    }
    Err(item)
}

/// What `from` has sent to `to`, if anything.
pub(super) fn receive(to: CpuId, from: CpuId) -> Option<Item> {
    let mailbox = &MAIL[to.index()][from.index()];
    let item = mailbox.places.iter().find_map(|place| place.try_lock()?.take())?;
    mailbox.received.fetch_add(1, Ordering::Relaxed);
    Some(item)
}

/// How many items `to` has received from `from`.
pub(super) fn received(to: CpuId, from: CpuId) -> u32 {
    MAIL[to.index()][from.index()].received.load(Ordering::Relaxed)
}
