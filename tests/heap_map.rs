//! The pictures of `examples/heap_map` show all of memory, at every time.

#[path = "../examples/heap_map/day.rs"]
mod day;
#[path = "../examples/heap_map/draw.rs"]
mod draw;
#[path = "../examples/heap_map/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;

use day::{USES, cells};

#[test]
fn a_day_is_drawn_cell_by_cell_and_frame_by_frame() {
    let day = day::day();
    let sums: Vec<usize> = day.samples.iter().map(|sample| sample.frames.iter().sum()).collect();
    assert_eq!(sums.len(), day::SAMPLES + 1);
    assert!(sums[0] > 16_000 && sums.iter().all(|&sum| sum == sums[0]), "{sums:?}");
    let uses = |number: usize, of: char| {
        let column = USES.iter().position(|&known| known == of).expect("a use");
        day.samples[number].frames[column]
    };
    for used in ['F', 'S', 'H'] {
        let (noon, evening) = (uses(day::SAMPLES / 4, used), uses(day::SAMPLES, used));
        assert!(evening > 0 && noon > evening, "{used}: {noon}, then {evening}");
    }
    for sample in &day.samples {
        assert!(sample.broken_frames <= sample.frames[USES.len() - 1], "{sample:?}");
    }

    let drawn = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let path = |name: &str| drawn(name).to_str().expect("a path").to_owned();
    draw::maps(&path("heap_map.svg"), &day.maps).expect("a drawing");
    draw::over_time(&path("occupancy.svg"), &day).expect("a drawing");
    let rectangles = |name: &str| {
        let text = fs::read_to_string(drawn(name)).expect("a drawing");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{name}");
        text.matches("<rect").count()
    };
    let in_maps: usize = day.maps.iter().map(|(_, map)| cells(map).flatten().count()).sum();
    let background_and_legend = 1 + 8;
    assert_eq!(rectangles("heap_map.svg"), in_maps + background_and_legend);
    assert!(rectangles("occupancy.svg") >= day.samples.len() * USES.len());
}

#[test]
fn the_key_of_a_printed_map_explains_each_use() {
    let key = draw::key();
    for known in USES.into_iter().chain([':', '+']) {
        assert_eq!(key.matches(&format!("\n  {known}  ")).count(), 1, "{known}: {key}");
    }
}
