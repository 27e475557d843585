//! Process ids: an arena of small integers.
//!
//! Next fit goes on behind the id handed out last, and only at the end begins anew. So an id that
//! was given back is the last to be handed out again, and who still has it finds nobody rather than
//! a stranger.

use core::num::NonZeroU32;

use kmem::arena::{self, AllocError, Arena, Config, Fit, FreeError, Segment};

/// The name of a process; 0 is none's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ProcessId(NonZeroU32);

impl ProcessId {
    /// The id of this number, which is not 0.
    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }
}

/// The ids from 1 to a highest one.
pub(crate) struct ProcessIds<'m>(Arena<'m>);

impl<'m> ProcessIds<'m> {
    /// Ids up to `highest`, none of them in use. `highest + 2` records suffice for any use.
    ///
    /// # Panics
    ///
    /// `records` has less than three.
    pub(crate) fn new(highest: NonZeroU32, records: &'m mut [Segment]) -> Self {
        let config = Config::new("process ids", 1, Fit::Next);
        let mut ids = Arena::new(config, records).expect("a unit and records");
        ids.add(1..u64::from(highest.get()) + 1).expect("an empty arena");
        Self(ids)
    }

    /// An id that nobody has: the lowest above the last one handed out, or else the lowest.
    ///
    /// # Errors
    ///
    /// All are in use.
    pub(crate) fn alloc(&mut self) -> Result<ProcessId, AllocError> {
        let number = u32::try_from(self.0.alloc(1)?).ok().and_then(ProcessId::new);
        Ok(number.expect("the arena has ids only"))
    }

    /// Takes an id back.
    ///
    /// # Errors
    ///
    /// Nobody has it.
    pub(crate) fn free(&mut self, id: ProcessId) -> Result<(), FreeError> {
        self.0.free(u64::from(id.0.get()), 1)
    }

    /// Recounts the arena's invariants.
    pub(crate) fn verify(&self) -> Result<(), arena::Corruption> {
        self.0.verify()
    }
}
