//! Comments and pages are no wider than rustfmt lets code be: it does not look at them.

use std::fs;
use std::path::{Path, PathBuf};

/// What `rustfmt.toml` says.
const WIDTH: usize = 100;

/// Folders with what nobody writes by hand.
const MADE: &[&str] = &["target", "corpus", "artifacts", ".git"];

/// The files with one of the extensions, below `folder`.
fn files(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if !MADE.contains(&name) {
                files(&path, extensions, found);
            }
        } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
}

/// The text of a comment's line; `None` for a line of code.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ["//!", "///", "//", "/*", "* "].iter().find_map(|mark| line.strip_prefix(mark))
}

/// Asserts that what `text` makes of the lines is not too wide, but for tables and code.
fn assert_narrow(extensions: &[&str], text: fn(&str) -> Option<&str>) {
    let mut found = Vec::new();
    files(Path::new(env!("CARGO_MANIFEST_DIR")), extensions, &mut found);
    assert!(found.len() > 10, "{extensions:?}");
    for path in found {
        let mut is_code = false;
        for (number, line) in fs::read_to_string(&path).expect("a file").lines().enumerate() {
            let Some(text) = text(line).map(str::trim_start) else { continue };
            is_code ^= text.starts_with("```");
            let is_wide = line.chars().count() > WIDTH && !is_code && !text.starts_with('|');
            assert!(!is_wide, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn comments_are_no_wider_than_code() {
    assert_narrow(&["rs", "c", "h", "cc"], comment);
}

#[test]
fn pages_are_no_wider_than_code() {
    assert_narrow(&["md"], |line| Some(line));
}
