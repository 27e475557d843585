//! Bars of every case, as SVG: one panel a case, kmem in its own colour.

use std::{error::Error, path::Path};

use plotters::prelude::*;

use crate::{Row, Table, report::figure};

const WIDTH: u32 = 900;
const BAR: i32 = 18;
const HEADING: i32 = 34;
const LABELS: i32 = 220;
const BARS: i32 = 560;
const KMEM: RGBColor = RGBColor(0xC4, 0x4E, 0x1F);
const PEER: RGBColor = RGBColor(0x7A, 0x8C, 0x9E);

/// Writes the panels of `tables` to `path`.
pub fn bars(path: &Path, title: &str, machine: &str, tables: &[Table]) -> Result<(), String> {
    draw(path, title, machine, tables).map_err(|error| error.to_string())
}

fn draw(path: &Path, title: &str, machine: &str, tables: &[Table]) -> Result<(), Box<dyn Error>> {
    let rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    let height = 2 * HEADING + tables.len() as i32 * HEADING + rows as i32 * BAR;
    let area = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let heading = ("sans-serif", 16).into_font();
    let small = ("sans-serif", 12).into_font();
    area.draw(&Text::new(format!("{title}: less is better"), (10, 10), heading))?;
    area.draw(&Text::new(machine, (10, 32), small.clone()))?;
    let mut y = HEADING + 24;
    for table in tables {
        let caption = format!("{} ({})", table.case, table.unit);
        area.draw(&Text::new(caption, (10, y + 12), ("sans-serif", 14).into_font()))?;
        y += HEADING;
        let mut rows: Vec<&Row> = table.rows.iter().collect();
        rows.sort_by(|a, b| a.value.total_cmp(&b.value));
        let most = rows.last().map_or(1.0, |row| row.value);
        let least = rows.first().map_or(1.0, |row| row.value);
        for row in rows {
            let colour = if row.peer.starts_with("kmem") { KMEM } else { PEER };
            let end = LABELS + bar_length(row.value, least, most);
            area.draw(&Text::new(row.peer.clone(), (20, y + 2), small.clone()))?;
            let corners = [(LABELS, y + 2), (end, y + BAR - 3)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            area.draw(&Text::new(figure(row.value), (end + 6, y + 2), small.clone()))?;
            y += BAR;
        }
    }
    area.present()?;
    Ok(())
}

/// Linear while the figures lie within a factor of 20, logarithmic beyond.
fn bar_length(value: f64, least: f64, most: f64) -> i32 {
    let least = least.max(1e-3);
    let share = if most / least <= 20.0 {
        value / most.max(1e-3)
    } else {
        let decades = (most / least).log10() + 0.3;
        ((value.max(least) / least).log10() + 0.3) / decades
    };
    (share * f64::from(BARS)).round().max(1.0) as i32
}
