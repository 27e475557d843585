//! What the system says of this process's memory.

/// The addresses of this process, in bytes.
pub(crate) fn address_bytes() -> usize {
    let numbers = std::fs::read_to_string("/proc/self/statm").expect("this process's numbers");
    let pages: usize = numbers.split(' ').next().expect("one").parse().expect("a number");
    pages * 4096
}
