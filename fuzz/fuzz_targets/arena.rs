#![no_main]

libfuzzer_sys::fuzz_target!(|calls: &[u8]| kmem_fuzz::arena::run(calls));
