//! kmem as the C library's `malloc`.
//!
//! Preloaded (`LD_PRELOAD=libkmem_malloc.so program`) or linked, this library serves all of a
//! program's memory from the very buddy, page, slab and heap code that runs in the kernel; threads
//! are its CPUs. Read:
//!
//! 1. [`c`]: the functions, and their edge cases as a table; [`gnu`]: further names of theirs;
//! 2. `serve`: what a call does; `observed`: the same where calls are observed;
//! 3. `engine`: what meets requests; `arenas`: the engines with a fit policy; `reserve`: for signal
//!    handlers; `fork`;
//! 4. `mode`, `options`: what the environment can ask for; `blocks`, `names`, `log`, `report`,
//!    `stop`: how it is done;
//! 5. `text`, `file`, `errno`, `lock`, `signals`, `mapped`, `table`: the little that an allocator
//!    needs without allocating.
//!
//! # Invariants
//!
//! 1. Nothing here allocates through itself, uses Rust's standard streams or environment, or
//!    depends on anything that runs before `main`: the dynamic loader calls `malloc` before any of
//!    it.
//! 2. Where nothing was asked for, a hit asks nothing, and any other call looks at one byte before
//!    it goes to the heap.
//! 3. Nothing unwinds into C: Rust stops a panic at an `extern "C"` function.

// Where a panic ends the program anyway, Rust's `std` is left out: it would be most of the library.
#![cfg_attr(panic = "abort", no_std)]

mod arenas;
mod blocks;
pub mod c;
mod engine;
mod errno;
mod exit;
mod file;
mod fork;
pub mod gnu;
mod lock;
mod log;
mod mapped;
mod mode;
mod names;
mod observed;
mod options;
mod report;
mod reserve;
mod serve;
mod signals;
mod stop;
mod table;
mod text;

pub use report::Info;

/// One line, and the end of the program.
#[cfg(panic = "abort")]
#[panic_handler]
fn panicked(panic: &core::panic::PanicInfo<'_>) -> ! {
    text::say(text::STDERR, format_args!("kmem: {panic}"));
    // SAFETY: it has no preconditions.
    unsafe { libc::abort() }
}
