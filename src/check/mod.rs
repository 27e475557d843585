//! What kmem does when it catches somebody breaking its rules.
//!
//! Checked calls return errors. Faces that cannot (`GlobalAlloc`, C) and checks that find damage
//! after the fact describe it as a [`Violation`] and hand it to [`violation()`], which runs the
//! kernel's hook. By default that is a panic, on the Linux host an `abort`, with one line that
//! names the object and the rule. A kernel may set another one, to quarantine the block and go on:
//! whoever reports a violation leaves the block alone if the hook returns.
//!
//! # Invariants
//!
//! 1. Nothing here allocates or takes a lock.
//! 2. A violation on a CPU whose hook is running already stops, so a hook cannot recurse.
//! 3. A hook may unwind. Whoever reports leaves kmem sound before that; what the call had in hand
//!    may be lost.

mod hook;
mod violation;

#[cfg(feature = "mmap")]
pub(crate) use hook::set_platform_hook;
pub use hook::{Hook, set_hook, violation};
pub use violation::{Detail, Rule, Violation};

#[cfg(test)]
mod tests;
