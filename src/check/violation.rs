//! What was found: the rule, the object, and what it should have been.

use core::fmt;

use crate::frame::Order;
use crate::platform::CpuId;

/// The rule that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// Freed though not allocated: a second time, or never allocated.
    NotAllocated,
    /// Freed though outside everything that kmem manages, or its cache is gone.
    OutOfRange,
    /// Freed though in a hole of the memory map.
    Hole,
    /// Freed though reserved.
    Reserved,
    /// Freed by an address inside a block instead of its head.
    NotHead,
    /// Freed with another order than allocated.
    WrongOrder,
    /// Freed as frames though it belongs to a slab.
    OwnedBySlab,
    /// Freed as frames though it belongs to the heap.
    OwnedByHeap,
    /// Freed by an address that is not an object's first byte.
    NotAnObject,
    /// Freed to another cache than it came from.
    WrongCache,
    /// Freed with another size or alignment than allocated.
    SizeMismatch,
    /// Written after it was freed.
    WriteAfterFree,
    /// Written beyond its ends.
    RedZone,
    /// A cache is destroyed while objects of it live.
    Busy,
    /// A cache is destroyed though free objects of it are in neither slab nor magazine.
    Lost,
    /// kmem's own records contradict each other.
    Corrupted,
    /// Used before it was set up.
    NotInitialized,
}

impl Rule {
    /// The rule in words, to follow the name of an object.
    const fn in_words(self) -> &'static str {
        match self {
            Self::NotAllocated => "freed, but not allocated (freed twice, or never allocated)",
            Self::OutOfRange => "freed, but not kmem's",
            Self::Hole => "freed, but in a hole of the memory map",
            Self::Reserved => "freed, but reserved",
            Self::NotHead => "freed by an address inside its block",
            Self::WrongOrder => "freed with the wrong order",
            Self::OwnedBySlab => "freed as frames, but owned by a slab",
            Self::OwnedByHeap => "freed as frames, but owned by the heap",
            Self::NotAnObject => "freed by an address that is not an object's start",
            Self::WrongCache => "freed to the wrong cache",
            Self::SizeMismatch => "freed with the wrong size or alignment",
            Self::WriteAfterFree => "written after it was freed",
            Self::RedZone => "written beyond its ends",
            Self::Busy => "destroyed while objects live",
            Self::Lost => "free, but neither in its slab nor in a magazine",
            Self::Corrupted => "described by corrupt records",
            Self::NotInitialized => "used before set-up",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_words())
    }
}

/// One side of what was expected and what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Detail<'a> {
    /// Nothing to say.
    #[default]
    Unknown,
    /// An address: the real head, the real base.
    Address(usize),
    /// A size in bytes.
    Bytes(usize),
    /// A number of things.
    Count(usize),
    /// An order.
    Order(Order),
    /// The value of a byte, so many bytes into the object.
    Byte {
        /// Where the byte lies, from the object's first byte; negative before it.
        offset: isize,
        /// What it is.
        value: u8,
    },
    /// A name: a cache, a party.
    Name(&'a str),
}

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown => f.write_str("unknown"),
            Self::Address(address) => write!(f, "{address:#x}"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Order(order) => write!(f, "{order}"),
            Self::Byte { offset, value } => write!(f, "byte {value:#04x} at offset {offset}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// A broken rule: which, by what object, and what should have been there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Violation<'a> {
    /// The rule that was broken.
    pub rule: Rule,
    /// The object's address as it was given: virtual for objects, physical for frames.
    pub address: usize,
    /// What kept to the rule would have been there.
    pub expected: Detail<'a>,
    /// What was there.
    pub found: Detail<'a>,
    /// The name of the object's cache.
    pub cache: Option<&'a str>,
    /// The CPU that found it.
    pub cpu: CpuId,
}

impl<'a> Violation<'a> {
    /// The object at `address` breaks `rule`; found by the boot CPU, nothing more known.
    pub const fn new(rule: Rule, address: usize) -> Self {
        Self {
            rule,
            address,
            expected: Detail::Unknown,
            found: Detail::Unknown,
            cache: None,
            cpu: CpuId::BOOT,
        }
    }

    /// With what should have been there and what was.
    #[must_use]
    pub const fn expected_found(mut self, expected: Detail<'a>, found: Detail<'a>) -> Self {
        self.expected = expected;
        self.found = found;
        self
    }

    /// With the object's cache.
    #[must_use]
    pub const fn in_cache(mut self, name: &'a str) -> Self {
        self.cache = Some(name);
        self
    }

    /// With the CPU that found it.
    #[must_use]
    pub const fn on_cpu(mut self, cpu: CpuId) -> Self {
        self.cpu = cpu;
        self
    }
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kmem: {:#x}", self.address)?;
        if let Some(name) = self.cache {
            write!(f, " of cache {name}")?;
        }
        write!(f, " {}", self.rule)?;
        match (self.expected, self.found) {
            (Detail::Unknown, Detail::Unknown) => {}
            (expected, Detail::Unknown) => write!(f, ": expected {expected}")?,
            (Detail::Unknown, found) => write!(f, ": found {found}")?,
            (expected, found) => write!(f, ": expected {expected}, found {found}")?,
        }
        write!(f, " (CPU {})", self.cpu.index())
    }
}
