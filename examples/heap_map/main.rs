//! Draws what kmem's memory looks like: heap maps, and occupancy and fragmentation in the course of
//! a day of rising and falling load.
//!
//! ```sh
//! cargo run --release --example heap_map    # target/heap_map.svg, target/occupancy.svg
//! ```

#[path = "../common/mod.rs"]
mod common;
mod day;
mod draw;
mod machine;

const MAPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/heap_map.svg");
const OCCUPANCY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/occupancy.svg");

fn main() -> std::process::ExitCode {
    common::run("heap_map    prints and draws what memory is used for in a day", 0, |_| draw())
}

fn draw() -> Result<(), Box<dyn std::error::Error>> {
    common::make_folder_of(MAPS)?;
    let day = day::day();
    for (when, map) in &day.maps {
        println!("Memory {when}:\n{map}");
    }
    println!("{}", draw::key());
    draw::maps(MAPS, &day.maps)?;
    draw::over_time(OCCUPANCY, &day)?;
    println!("drawn: {MAPS}\ndrawn: {OCCUPANCY}");
    Ok(())
}
