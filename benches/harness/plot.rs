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
        let mut rows: Vec<&Row> = table.rows.iter().collect();
        rows.sort_by(|a, b| a.value.total_cmp(&b.value));
        let scale = Scale::of(rows.iter().map(|row| row.value));
        let caption = format!("{} ({}{})", table.case, table.unit, scale.remark());
        area.draw(&Text::new(caption, (10, y + 12), ("sans-serif", 14).into_font()))?;
        y += HEADING;
        for row in rows {
            let colour = if row.peer.starts_with("kmem") { KMEM } else { PEER };
            let end = LABELS + scale.bar_length(row.value);
            area.draw(&Text::new(row.peer.clone(), (20, y + 4), small.clone()))?;
            let corners = [(LABELS, y + 2), (end, y + BAR - 3)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            area.draw(&Text::new(figure(row.value), (end + 6, y + 4), small.clone()))?;
            y += BAR;
        }
    }
    area.present()?;
    Ok(())
}

/// How long the bars of a panel are.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Scale {
    /// The longest value is the whole length.
    Linear { most: f64 },
    /// The shortest value is a third of a decade, so that its bar is seen.
    Logarithmic { least: f64, most: f64 },
}

impl Scale {
    /// Linear while the figures lie within a factor of 20, logarithmic beyond.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
        let most = values.fold(0.0, f64::max).max(1e-3);
        if most / least <= 20.0 { Self::Linear { most } } else { Self::Logarithmic { least, most } }
    }

    /// To follow the unit: lengths of a logarithmic scale must not be compared by eye.
    fn remark(self) -> &'static str {
        match self {
            Self::Linear { .. } => "",
            Self::Logarithmic { .. } => ", logarithmic",
        }
    }

    fn bar_length(self, value: f64) -> i32 {
        let share = match self {
            Self::Linear { most } => value / most,
            Self::Logarithmic { least, most } => {
                let decades = |value: f64| (value.max(least) / least).log10() + 1.0 / 3.0;
                decades(value) / decades(most)
            }
        };
        (share * f64::from(BARS)).round().max(1.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_far_apart_are_drawn_on_a_scale_that_says_so() {
        let near = Scale::of([1.0, 7.0, 20.0].into_iter());
        assert_eq!(near, Scale::Linear { most: 20.0 });
        assert_eq!([1.0, 10.0, 20.0].map(|value| near.bar_length(value)), [28, 280, BARS]);
        assert_eq!(near.remark(), "");
        let far = Scale::of([1.0, 7.0, 100.0].into_iter());
        assert_eq!([1.0, 10.0, 100.0].map(|value| far.bar_length(value)), [80, 320, BARS]);
        assert!(far.remark().contains("logarithmic"));
        // Where all are nothing.
        assert_eq!(Scale::of([0.0, 0.0].into_iter()).bar_length(0.0), 1);
    }
}
