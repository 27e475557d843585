//! How the library is linked.

fn main() {
    // Threads that end call into it, also after a `dlclose`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // The order of the code.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    // Not behind `-Wl`, which splits at commas: a path may have some.
    println!("cargo::rustc-cdylib-link-arg=-T");
    println!("cargo::rustc-cdylib-link-arg={here}/rare.ld");
    println!("cargo::rerun-if-changed=rare.ld");
    println!("cargo::rerun-if-changed=build.rs");
}
