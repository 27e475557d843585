//! The experiment of `examples/vsz` finds what its explanations say.

#![cfg(feature = "mmap")]

#[path = "../examples/vsz/observe.rs"]
mod observe;

const PAGE: u64 = 4096;

#[test]
fn mapping_takes_addresses_and_writing_takes_memory() {
    let sizes = observe::steps().map(|(_, _, sizes)| sizes);
    let base = sizes[0];
    let grown = sizes.map(|sizes| {
        (sizes.virtual_bytes - base.virtual_bytes, sizes.resident_bytes - base.resident_bytes)
    });
    assert_eq!(grown, [(0, 0), (PAGE, 0), (PAGE, 0), (PAGE, PAGE), (0, 0)]);
}
