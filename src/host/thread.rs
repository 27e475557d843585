//! What a thread knows of itself, in its own memory.
//!
//! The first instructions of every allocation look here, so on x86_64 the variable has a fixed
//! distance from the thread pointer (the *initial-exec* model of ELF), which is one load to find.
//! Rust's `thread_local!` in a shared library is a function call, and the attribute that asks for
//! this model is not stable; assembly is. Elsewhere `thread_local!` serves.

use core::cell::Cell;
use core::sync::atomic::AtomicU16;

use super::local::Row;

/// No slot yet: the thread has not called kmem.
pub(super) const UNASSIGNED: u16 = u16::MAX;

/// One thread's own.
#[repr(C)]
pub(super) struct Thread {
    /// How many calls of `slot::enter` are open inside the outermost, while this thread owns the
    /// shared slot.
    pub(super) nested: Cell<usize>,
    /// Its slot. Atomic for the sake of signal handlers.
    pub(super) slot: AtomicU16,
    /// How many of kmem's locks it holds or waits for.
    pub(super) locks: Cell<u32>,
    /// Its row of slots; [`local::EMPTY`](super::local::EMPTY) while it has no slot of its own.
    pub(super) row: Cell<*const Row>,
}

pub(super) use imp::{row, slot, this};

/// Whether this thread holds or waits for a lock of kmem: whoever finds that so in a call to kmem
/// is a signal handler on top of another call.
#[inline(always)]
pub(super) fn is_locking() -> bool {
    this().locks.get() != 0
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use core::arch::{asm, global_asm};
    use core::mem::offset_of;

    use super::{Row, Thread, UNASSIGNED};
    use crate::host::local::EMPTY;

    /// The variable's name, with what stands around it. Two versions of kmem may be linked into one
    /// program.
    macro_rules! named {
        ($before:literal, $after:literal) => {
            concat!(
                $before,
                "kmem_thread_",
                env!("CARGO_PKG_VERSION_MAJOR"),
                "_",
                env!("CARGO_PKG_VERSION_MINOR"),
                "_",
                env!("CARGO_PKG_VERSION_PATCH"),
                $after
            )
        };
    }

    // What every thread begins with: a `Thread` that is not nested and has no slot.
    global_asm!(
        ".pushsection .tdata.kmem_thread,\"awT\",@progbits",
        ".balign 16",
        named!(".globl ", ""),
        named!(".hidden ", ""),
        named!(".type ", ", @object"),
        named!(".size ", ", 24"),
        named!("", ":"),
        ".quad 0",
        ".quad {unassigned}",
        ".quad {row}",
        ".popsection",
        unassigned = const UNASSIGNED as u64,
        row = sym EMPTY,
    );

    const _: () = assert!(
        size_of::<Thread>() == 24
            && offset_of!(Thread, slot) == 8
            && offset_of!(Thread, locks) == 12
            && offset_of!(Thread, row) == 16
    );

    /// This thread's own.
    #[inline]
    pub(in super::super) fn this() -> &'static Thread {
        let address: *const Thread;
        // SAFETY: the thread pointer is stored at its own start (the ABI's rule), and the linker's
        // constant is the variable's distance from it.
        unsafe {
            asm!(
                named!("mov {address}, qword ptr [rip + ", "@GOTTPOFF]"),
                "add {address}, qword ptr fs:[0]",
                address = out(reg) address,
                options(pure, readonly, nostack),
            );
            // Only this thread has a reference to it, and none that outlives the thread is kept.
            &*address
        }
    }

    /// This thread's slot.
    #[inline(always)]
    pub(in super::super) fn slot() -> u16 {
        let slot: u32;
        // SAFETY: as in `this`: it reads the variable's field.
        unsafe {
            asm!(
                named!("mov {offset}, qword ptr [rip + ", "@GOTTPOFF]"),
                "movzx {slot:e}, word ptr fs:[{offset} + 8]",
                offset = out(reg) _,
                slot = lateout(reg) slot,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        slot as u16
    }

    /// This thread's row.
    #[inline(always)]
    pub(in super::super) fn row() -> &'static Row {
        let row: *const Row;
        // SAFETY: as in `this`: it reads the variable's field.
        unsafe {
            asm!(
                named!("mov {row}, qword ptr [rip + ", "@GOTTPOFF]"),
                "mov {row}, qword ptr fs:[{row} + 16]",
                row = out(reg) row,
                options(pure, readonly, nostack, preserves_flags),
            );
            // A thread's row is `EMPTY` or one of `local::ROWS`: statics.
            &*row
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    use core::cell::Cell;
    use core::ptr;
    use core::sync::atomic::{AtomicU16, Ordering::Relaxed};
    use std::thread_local;

    use super::{Row, Thread, UNASSIGNED};
    use crate::host::local::EMPTY;

    thread_local! {
        static THREAD: Thread =
            const {
                Thread { nested: Cell::new(0), slot: AtomicU16::new(UNASSIGNED), locks: Cell::new(0),
                    row: Cell::new(&raw const EMPTY) }
            };
    }

    /// This thread's own.
    #[inline]
    pub(in super::super) fn this() -> &'static Thread {
        // SAFETY: it has no destructor, so it lives as long as the thread, and no reference to it
        // is kept longer.
        THREAD.with(|thread| unsafe { &*ptr::from_ref(thread) })
    }

    /// This thread's slot.
    #[inline]
    pub(in super::super) fn slot() -> u16 {
        this().slot.load(Relaxed)
    }

    /// This thread's row.
    #[inline]
    pub(in super::super) fn row() -> &'static Row {
        // SAFETY: a thread's row is `EMPTY` or one of `local::ROWS`: statics.
        unsafe { &*this().row.get() }
    }
}
