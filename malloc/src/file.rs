//! Files that this library keeps open beside the program's own.
//!
//! Programs close descriptors that they did not open: daemons all of them, GNU's tools their
//! standard error before they end. So a file is known by more than its descriptor, whose number
//! may be another file's by the time it is wanted, and standard error is kept where something is to
//! be said at the end.

use core::mem::MaybeUninit;

use crate::errno;
use crate::text::{Descriptor, STDERR};

/// Where descriptors are out of the way of programs that count on low ones; the first that the
/// limit on open files allows.
const PLACES: [libc::c_int; 4] = [1000, 200, 50, 10];

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct File {
    descriptor: Descriptor,
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl File {
    /// Keeps what `descriptor` refers to open, under another one; `None` if that cannot be.
    pub(crate) fn duplicate(descriptor: Descriptor) -> Option<Self> {
        let places = PLACES.iter();
        let moved = places.map(|&place| duplicate_from(descriptor, place)).find(|fd| fd.0 >= 0)?;
        Self::known(moved)
    }

    /// As [`duplicate`](Self::duplicate), and closes the one that it was, also where it answers
    /// `None`.
    pub(crate) fn take(descriptor: Descriptor) -> Option<Self> {
        if let Some(file) = Self::duplicate(descriptor) {
            close(descriptor);
            return Some(file);
        }
        Self::known(descriptor)
    }

    /// What this library has opened; closed again if the system does not say which file it is.
    fn known(descriptor: Descriptor) -> Option<Self> {
        let Some((device, inode)) = identity(descriptor) else {
            close(descriptor);
            return None;
        };
        Some(Self { descriptor, device, inode })
    }

    /// What to write to; `None` if the program has closed it.
    pub(crate) fn descriptor(self) -> Option<Descriptor> {
        let is_same = identity(self.descriptor) == Some((self.device, self.inode));
        is_same.then_some(self.descriptor)
    }

    /// Runs `work` with this file as standard error if there is none.
    pub(crate) fn stand_in_for_stderr(self, work: impl FnOnce()) {
        let stand_in = match (identity(STDERR), self.descriptor()) {
            (None, Some(kept)) => Some(duplicate_from(kept, STDERR.0)),
            _ => None,
        };
        work();
        if let Some(stand_in) = stand_in {
            close(stand_in);
        }
    }
}

/// What the program has as standard error, kept for what is to be said when it ends.
pub(crate) fn keep_stderr() -> Option<File> {
    File::duplicate(STDERR)
}

/// The lowest descriptor from `place` on that nobody has.
fn duplicate_from(descriptor: Descriptor, place: libc::c_int) -> Descriptor {
    // SAFETY: it changes no descriptor that is there.
    let fd = errno::keeping(|| unsafe { libc::fcntl(descriptor.0, libc::F_DUPFD_CLOEXEC, place) });
    Descriptor(fd)
}

fn close(descriptor: Descriptor) {
    // SAFETY: callers have opened it; a negative one is nobody's.
    errno::keeping(|| unsafe { libc::close(descriptor.0) });
}

/// Device and number of the file that a descriptor refers to; `None` if to none.
fn identity(descriptor: Descriptor) -> Option<(libc::dev_t, libc::ino_t)> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is room for the answer.
    let status = errno::keeping(|| unsafe { libc::fstat(descriptor.0, found.as_mut_ptr()) });
    if status != 0 {
        return None;
    }
    // SAFETY: `fstat` has filled it.
    let found = unsafe { found.assume_init() };
    Some((found.st_dev, found.st_ino))
}
