//! Whether calls go straight to the heap, or past the observers that the environment has asked for.
//!
//! One byte says so. `malloc` and `free` do not even look at it when they are hits: where it is not
//! `PLAIN` hits are held back.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicU8,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::arenas;
use crate::options::{self, Options, Wish};
use crate::{engine, fork, stop};

/// Nothing was asked for.
const PLAIN: u8 = 0;
/// The environment has not been read.
const UNREAD: u8 = 1;
/// A thread is reading it.
const READING: u8 = 2;
/// Calls are observed.
const OBSERVED: u8 = 3;
/// As `PLAIN`, but some blocks have names, or an arena serves.
const NAMED: u8 = 4;
/// The environment has been read, and nobody has called since.
const READ: u8 = 5;

static MODE: AtomicU8 = AtomicU8::new(UNREAD);

/// The options, once `MODE` is past `READING`.
static OPTIONS: Settled = Settled(UnsafeCell::new(Options::DEFAULT));

struct Settled(UnsafeCell<Options>);

// SAFETY: written only by the one thread that moved `MODE` to `READING`, before it moves on; read
// only after that.
unsafe impl Sync for Settled {}

/// How a call is to be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// By the heap, and nothing else.
    Plain,
    /// By the engine that was chosen; a freed block may have a name to be forgotten.
    Named,
    /// As the options say.
    Observed(&'static Options),
}

/// Whether calls go straight to the heap.
#[inline(always)]
pub(crate) fn is_plain() -> bool {
    MODE.load(Relaxed) == PLAIN
}

/// How this call is to be served.
#[cold]
pub(crate) fn mode() -> Mode {
    // Acquire pairs with the Release in `settle`: the options are written.
    match MODE.load(Acquire) {
        OBSERVED => Mode::Observed(options()),
        NAMED => Mode::Named,
        UNREAD | READ => settle(),
        _ => Mode::Plain,
    }
}

/// What the environment asked for; the defaults before it was read.
pub(crate) fn options() -> &'static Options {
    match MODE.load(Acquire) {
        UNREAD | READING => &Options::DEFAULT,
        // SAFETY: past `READING` nobody writes.
        _ => unsafe { &*OPTIONS.0.get() },
    }
}

/// From now on frees look for names.
pub(crate) fn note_names() {
    // Relaxed: the name itself is under a lock.
    if MODE.compare_exchange(PLAIN, NAMED, Relaxed, Relaxed).is_ok() {
        engine::hold_hits_back();
    }
}

/// Does what the environment asks for, if it is there yet.
fn settle() -> Mode {
    let before = MODE.load(Relaxed);
    if !matches!(before, UNREAD | READ)
        || MODE.compare_exchange(before, READING, Acquire, Relaxed).is_err()
    {
        return Mode::Plain;
    }
    engine::hold_hits_back();
    if before == UNREAD {
        let Some(options) = options::read() else {
            MODE.store(UNREAD, Release);
            return Mode::Plain;
        };
        // SAFETY: this thread alone moved `MODE` to `READING`.
        unsafe { *OPTIONS.0.get() = options };
        fork::install();
    }
    // SAFETY: written above, or by `at_start`; nobody writes any more.
    let options = unsafe { &*OPTIONS.0.get() };
    stop::install();
    engine::configure(options);
    // Release pairs with the Acquires of readers: the options are written.
    let mode_byte = match (is_observed(options), arenas::is_chosen()) {
        (true, _) => OBSERVED,
        (false, true) => NAMED,
        (false, false) => PLAIN,
    };
    if mode_byte == PLAIN {
        engine::allow_hits();
    }
    MODE.store(mode_byte, Release);
    mode()
}

/// Runs before `main`, which may clear the environment. But for the log, which is opened here, what
/// the options ask for is done at the first call: it may take memory. Handlers of forks are not
/// left to it: the first call may be the C library's own, for room for more of them, under the lock
/// that registering takes.
extern "C" fn at_start() {
    if MODE.compare_exchange(UNREAD, READING, Acquire, Relaxed).is_err() {
        return;
    }
    // By now the C library knows its environment: where there is none, others have cleared it.
    let options = options::read().unwrap_or(Options::DEFAULT);
    // SAFETY: this thread alone moved `MODE` to `READING`.
    unsafe { *OPTIONS.0.get() = options };
    fork::install();
    MODE.store(READ, Release);
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

fn is_observed(options: &Options) -> bool {
    let wishes = [
        options.statistics,
        options.leaks,
        options.track,
        options.scribble,
        options.zero_on_free,
        options.red_zones,
    ];
    wishes.contains(&Wish::Yes)
        || options.log
        || options.quarantine_bytes > 0
        || options.limit_bytes != usize::MAX
}
