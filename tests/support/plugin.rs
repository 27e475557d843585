//! A library to be opened and closed while the program runs, with an allocator of its own.

use kmem::host::MmapAllocator;

#[global_allocator]
static KMEM: MmapAllocator = MmapAllocator::new();

/// Makes so many strings; the length of all.
#[unsafe(no_mangle)]
pub extern "C" fn work(strings: usize) -> usize {
    let strings: Vec<String> = (0..strings).map(|number| number.to_string()).collect();
    strings.iter().map(String::len).sum()
}
