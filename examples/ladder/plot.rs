//! The ladder as a picture: nanoseconds a call, one line a manager, workloads from left to right.

use plotters::prelude::*;

use super::workloads::{Cost, Workload};

/// One for each manager.
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
    RGBColor(0, 0, 0),
    RGBColor(188, 189, 34),
    RGBColor(0, 100, 0),
    RGBColor(255, 187, 120),
    RGBColor(140, 86, 220),
    RGBColor(0, 60, 160),
];

/// Draws `results` (manager, workload, cost) into the file `path`.
pub(crate) fn draw(
    path: &str,
    results: &[(&str, &str, Option<Cost>)],
    workloads: &[Workload],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (2000, 800)).into_drawing_area();
    area.fill(&WHITE)?;
    let columns = workloads.len();
    let mut chart = ChartBuilder::on(&area)
        .caption("The ladder of memory managers", ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..columns as f64 + 2.0, (1.0..20_000.0).log_scale())?;
    let name_of = |x: &f64| {
        let whole = x.fract() < 0.01;
        workloads.get(*x as usize).filter(|_| whole).map_or(String::new(), |w| w.name.into())
    };
    chart
        .configure_mesh()
        .x_labels(columns + 3)
        .x_label_style(("sans-serif", 13))
        .x_label_formatter(&name_of)
        .y_desc("nanoseconds a call")
        .draw()?;

    let mut names: Vec<&str> = Vec::new();
    results.iter().for_each(|(name, ..)| {
        if !names.contains(name) {
            names.push(name);
        }
    });
    for (name, colour) in names.into_iter().zip(COLOURS.into_iter().cycle()) {
        let point = |(column, workload): (usize, &Workload)| {
            let result = results.iter().find(|(n, w, _)| *n == name && *w == workload.name)?;
            let cost = result.2?;
            Some((column as f64, cost.nanoseconds as f64 / workload.calls.len() as f64))
        };
        let points: Vec<(f64, f64)> = workloads.iter().enumerate().filter_map(point).collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
