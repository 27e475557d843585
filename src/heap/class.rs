//! Size classes: which object size serves a request.

use core::alloc::Layout;

use crate::frame::{FRAME_SHIFT, FRAME_SIZE};

/// One of the object sizes that the heap keeps a cache for.
///
/// The sizes are 8, the multiples of 16 up to 128, from there four steps a doubling up to a frame,
/// and then eight:
///
/// ```text
///     8    16    32    48    64    80    96   112   128
///   160   192   224   256       320   384   448   512
///   640   768   896  1024      1280  1536  1792  2048
///  2560  3072  3584  4096
///  4608  5120  5632  6144      6656  7168  7680  8192
///  9216 10240 11264 12288     13312 14336 15360 16384
/// ```
///
/// A request of `b` bytes above 64 leaves less than one fifth of its object unused, and less than
/// one ninth above a frame: a step is at most a quarter, or an eighth, of the class below it. The
/// steps are finer above a frame because programs often want one and a header with it. The classes
/// end at four frames because from there on a run of whole frames is as good: more than four frames
/// are at least five, of which less than one stays unused.
///
/// Every class is aligned to the largest power of two that divides it, up to a frame. A request
/// aligned to `a` is served by the class of its size rounded up to a multiple of `a`, and that
/// class is itself a multiple of `a`: above 128 bytes, where steps are `2^k / 4` or `2^k / 8`
/// between `2^k` and `2^(k+1)`, an `a` beyond a step leaves only multiples that are classes; below,
/// `a` divides 128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct SizeClass(u8);

/// Base-two logarithm of the size up to which classes are multiples of [`GRAIN_BYTES`].
const LINEAR_SHIFT: u32 = 7;
/// The step between the smaller classes, and the alignment that every class but the first has.
const GRAIN_BYTES: usize = 16;
/// Index of the class of `1 << LINEAR_SHIFT` bytes.
const LINEAR_LAST: usize = (1 << LINEAR_SHIFT) / GRAIN_BYTES;

/// Base-two logarithm of the steps to a doubling behind it, up to a frame,
const COARSE: u32 = 2;
/// and from there.
const FINE: u32 = 3;
/// Index of the class of a frame.
const FRAME_LAST: usize = LINEAR_LAST + ((FRAME_SHIFT - LINEAR_SHIFT) << COARSE) as usize;

/// Requests below this size find their class in a table. Computing it takes the position of the
/// highest bit, and the instruction for that waits, on x86-64, for whatever its target register
/// held before: in a loop of allocations and frees for the previous one, which made a pair more
/// than twice as slow.
const TABLED_BYTES: usize = 4096;

const _: () = assert!(TABLED_BYTES <= FRAME_SIZE);

/// The class that has a byte at offset `8 * i`, for each `i`: classes end at multiples of eight
/// bytes. A constant, so that the class of a layout that the compiler knows is a constant too.
const TABLE: [SizeClass; TABLED_BYTES / 8] = {
    let mut table = [SizeClass(0); TABLED_BYTES / 8];
    let mut index = 0;
    while index < table.len() {
        if let Some(class) = SizeClass::computed_for_last(8 * index) {
            table[index] = class;
        }
        index += 1;
    }
    table
};

impl SizeClass {
    /// The largest class, in bytes.
    pub const MAX_BYTES: usize = 4 * FRAME_SIZE;

    /// How many classes there are.
    pub const COUNT: usize =
        FRAME_LAST + 1 + ((Self::MAX_BYTES.ilog2() - FRAME_SHIFT) << FINE) as usize;

    /// The smallest class of at least `bytes` bytes; `None` for no bytes, and beyond
    /// [`MAX_BYTES`](Self::MAX_BYTES).
    #[inline]
    pub const fn for_bytes(bytes: usize) -> Option<Self> {
        Self::for_last(bytes.wrapping_sub(1))
    }

    /// The class that serves `layout`; `None` if it has no bytes, or takes a run of frames: more
    /// than [`MAX_BYTES`](Self::MAX_BYTES), or aligned to more than a frame.
    #[inline]
    pub const fn for_layout(layout: Layout) -> Option<Self> {
        // The offset of the last byte once the size is rounded up to the alignment; without bytes
        // the largest offset there is, which no class has.
        let last = layout.size().wrapping_sub(1) | (layout.align() - 1);
        if layout.align() > FRAME_SIZE { None } else { Self::for_last(last) }
    }

    /// [`for_layout`](Self::for_layout) of requests that a table answers alone: up to
    /// [`TABLED_BYTES`].
    #[inline(always)]
    pub(super) const fn tabled(layout: Layout) -> Option<Self> {
        let last = layout.size().wrapping_sub(1) | (layout.align() - 1);
        // No alignment beyond a frame passes: the table ends there.
        if last < TABLED_BYTES { Some(TABLE[last / 8]) } else { None }
    }

    /// The smallest class that has a byte at offset `last`.
    #[inline]
    const fn for_last(last: usize) -> Option<Self> {
        if last < TABLED_BYTES { Some(TABLE[last / 8]) } else { Self::computed_for_last(last) }
    }

    /// The same, without the table.
    const fn computed_for_last(last: usize) -> Option<Self> {
        if last < 1 << LINEAR_SHIFT {
            let index = if last < 8 { 0 } else { last / GRAIN_BYTES + 1 };
            return Some(Self(index as u8));
        }
        if last >= Self::MAX_BYTES {
            return None;
        }
        // The highest bit says in which doubling the byte lies, those below it in which part of
        // that.
        let doubling = last.ilog2();
        let (before, first, parts) = if doubling < FRAME_SHIFT {
            (LINEAR_LAST, LINEAR_SHIFT, COARSE)
        } else {
            (FRAME_LAST, FRAME_SHIFT, FINE)
        };
        let part = (last >> (doubling - parts)) & ((1 << parts) - 1);
        let index = before + 1 + ((doubling - first) << parts) as usize + part;
        Some(Self(index as u8))
    }

    /// The class with this index, or `None` from [`COUNT`](Self::COUNT) on.
    #[inline]
    pub const fn new(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index as u8)) } else { None }
    }

    /// This class's place in the order of sizes, below [`COUNT`](Self::COUNT).
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes of an object of this class.
    #[inline]
    pub const fn bytes(self) -> usize {
        BYTES[self.index()] as usize
    }

    /// What every object of this class is aligned to, in bytes.
    #[inline]
    pub const fn align(self) -> usize {
        let natural = 1 << self.bytes().trailing_zeros();
        if natural < FRAME_SIZE { natural } else { FRAME_SIZE }
    }

    /// The name of this class's cache, as `slabinfo` shows it.
    pub const fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// All classes, the smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..Self::COUNT as u8).map(Self)
    }
}

/// Bytes of each class: derived, so that the rule stands in one place. Classes end at multiples of
/// eight bytes, and the last byte of a class comes last here.
const BYTES: [u16; SizeClass::COUNT] = {
    let mut table = [0; SizeClass::COUNT];
    let mut end = 8;
    while end <= SizeClass::MAX_BYTES {
        if let Some(class) = SizeClass::computed_for_last(end - 1) {
            table[class.index()] = end as u16;
        }
        end += 8;
    }
    table
};

/// Names of the caches.
#[rustfmt::skip]
const NAMES: [&str; SizeClass::COUNT] = [
    "heap-8", "heap-16", "heap-32", "heap-48", "heap-64", "heap-80", "heap-96", "heap-112", "heap-128",
    "heap-160", "heap-192", "heap-224", "heap-256", "heap-320", "heap-384", "heap-448", "heap-512",
    "heap-640", "heap-768", "heap-896", "heap-1024", "heap-1280", "heap-1536", "heap-1792", "heap-2048",
    "heap-2560", "heap-3072", "heap-3584", "heap-4096",
    "heap-4608", "heap-5120", "heap-5632", "heap-6144", "heap-6656", "heap-7168", "heap-7680", "heap-8192",
    "heap-9216", "heap-10240", "heap-11264", "heap-12288", "heap-13312", "heap-14336", "heap-15360", "heap-16384",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_rule_says() {
        // The rule, said another way than the code says it.
        let mut rule = std::vec![8];
        rule.extend((1..=8).map(|i| 16 * i));
        for doubling in [128, 256, 512, 1024, 2048] {
            rule.extend((1..=4).map(|quarter| doubling + quarter * doubling / 4));
        }
        for doubling in [4096, 8192] {
            rule.extend((1..=8).map(|part| doubling + part * doubling / 8));
        }
        let table: std::vec::Vec<usize> = SizeClass::all().map(SizeClass::bytes).collect();
        assert_eq!(table, rule);
    }

    #[test]
    fn a_request_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=SizeClass::MAX_BYTES {
            let class = SizeClass::for_bytes(bytes).expect("has a class");
            let smallest = SizeClass::all().find(|class| class.bytes() >= bytes);
            assert_eq!(Some(class), smallest, "{bytes} bytes");
        }
        for bytes in [0, SizeClass::MAX_BYTES + 1, isize::MAX as usize, usize::MAX] {
            assert_eq!(SizeClass::for_bytes(bytes), None, "{bytes} bytes");
        }
    }

    #[test]
    fn at_most_a_fifth_is_unused_above_64_bytes() {
        for bytes in 65..=SizeClass::MAX_BYTES {
            let object = SizeClass::for_bytes(bytes).expect("has a class").bytes();
            let part = if bytes > FRAME_SIZE { 9 } else { 5 };
            assert!(part * (object - bytes) < object, "{bytes} in {object}");
        }
        // And in a run of frames, from the first size that has no class. Beyond the sizes tried
        // here the frame that may stay empty is an ever smaller part.
        for bytes in SizeClass::MAX_BYTES + 1..=64 * FRAME_SIZE {
            let run = bytes.next_multiple_of(FRAME_SIZE);
            assert!(5 * (run - bytes) <= run, "{bytes} in {run}");
        }
    }

    #[test]
    fn the_classes_end_where_a_run_wastes_no_more() {
        // One frame earlier, a run would break the bound that classes keep.
        let bytes = SizeClass::MAX_BYTES - FRAME_SIZE + 1;
        let run = bytes.next_multiple_of(FRAME_SIZE);
        assert!(5 * (run - bytes) > run);
    }

    #[test]
    fn the_class_of_a_layout_has_its_alignment() {
        for align in (0..=12).map(|shift| 1 << shift) {
            for size in 1..=SizeClass::MAX_BYTES {
                let layout = Layout::from_size_align(size, align).expect("valid");
                let Some(class) = SizeClass::for_layout(layout) else {
                    assert!(size.next_multiple_of(align) > SizeClass::MAX_BYTES);
                    continue;
                };
                assert!(class.bytes() >= size, "{layout:?} in {class:?}");
                assert!(class.align() >= align, "{layout:?} in {class:?}");
            }
        }
    }

    #[test]
    fn no_class_serves_no_bytes_nor_alignment_beyond_a_frame() {
        let layout = Layout::from_size_align(8, 2 * FRAME_SIZE).expect("valid");
        assert_eq!(SizeClass::for_layout(layout), None);
        let empty = Layout::from_size_align(0, 16).expect("valid");
        assert_eq!(SizeClass::for_layout(empty), None);
        let largest = Layout::from_size_align(isize::MAX as usize, 1).expect("valid");
        assert_eq!(SizeClass::for_layout(largest), None);
    }

    #[test]
    fn names_carry_the_sizes() {
        for class in SizeClass::all() {
            assert_eq!(class.name(), std::format!("heap-{}", class.bytes()));
        }
    }

    #[test]
    fn an_index_is_a_class() {
        for class in SizeClass::all() {
            assert_eq!(SizeClass::new(class.index()), Some(class));
        }
        assert_eq!(SizeClass::new(SizeClass::COUNT), None);
    }
}
