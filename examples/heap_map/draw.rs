//! Maps and samples, as SVG.

use std::error::Error;

use plotters::prelude::*;

use super::day::{CELL_KIB, Day, SAMPLES, USES, cells};

/// A cell of a map, in pixels, and the head of a map above its cells.
const CELL: i32 = 12;
const HEAD: i32 = 40;
const MARGIN: i32 = 16;
const COLUMNS: i32 = 64;

/// What a character of a map says, and its colour.
const LEGEND: [(char, &str, RGBColor); 10] = [
    ('R', "reserved", RGBColor(120, 120, 120)),
    ('F', "frames in use", RGBColor(31, 119, 180)),
    ('S', "slabs", RGBColor(44, 160, 44)),
    ('H', "page runs of the heap", RGBColor(148, 103, 189)),
    ('c', "on a CPU", RGBColor(255, 187, 120)),
    ('.', "available", RGBColor(224, 230, 236)),
    (':', "several, half or more available", RGBColor(168, 205, 232)),
    ('+', "several, less available", RGBColor(110, 160, 182)),
    (' ', "no memory", WHITE),
    ('!', "damaged", RGBColor(214, 39, 40)),
];

/// What a sound machine shows; holes stay white.
const SHOWN: &[(char, &str, RGBColor)] = LEGEND.first_chunk::<8>().expect("ten entries");

fn legend(character: char) -> (&'static str, RGBColor) {
    let entry = LEGEND.iter().find(|(known, ..)| *known == character);
    entry.map_or(("unknown", BLACK), |&(_, what, colour)| (what, colour))
}

/// What the characters of a printed map say.
pub(crate) fn key() -> String {
    let uses = SHOWN.iter().map(|(character, what, _)| format!("  {character}  {what}\n"));
    format!("One character stands for {CELL_KIB} KiB:\n{}", uses.collect::<String>())
}

/// Draws every map, one below the other, into the file `path`.
pub(crate) fn maps(path: &str, maps: &[(&str, String)]) -> Result<(), Box<dyn Error>> {
    let lines: i32 = maps.iter().map(|(_, map)| cells(map).count() as i32).sum();
    let height = HEAD * (maps.len() as i32 + 2) + CELL * lines;
    let size = ((2 * MARGIN + COLUMNS * CELL) as u32, height as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let mut y = MARGIN;
    for (when, map) in maps {
        area.draw(&Text::new(format!("Memory {when}"), (MARGIN, y), ("sans-serif", 16)))?;
        y += HEAD - MARGIN;
        for line in cells(map) {
            for (column, cell) in line.enumerate() {
                let x = MARGIN + column as i32 * CELL;
                let corners = [(x, y), (x + CELL - 1, y + CELL - 1)];
                area.draw(&Rectangle::new(corners, legend(cell).1.filled()))?;
            }
            y += CELL;
        }
        y += MARGIN;
    }
    let scale = format!("One cell stands for {CELL_KIB} KiB; addresses ascend line by line.");
    area.draw(&Text::new(scale, (MARGIN, y), ("sans-serif", 12)))?;
    y += 24;
    for (number, &(_, what, colour)) in SHOWN.iter().enumerate() {
        let (column, row) = (number as i32 % 4, number as i32 / 4);
        let (x, y) = (MARGIN + column * 190, y + row * 20);
        area.draw(&Rectangle::new([(x, y), (x + CELL, y + CELL)], colour.filled()))?;
        area.draw(&Text::new(what, (x + CELL + 4, y), ("sans-serif", 12)))?;
    }
    area.present()?;
    Ok(())
}

/// Draws what memory was used for in the course of the day, and how much of what was available lay
/// in blocks too short for 2 MiB, into the file `path`.
pub(crate) fn over_time(path: &str, day: &Day) -> Result<(), Box<dyn Error>> {
    let hour = |number: usize| 24.0 * number as f64 / SAMPLES as f64;
    let area = SVGBackend::new(path, (900, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(700);
    let mut chart = ChartBuilder::on(&left)
        .caption("Memory in the course of a day", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..hour(SAMPLES + 1), 0.0..100.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(13)
        .x_label_formatter(&|hour| format!("{hour:.0}"))
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .x_desc("hour")
        .y_desc("% of memory")
        .draw()?;
    let percent =
        |frames: usize, of: &[usize]| 100.0 * frames as f64 / of.iter().sum::<usize>() as f64;
    for (kind, character) in USES.into_iter().enumerate() {
        let (what, colour) = legend(character);
        let column = |(number, sample): (usize, &super::day::Sample)| {
            let (below, to) = (&sample.frames[..kind], &sample.frames[..=kind]);
            let corner = |x, frames: &[usize]| (x, percent(frames.iter().sum(), &sample.frames));
            let corners = [corner(hour(number), below), corner(hour(number + 1), to)];
            Rectangle::new(corners, colour.filled())
        };
        chart.draw_series(day.samples.iter().enumerate().map(column))?;
        // As they lie upon each other in the chart.
        let y = 120 + (USES.len() - kind) as i32 * 22;
        right.draw(&Rectangle::new([(0, y - 6), (12, y + 6)], colour.filled()))?;
        right.draw(&Text::new(what, (20, y - 6), ("sans-serif", 12)))?;
    }
    let broken = day
        .samples
        .iter()
        .enumerate()
        .map(|(number, sample)| (hour(number), percent(sample.broken_frames, &sample.frames)));
    chart.draw_series(LineSeries::new(broken, RED.stroke_width(2)))?;
    let y = 120;
    right.draw(&PathElement::new([(0, y), (12, y)], RED.stroke_width(2)))?;
    right.draw(&Text::new("available, not for 2 MiB", (20, y - 6), ("sans-serif", 12)))?;
    area.present()?;
    Ok(())
}
