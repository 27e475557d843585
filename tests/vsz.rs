//! The experiment of `examples/vsz` finds what its explanations say.

#![cfg(feature = "mmap")]

#[path = "../examples/vsz/observe.rs"]
mod observe;

use observe::{Findings, addresses};

const PAGE: u64 = 4096;

// One test: a second one at the same time would show in the sizes of the process.
#[test]
fn a_page_takes_addresses_then_memory_and_lengthens_one_line_of_the_map() {
    let Findings { steps, page, lines } = observe::findings();
    let sizes = steps.map(|(_, _, sizes)| sizes);
    let base = sizes[0];
    let grown = sizes.map(|sizes| {
        (sizes.virtual_bytes - base.virtual_bytes, sizes.resident_bytes - base.resident_bytes)
    });
    assert_eq!(grown, [(0, 0), (PAGE, 0), (PAGE, 0), (PAGE, PAGE), (0, 0)]);

    let [before, with, after] = lines.map(|(_, lines)| lines);
    let bytes = |lines: &[String]| -> usize {
        lines.iter().map(|line| addresses(line).expect("a range").len()).sum()
    };
    let [line] = &with[..] else { panic!("{with:?}") };
    assert!(addresses(line).expect("a range").contains(&page), "{line}");
    assert!(line.contains(" rw-p "), "{line}");
    assert_eq!(bytes(&with), bytes(&before) + PAGE as usize);
    assert_eq!(after, before);
}
