//! No import runs upwards and no two modules import each other: the order of the layers, checked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. Modules on one line stand side by side and may not import each other.
const LAYERS: &[&[&str]] = &[
    &["sync", "frame"],
    &["platform", "bitmap", "memory_map"],
    &["cpu_set"],
    &["gate", "lock", "buddy", "arena"],
    &["check"],
    &["page"],
    &["slab"],
    &["heap"],
    &["report"],
    &["host"],
];

/// Modules that may not contain any unsafe code, and must say so.
const SAFE: &[&str] = &["frame", "memory_map", "cpu_set", "bitmap", "buddy", "arena", "report"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file of the module, its tests left out.
fn files_of(module: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![source().join(module)];
    let file = source().join(format!("{module}.rs"));
    files.extend(file.exists().then_some(file));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                files.push(path);
            }
        }
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    files
}

/// The top-level modules that a file's code names through `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::").map(move |(at, found)| &line[at + found.len()..])
    })
    .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    .collect()
}

fn height_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn every_module_has_a_layer() {
    for entry in fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let outside = matches!(module, "lib" | "test_support" | "tests");
        assert!(outside || height_of(module).is_some(), "{module} has no layer");
    }
}

#[test]
fn imports_only_point_down() {
    let mut upward = Vec::new();
    for (height, module) in
        LAYERS.iter().enumerate().flat_map(|(height, layer)| layer.iter().map(move |m| (height, m)))
    {
        for file in files_of(module) {
            for import in imports(&fs::read_to_string(&file).unwrap()) {
                let inside = import == *module;
                let below = height_of(&import).is_some_and(|other| other < height);
                if !inside && !below {
                    upward.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn safe_modules_forbid_what_they_do_without() {
    for module in SAFE {
        let mut forbids = false;
        for file in files_of(module) {
            let text = fs::read_to_string(&file).unwrap();
            for line in text.lines().filter(|line| line.contains("unsafe")) {
                assert_eq!(line.trim(), "#![forbid(unsafe_code)]", "in {}", file.display());
                forbids = true;
            }
        }
        assert!(forbids || files_of(module).is_empty(), "{module} does not forbid unsafe code");
    }
}
