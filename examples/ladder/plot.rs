//! The ladder as a picture: nanoseconds a call, one line a manager, workloads from left to right.

use plotters::prelude::*;

use super::workloads::{Cost, Workload};

const WIDTH: u32 = 2000;
/// The names of the lines, to the right of the chart.
const LEGEND_WIDTH: u32 = 170;
const LEGEND_LINE: i32 = 24;

/// One for each manager; the last three are libc, kmem and its arena.
const COLOURS: [RGBColor; 15] = [
    RGBColor(228, 26, 28),
    RGBColor(255, 127, 0),
    RGBColor(166, 86, 40),
    RGBColor(247, 129, 191),
    RGBColor(77, 175, 74),
    RGBColor(55, 126, 184),
    RGBColor(152, 78, 163),
    RGBColor(153, 153, 153),
    RGBColor(23, 190, 207),
    RGBColor(110, 0, 40),
    RGBColor(188, 189, 34),
    RGBColor(0, 100, 0),
    RGBColor(0, 40, 200),
    RGBColor(0, 0, 0),
    RGBColor(255, 187, 120),
];

/// The two that the others are compared with stand out.
fn line_width(name: &str) -> u32 {
    if matches!(name, "libc" | "kmem") { 4 } else { 2 }
}

/// Draws `results` (manager, workload, cost) into the file `path`.
pub(crate) fn draw(
    path: &str,
    results: &[(&str, &str, Option<Cost>)],
    workloads: &[Workload],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (WIDTH, 800)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(WIDTH - LEGEND_WIDTH);
    let columns = workloads.len();
    let mut chart = ChartBuilder::on(&left)
        .caption("The ladder of memory managers: nanoseconds a call", ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.5..columns as f64 - 0.5, (1.0..20_000.0).log_scale())?;
    let name_of = |x: &f64| {
        let is_whole = (x - x.round()).abs() < 0.01;
        let workload = workloads.get(x.round() as usize);
        workload.filter(|_| is_whole).map_or(String::new(), |workload| workload.name.into())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(columns + 1)
        .x_label_style(("sans-serif", 14))
        .x_label_formatter(&name_of)
        .y_label_style(("sans-serif", 14))
        .y_label_formatter(&|nanoseconds| format!("{nanoseconds:.0}"))
        .y_desc("nanoseconds a call, logarithmic")
        .draw()?;

    let mut names: Vec<&str> = Vec::new();
    results.iter().for_each(|(name, ..)| {
        if !names.contains(name) {
            names.push(name);
        }
    });
    for ((number, name), colour) in names.into_iter().enumerate().zip(COLOURS.into_iter().cycle()) {
        let point = |(column, workload): (usize, &Workload)| {
            let result = results.iter().find(|(n, w, _)| *n == name && *w == workload.name)?;
            let cost = result.2?;
            Some((column as f64, cost.nanoseconds as f64 / workload.calls.len() as f64))
        };
        let points: Vec<(f64, f64)> = workloads.iter().enumerate().filter_map(point).collect();
        let style = colour.stroke_width(line_width(name));
        chart.draw_series(LineSeries::new(points, style).point_size(3))?;
        let y = 60 + number as i32 * LEGEND_LINE;
        right.draw(&PathElement::new([(0, y), (28, y)], style))?;
        right.draw(&Text::new(name, (38, y - 7), ("sans-serif", 16)))?;
    }
    area.present()?;
    Ok(())
}
