//! Virtual and resident size: what mapping a page costs, what touching it costs, and the piece of
//! the process's memory that the page becomes.
//!
//! ```sh
//! cargo run --features mmap --example vsz
//! ```

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "nothing is drawn")]
mod common;
mod observe;

fn main() -> std::process::ExitCode {
    common::run("vsz    shows what a mapping costs before and after it is touched", 0, |_| {
        print();
        Ok(())
    })
}

fn print() {
    println!("{:<26} {:>12} {:>12}   why", "step", "virtual KiB", "resident KiB");
    let mut before = None;
    let findings = observe::findings();
    for (step, why, sizes) in findings.steps {
        let change = |now: u64, then: u64| now as i64 / 1024 - then as i64 / 1024;
        let (more_virtual, more_resident) = before.map_or((0, 0), |before: observe::Sizes| {
            (
                change(sizes.virtual_bytes, before.virtual_bytes),
                change(sizes.resident_bytes, before.resident_bytes),
            )
        });
        println!(
            "{step:<26} {:>7} {more_virtual:>+4} {:>7} {more_resident:>+4}   {why}",
            sizes.virtual_bytes / 1024,
            sizes.resident_bytes / 1024,
        );
        before = Some(sizes);
    }

    println!("\nThe page lies at {:x}. Of its line, /proc/self/maps says", findings.page);
    for (when, lines) in findings.lines {
        println!("\n{when}:");
        match &lines[..] {
            [] => println!("  nothing"),
            lines => lines.iter().for_each(|line| println!("  {line}")),
        }
    }
}
