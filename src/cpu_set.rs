//! Sets of CPUs.

#![forbid(unsafe_code)]

use crate::platform::{CpuId, MAX_CPUS};

/// A set of CPUs: a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CpuSet([u64; MAX_CPUS.div_ceil(64)]);

impl CpuSet {
    /// The CPUs that `holds` answers with yes: it is asked once for each that there can be.
    pub(crate) fn of(mut holds: impl FnMut(CpuId) -> bool) -> Self {
        let mut set = Self::default();
        (0..MAX_CPUS).filter_map(CpuId::new).filter(|&cpu| holds(cpu)).for_each(|cpu| set.add(cpu));
        set
    }

    /// Adds a CPU.
    pub(crate) fn add(&mut self, cpu: CpuId) {
        self.0[cpu.index() / 64] |= 1 << (cpu.index() % 64);
    }

    /// Takes a CPU out.
    pub(crate) fn remove(&mut self, cpu: CpuId) {
        self.0[cpu.index() / 64] &= !(1 << (cpu.index() % 64));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn contains(&self, cpu: CpuId) -> bool {
        self.0[cpu.index() / 64] >> (cpu.index() % 64) & 1 == 1
    }

    /// Those CPUs, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = CpuId> {
        (0..MAX_CPUS).filter_map(CpuId::new).filter(|&cpu| self.contains(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_set_has_the_cpus_that_were_chosen() {
        let mut asked = 0;
        let set = CpuSet::of(|cpu| {
            asked += 1;
            cpu.index() % 85 == 0
        });
        assert_eq!(asked, MAX_CPUS, "each CPU once");
        assert_eq!(set.iter().map(CpuId::index).collect::<Vec<_>>(), [0, 85, 170, 255]);
        assert_eq!((set.len(), set.is_empty()), (4, false));
        let mut without = set;
        without.remove(CpuId::new(85).unwrap());
        assert_eq!(without.iter().map(CpuId::index).collect::<Vec<_>>(), [0, 170, 255]);
        let none = CpuSet::of(|_| false);
        assert_eq!((none.iter().count(), none.len(), none.is_empty()), (0, 0, true));
    }
}
