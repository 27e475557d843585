//! What the environment asks for.
//!
//! The variables are read once, by hand, from the process's own list: the first allocation comes
//! before the C library's and Rust's start-up code has run. A value that cannot be understood gets
//! one line and the default.

use core::ffi::CStr;
use core::time::Duration;

use crate::file::{self, File};
use crate::log;
use crate::text::{STDERR, say};
use kmem::arena::Fit;

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// What happens after a wrong call was reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnError {
    Abort,
    /// The call is ignored and the program goes on.
    Report,
}

/// Whether something is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    No,
    Yes,
}

impl Wish {
    pub(crate) const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }
}

/// What meets requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    /// The heap: size classes, slabs and page runs.
    Slab,
    /// An arena of bytes.
    Arena(Fit),
}

/// What the environment asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) engine: Engine,
    pub(crate) help: Wish,
    pub(crate) statistics: Wish,
    pub(crate) leaks: Wish,
    pub(crate) track: Wish,
    pub(crate) scribble: Wish,
    pub(crate) zero_on_free: Wish,
    pub(crate) red_zones: Wish,
    pub(crate) quarantine_bytes: usize,
    pub(crate) on_error: OnError,
    pub(crate) limit_bytes: usize,
    pub(crate) purge_delay: Duration,
    pub(crate) huge_pages: Wish,
    pub(crate) log: bool,
    /// Where the end is reported if the program has closed its standard error by then.
    pub(crate) stderr: Option<File>,
}

/// What an option does to the blocks themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Touch {
    /// They are counted, listed, logged; each lies where it would lie otherwise.
    Notes,
    /// Their bytes are filled, guarded or kept back.
    Bytes,
}

impl Options {
    pub(crate) const DEFAULT: Self = Self {
        engine: Engine::Slab,
        help: Wish::No,
        statistics: Wish::No,
        leaks: Wish::No,
        track: Wish::No,
        scribble: Wish::No,
        zero_on_free: Wish::No,
        red_zones: Wish::No,
        quarantine_bytes: 0,
        on_error: OnError::Abort,
        limit_bytes: usize::MAX,
        purge_delay: Duration::from_millis(500),
        huge_pages: Wish::No,
        log: false,
        stderr: None,
    };

    /// What these options do to blocks.
    pub(crate) fn touch(&self) -> Touch {
        let fills = [self.scribble, self.zero_on_free, self.red_zones].contains(&Wish::Yes);
        if fills || self.quarantine_bytes > 0 { Touch::Bytes } else { Touch::Notes }
    }

    /// Whether there may be something to say when the program ends.
    fn reports_at_exit(&self) -> bool {
        let reports = [self.statistics, self.leaks, self.red_zones].contains(&Wish::Yes);
        reports || self.quarantine_bytes > 0
    }
}

/// A variable: its name, what it takes, what it does, and how its value changes the options; `None`
/// if it cannot.
struct Variable {
    name: &'static str,
    takes: &'static str,
    does: &'static str,
    set: fn(&mut Options, &'static CStr) -> Option<()>,
}

const VARIABLES: &[Variable] = &[
    Variable {
        name: "KMEM_HELP",
        takes: "0|1",
        does: "list these variables",
        set: |options, value| {
            options.help = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_ENGINE",
        takes: "slab|first|best|worst|next|instant",
        does: "what serves requests: slabs, or an arena of bytes under a fit policy",
        set: |options, value| {
            options.engine = match value.to_bytes() {
                b"slab" => Engine::Slab,
                b"first" => Engine::Arena(Fit::First),
                b"best" => Engine::Arena(Fit::Best),
                b"worst" => Engine::Arena(Fit::Worst),
                b"next" => Engine::Arena(Fit::Next),
                b"instant" => Engine::Arena(Fit::Instant),
                _ => return None,
            };
            Some(())
        },
    },
    Variable {
        name: "KMEM_STATS",
        takes: "0|1",
        does: "statistics on standard error when the program ends",
        set: |options, value| {
            options.statistics = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_LEAKS",
        takes: "0|1",
        does: "when the program ends, what it has not freed, by name and size",
        set: |options, value| {
            options.leaks = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_TRACK",
        takes: "0|1",
        does: "remember size and thread of every block, for print_memory",
        set: |options, value| {
            options.track = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_LOG",
        takes: "FILE",
        does: "a line for every block allocated or freed: call, bytes, address, thread",
        set: |options, value| {
            if value.is_empty() {
                return None;
            }
            // Opened here, and its name not kept: the program may overwrite its environment.
            log::open(value);
            options.log = true;
            Some(())
        },
    },
    Variable {
        name: "KMEM_SCRIBBLE",
        takes: "0|1",
        does: "fill new blocks with 0xAA",
        set: |options, value| {
            options.scribble = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_ZERO_ON_FREE",
        takes: "0|1",
        does: "clear blocks when they are freed",
        set: |options, value| {
            options.zero_on_free = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_RED_ZONES",
        takes: "0|1",
        does: "16 bytes behind every block, checked when it is freed",
        set: |options, value| {
            options.red_zones = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_QUARANTINE",
        takes: "BYTES[K|M|G]",
        does: "keep so much of what was freed back, and check that nobody writes to it",
        set: |options, value| {
            options.quarantine_bytes = bytes(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_ON_ERROR",
        takes: "abort|report",
        does: "what follows the report of a wrong call",
        set: |options, value| {
            options.on_error = match value.to_bytes() {
                b"abort" => OnError::Abort,
                b"report" => OnError::Report,
                _ => return None,
            };
            Some(())
        },
    },
    Variable {
        name: "KMEM_LIMIT",
        takes: "BYTES[K|M|G]",
        does: "how much may be in use: requests beyond fail",
        set: |options, value| {
            options.limit_bytes = bytes(value)?;
            Some(())
        },
    },
    Variable {
        name: "KMEM_PURGE_DELAY",
        takes: "MILLISECONDS",
        does: "how long free memory is kept before the system gets it back",
        set: |options, value| {
            options.purge_delay = Duration::from_millis(number(value.to_bytes())? as u64);
            Some(())
        },
    },
    Variable {
        name: "KMEM_HUGE_PAGES",
        takes: "0|1",
        does: "ask the system for huge pages",
        set: |options, value| {
            options.huge_pages = wish(value)?;
            Some(())
        },
    },
    Variable {
        name: "ALLOCATOR_ALGORITHM",
        takes: "first_fit|best_fit|worst_fit",
        does: "as KMEM_ENGINE",
        set: |options, value| {
            options.engine = match value.to_bytes() {
                b"first_fit" => Engine::Arena(Fit::First),
                b"best_fit" => Engine::Arena(Fit::Best),
                b"worst_fit" => Engine::Arena(Fit::Worst),
                _ => return None,
            };
            Some(())
        },
    },
    Variable {
        name: "ALLOCATOR_SCRIBBLE",
        takes: "0|1",
        does: "as KMEM_SCRIBBLE",
        set: |options, value| {
            options.scribble = wish(value)?;
            Some(())
        },
    },
];

/// One bit for each of [`VARIABLES`].
type Seen = u32;
const _: () = assert!(VARIABLES.len() <= Seen::BITS as usize);

/// The options of this process; `None` before the C library knows its environment.
pub(crate) fn read() -> Option<Options> {
    // SAFETY: the C library's variable, set once before there are threads.
    let mut entry = unsafe { environ };
    if entry.is_null() {
        return None;
    }
    let mut options = Options::DEFAULT;
    // SAFETY: it has no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        // Whoever starts a program with other rights does not choose what files it writes.
        return Some(options);
    }
    let mut seen = 0;
    loop {
        // SAFETY: the list ends with a null pointer, which ends the loop.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: entries are strings that live as long as the process unless it changes its
        // environment, which it cannot have begun to.
        apply(&mut options, &mut seen, unsafe { CStr::from_ptr(text) });
        // SAFETY: the entry is not the last.
        entry = unsafe { entry.add(1) };
    }
    if options.help.is_yes() {
        list();
    }
    if options.reports_at_exit() {
        options.stderr = file::keep_stderr();
    }
    Some(options)
}

/// Lets one `NAME=value` change the options. Where a name is there twice its first value counts, as
/// for `getenv`.
fn apply(options: &mut Options, seen: &mut Seen, entry: &'static CStr) {
    let bytes = entry.to_bytes();
    if !(bytes.starts_with(b"KMEM_") || bytes.starts_with(b"ALLOCATOR_")) {
        return;
    }
    let Some(split) = bytes.iter().position(|&byte| byte == b'=') else { return };
    let (Ok(name), value) = (core::str::from_utf8(&bytes[..split]), &bytes[split + 1..]) else {
        return;
    };
    let Some(index) = VARIABLES.iter().position(|variable| variable.name == name) else {
        if name.starts_with("KMEM_") {
            say(STDERR, format_args!("kmem: there is no {name}; KMEM_HELP=1 lists what there is"));
        }
        return;
    };
    if *seen >> index & 1 != 0 {
        return;
    }
    *seen |= 1 << index;
    let variable = &VARIABLES[index];
    // SAFETY: the rest of a string is one.
    let value_string = unsafe { CStr::from_ptr(entry.as_ptr().add(split + 1)) };
    if (variable.set)(options, value_string).is_none() {
        let (takes, shown) = (variable.takes, core::str::from_utf8(value).unwrap_or("?"));
        say(
            STDERR,
            format_args!("kmem: {name} takes {takes}, not {shown:?}; the default stays in force"),
        );
    }
}

fn list() {
    say(STDERR, format_args!("kmem: environment variables"));
    for Variable { name, takes, does, .. } in VARIABLES {
        let mut usage = crate::text::Line::new();
        let _ = core::fmt::write(&mut usage, format_args!("{name}={takes}"));
        let usage = core::str::from_utf8(usage.as_bytes()).unwrap_or(name);
        say(STDERR, format_args!("  {usage:<48} {does}"));
    }
}

fn wish(value: &CStr) -> Option<Wish> {
    match value.to_bytes() {
        b"1" | b"yes" | b"on" => Some(Wish::Yes),
        b"0" | b"no" | b"off" => Some(Wish::No),
        _ => None,
    }
}

/// A number of bytes, perhaps with K, M or G.
fn bytes(value: &CStr) -> Option<usize> {
    let digits = value.to_bytes();
    let (digits, shift) = match digits.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        (b'G' | b'g', digits) => (digits, 30),
        _ => (digits, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn number(digits: &[u8]) -> Option<usize> {
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}
