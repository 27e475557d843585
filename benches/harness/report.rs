//! The tables on the terminal, the same as CSV, the rows of README's table.

use std::{fmt::Write as _, fs, path::PathBuf};

use comfy_table::{CellAlignment, presets};

use crate::{Options, machine, plot};

/// One allocator's figures in one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// The allocator.
    pub peer: String,
    /// The figure; smaller is better.
    pub value: f64,
    /// The fifth percentile, where there is a series of samples.
    pub low: Option<f64>,
    /// The figure as a multiple of the best peer's.
    pub ratio: Option<f64>,
    /// How many samples there were.
    pub samples: usize,
}

/// One case: what every allocator needed for the same work.
#[derive(Clone, Debug)]
pub struct Table {
    /// What was measured.
    pub case: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// One row an allocator.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table of one figure for each name, without a series of samples.
    pub fn of_values(case: &str, unit: &'static str, values: Vec<(String, f64)>) -> Self {
        let row = |(peer, value)| Row { peer, value, low: None, ratio: None, samples: 1 };
        let rows = values.into_iter().map(row).collect();
        let mut table = Self { case: case.to_owned(), unit, rows };
        if let Some(best) = table.best_peer().map(|best| best.value) {
            table.rows.iter_mut().for_each(|row| row.ratio = Some(row.value / best));
        }
        table
    }

    fn best_peer(&self) -> Option<&Row> {
        self.rows
            .iter()
            .filter(|row| !row.peer.starts_with("kmem"))
            .min_by(|a, b| a.value.total_cmp(&b.value))
    }

    fn print(&self) {
        let timed = self.rows.iter().any(|row| row.low.is_some());
        let mut table = comfy_table::Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let middle = if timed { "median, " } else { "" };
        let mut header =
            vec![self.case.clone(), format!("{middle}{}", self.unit), "of best peer".to_owned()];
        if timed {
            header.extend(["5 %".to_owned(), "samples".to_owned()]);
        }
        table.set_header(header);
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| a.value.total_cmp(&b.value));
        for row in rows {
            let optional = |value: Option<f64>| value.map_or_else(String::new, figure);
            let mut cells = vec![row.peer.clone(), figure(row.value), optional(row.ratio)];
            if timed {
                cells.extend([optional(row.low), row.samples.to_string()]);
            }
            table.add_row(cells);
        }
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}\n");
    }

    /// This case as a row of README's table: one for each entry of kmem's.
    fn print_markdown(&self) {
        for kmem in self.rows.iter().filter(|row| row.peer.starts_with("kmem")) {
            let entry = match kmem.peer.strip_prefix("kmem") {
                Some("") | None => String::new(),
                Some(variant) => format!(" ({})", variant.trim_matches([' ', ','])),
            };
            let (peer, ratio) = match (self.best_peer(), kmem.ratio) {
                (Some(best), Some(ratio)) => {
                    (format!("{}: {} {}", best.peer, figure(best.value), self.unit), figure(ratio))
                }
                _ => ("–".to_owned(), "–".to_owned()),
            };
            println!(
                "| {}{entry} | {} {} | {peer} | {ratio} |",
                self.case,
                figure(kmem.value),
                self.unit
            );
        }
    }
}

/// A number with three significant digits, or all of those before the point.
pub fn figure(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Everything that one benchmark found.
#[derive(Debug)]
pub struct Report {
    question: &'static str,
    machine: String,
    tables: Vec<Table>,
    markdown: bool,
    list: bool,
}

impl Report {
    /// An empty report on `question`, which is also the name of its files.
    pub fn new(question: &'static str, options: &Options) -> Self {
        let report = Self {
            question,
            machine: machine::line(),
            tables: Vec::new(),
            markdown: options.markdown,
            list: options.list,
        };
        if !report.markdown && !report.list {
            println!("{question}, on {}\n", report.machine);
        }
        report
    }

    /// Takes up a case, and shows it at once.
    pub fn add(&mut self, table: Table) {
        if self.markdown {
            table.print_markdown();
        } else {
            table.print();
        }
        self.tables.push(table);
    }

    /// Writes `target/bench/QUESTION.csv` and `.svg`; ends the process with a failure where
    /// something was asked for that there is not.
    pub fn finish(self, options: &Options) {
        self.write();
        if let Some(what) = options.nowhere_found() {
            eprintln!("{what}");
            std::process::exit(2);
        }
    }

    fn write(&self) {
        if self.list || self.tables.is_empty() {
            return;
        }
        let folder = target_folder();
        let csv = folder.join(format!("{}.csv", self.question));
        let svg = folder.join(format!("{}.svg", self.question));
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&csv, self.csv()))
            .map_err(|error| error.to_string())
            .and_then(|()| plot::bars(&svg, self.question, &self.machine, &self.tables));
        match written {
            Ok(()) if !self.markdown => println!("{}\n{}", csv.display(), svg.display()),
            Ok(()) => {}
            Err(error) => eprintln!("{}: {error}", folder.display()),
        }
    }

    fn csv(&self) -> String {
        let mut text = format!(
            "# {}\nquestion,case,allocator,unit,median,p5,ratio_to_best_peer,samples\n",
            self.machine
        );
        let optional = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.4}"));
        for table in &self.tables {
            for row in &table.rows {
                writeln!(
                    text,
                    "{},\"{}\",\"{}\",{},{:.4},{},{},{}",
                    self.question,
                    table.case,
                    row.peer,
                    table.unit,
                    row.value,
                    optional(row.low),
                    optional(row.ratio),
                    row.samples
                )
                .expect("a String takes everything");
            }
        }
        text
    }
}

/// `target/bench`, found from where the running binary lies: `target/release/deps`.
fn target_folder() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.ancestors().nth(3)?.join("bench")))
        .unwrap_or_else(|| PathBuf::from("target/bench"))
}
