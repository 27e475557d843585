//! Every way to weaken one memory ordering or barrier of the files under the model checker; shared
//! by the build script, which applies one of them, and the program that tries them all.

/// The files of kmem that run under the model checker: module name and path from here.
pub(crate) const FILES: &[(&str, &str)] =
    &[("cpu_set", "../src/cpu_set.rs"), ("gate", "../src/gate.rs")];

/// What is replaced by what: each replacement promises less.
const WEAKER: &[(&str, &str)] = &[
    ("Ordering::Acquire", "Ordering::Relaxed"),
    ("Ordering::Release", "Ordering::Relaxed"),
    ("Ordering::AcqRel", "Ordering::Acquire"),
    ("Ordering::AcqRel", "Ordering::Release"),
    ("Ordering::SeqCst", "Ordering::AcqRel"),
    ("light_barrier()", "()"),
    ("full_barrier()", "()"),
];

/// One weakening of one file.
pub(crate) struct Weakening {
    pub(crate) file: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) strong: &'static str,
    pub(crate) weak: &'static str,
}

impl Weakening {
    pub(crate) fn describe(&self) -> String {
        let path = FILES[self.file].1.trim_start_matches("../");
        format!("{path}:{}: {} -> {}", self.line + 1, self.strong, self.weak)
    }

    pub(crate) fn apply(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[self.line].replace_range(self.column..self.column + self.strong.len(), self.weak);
        lines.join("\n") + "\n"
    }
}

/// All weakenings of the texts, in the order of [`FILES`].
pub(crate) fn weakenings(texts: &[String]) -> Vec<Weakening> {
    let mut all = Vec::new();
    for (file, text) in texts.iter().enumerate() {
        for (line, code) in text.lines().enumerate() {
            if code.trim_start().starts_with("//") {
                continue;
            }
            for &(strong, weak) in WEAKER {
                for (column, _) in code.match_indices(strong) {
                    all.push(Weakening { file, line, column, strong, weak });
                }
            }
        }
    }
    all
}

/// The texts of [`FILES`], found from this package's folder.
pub(crate) fn texts() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |(_, path): &(&str, &str)| {
        std::fs::read_to_string(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    FILES.iter().map(read).collect()
}
