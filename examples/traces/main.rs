//! Prints the step-by-step traces of the lectures.
//!
//! ```sh
//! cargo run --features mmap --example traces
//! ```

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "nothing is drawn")]
mod common;
#[path = "../ladder/managers/mod.rs"]
#[expect(dead_code, reason = "of the managers only the chunks are traced")]
mod managers;
#[path = "../ladder/traces.rs"]
mod traces;

/// Where the lecture's heap happened to lie.
const BASE: usize = 0x555_5555_9000;

fn main() -> std::process::ExitCode {
    common::run("traces    prints the traces of the lectures, step by step", 0, |_| {
        print();
        Ok(())
    })
}

fn print() {
    println!("Buddies: 1 MiB in blocks of 64 KiB times powers of two\n");
    println!("{}", traces::buddy_blocks());
    println!("The same blocks by the fields of a buddy structure\n");
    println!("{}", traces::buddy_fields());
    println!("First fit: five mallocs, and frees among them\n");
    println!("{}", traces::five_mallocs());
    let (before, after) = traces::five_chunks(BASE);
    println!("Boundary tags: five chunks, then all of them freed\n");
    print!("{before}{after}");
}
