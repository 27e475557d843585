//! Puts kmem's files where the models include them, with one memory ordering weakened if
//! `KMEM_WEAKEN` has its number.

#[allow(dead_code, reason = "the other user of this file needs the rest")]
mod weakenings;

use std::{env, fs, path::Path};

use weakenings::{FILES, texts, weakenings};

fn main() {
    println!("cargo::rerun-if-env-changed=KMEM_WEAKEN");
    println!("cargo::rerun-if-changed=weakenings.rs");
    let mut texts = texts();
    if let Ok(number) = env::var("KMEM_WEAKEN") {
        let number: usize = number.parse().expect("KMEM_WEAKEN takes a number");
        let all = weakenings(&texts);
        let weakening = all.get(number).expect("KMEM_WEAKEN is too large");
        texts[weakening.file] = weakening.apply(&texts[weakening.file]);
    }
    let folder = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for ((module, path), text) in FILES.iter().zip(texts) {
        println!("cargo::rerun-if-changed={path}");
        // What a file says of itself cannot be included into another.
        let code: String = text
            .lines()
            .map(|line| match line.starts_with("//!") || line.starts_with("#![") {
                true => "\n".to_owned(),
                false => format!("{line}\n"),
            })
            .collect();
        // The model checker's atomics cannot be made in constants.
        let code = code.replace("const fn", "fn");
        fs::write(Path::new(&folder).join(format!("{module}.rs")), code)
            .expect("OUT_DIR is writable");
    }
}
