//! Objects by cache.

use core::fmt;

use crate::slab::CacheStats;

/// A line for each cache: `/proc/slabinfo`, version 2.1.
///
/// It takes the caches' statistics in the order in which they are to be shown. Linux's tunables of
/// CPU caches read 0, as they do for its present slab allocator.
#[derive(Clone, Debug)]
pub struct Slabinfo<I>(pub I);

impl<I: IntoIterator<Item = CacheStats> + Clone> fmt::Display for Slabinfo<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "slabinfo - version: 2.1")?;
        writeln!(
            f,
            "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
             : tunables <limit> <batchcount> <sharedfactor> \
             : slabdata <active_slabs> <num_slabs> <sharedavail>"
        )?;
        self.0.clone().into_iter().try_for_each(|cache| write_cache(f, &cache))
    }
}

/// One line.
pub(super) fn write_cache(f: &mut impl fmt::Write, cache: &CacheStats) -> fmt::Result {
    write!(
        f,
        "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4}",
        cache.name,
        cache.objects_active,
        cache.objects_total,
        cache.stride_bytes,
        cache.objects_per_slab,
        cache.frames_per_slab,
    )?;
    let (limit, batch, shared) = (0, 0, 0);
    write!(f, " : tunables {limit:>4} {batch:>4} {shared:>4}")?;
    let shared_available = 0;
    writeln!(
        f,
        " : slabdata {:>6} {:>6} {shared_available:>6}",
        cache.slabs_active, cache.slabs_total,
    )
}
