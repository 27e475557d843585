//! Memory is had when the program is over, and its last destructors run.

#[path = "support/statm.rs"]
mod statm;

use std::alloc::Layout;
use std::process::Command;
use std::{env, slice};

use kmem::AllocFlags;
use kmem::host::MmapAllocator;
use statm::address_bytes;

const KMEM: MmapAllocator = MmapAllocator::new();

/// Set in the copy of this program whose end is the test.
const COPY: &str = "KMEM_TEST_OF_THE_END";

/// More than is opened at once.
const BYTES: usize = 256 << 20;

/// Less than what is reserved.
const LEFT_BYTES: usize = 1 << 30;

fn use_much() {
    let layout = Layout::from_size_align(BYTES, 16).expect("valid");
    let block = KMEM.allocate(layout, AllocFlags::ZERO).expect("memory").cast();
    // SAFETY: the block is this function's, and has so many bytes, all of them zero.
    let bytes = unsafe { slice::from_raw_parts_mut(block.as_ptr(), BYTES) };
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte += 1);
    assert_eq!(
        bytes.iter().step_by(4096).map(|&byte| usize::from(byte)).sum::<usize>(),
        BYTES / 4096
    );
    // SAFETY: allocated above, and not used any more.
    unsafe { KMEM.deallocate(block) }.expect("it was allocated");
    KMEM.verify().expect("sound");
}

extern "C" fn at_end() {
    if env::var_os(COPY).is_some() {
        assert!(address_bytes() < LEFT_BYTES, "the allocator has not come to its end yet");
        use_much();
        println!("served at the end");
    }
}

/// Of what lies in this section, what is linked first runs last.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

#[test]
fn memory_can_be_had_after_the_addresses_that_were_never_opened_were_given_back() {
    let layout = Layout::new::<u64>();
    KMEM.allocate(layout, AllocFlags::empty()).expect("memory");
    if env::var_os(COPY).is_some() {
        return;
    }
    assert!(address_bytes() > LEFT_BYTES, "nothing is reserved");
    let mut copy = Command::new(env::current_exe().expect("a path"));
    let output = copy.arg("--nocapture").env(COPY, "1").output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("served at the end"), "{output:?}");
}
