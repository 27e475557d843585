//! How many instructions operations may take: the counts that are recorded in the repository.
//!
//! A machine that counts instructions gives the same number in every run, so a count that grows is
//! a change of the code, or of the compiler, and never of the weather. A little growth is let
//! through; more must be accepted by whoever looked at it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::project_root;

/// The environment variable that has counts recorded instead of checked.
pub const ACCEPT: &str = "KMEM_ACCEPT";

/// Hundredths by which a count may grow.
const GROWTH: u64 = 5;

const HEAD: &str = "\
# Instructions of one operation, as the tests in kernel_test/src/tests/gates.rs count them.
# A test fails when its count grows by more than 5 in 100. To record what is: cargo xtask accept
";

/// Recorded counts, by the operation's name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Reads lines of a name and a count; lines that begin with `#` say nothing.
    ///
    /// # Errors
    ///
    /// Shows the first line that is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let counts = lines.map(|line| {
            let pair = line.split_once(' ').and_then(|(name, count)| {
                Some((name.to_owned(), count.trim().parse::<u64>().ok()?))
            });
            pair.with_context(|| format!("expected a name and a count, found {line:?}"))
        });
        Ok(Self(counts.collect::<Result<_>>()?))
    }

    /// Whether `found` is what was recorded for `name`, or little more.
    ///
    /// # Errors
    ///
    /// Says what was recorded, and how to accept what was found.
    pub fn check(&self, name: &str, found: u64) -> Result<()> {
        let accept = "`cargo xtask accept` records what is";
        match self.0.get(name) {
            None => bail!("{name}: {found} instructions, and none are recorded; {accept}"),
            Some(&recorded) if found * 100 > recorded * (100 + GROWTH) => {
                bail!("{name}: {found} instructions, where {recorded} are recorded; {accept}")
            }
            Some(_) => Ok(()),
        }
    }

    /// Records `found`.
    pub fn record(&mut self, name: &str, found: u64) {
        self.0.insert(name.to_owned(), found);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|(name, count)| writeln!(f, "{name} {count}"))
    }
}

/// Checks what a kernel test has counted, or records it where the environment asks for that.
///
/// # Errors
///
/// The count has grown, or the file cannot be read or written.
pub fn judge(name: &str, found: u64) -> Result<()> {
    // One at a time: tests end on several threads.
    static FILE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = FILE.lock();
    let path = path();
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
    let mut counts = Counts::parse(&text)?;
    if env::var_os(ACCEPT).is_none() {
        return counts.check(name, found);
    }
    counts.record(name, found);
    let mut text = String::new();
    write!(text, "{counts}")?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn path() -> PathBuf {
    project_root().join("kernel_test/instructions.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "# remark\n\nhit 40\nmiss 1000\n";

    #[test]
    fn counts_may_fall_and_grow_a_little() {
        let counts = Counts::parse(RECORDED).expect("well formed");
        let cases = [
            ("hit", 0, true),
            ("hit", 42, true),
            ("hit", 43, false),
            ("miss", 1050, true),
            ("miss", 1051, false),
            ("unheard_of", 1, false),
        ];
        for (name, found, is_fine) in cases {
            assert_eq!(counts.check(name, found).is_ok(), is_fine, "{name} {found}");
        }
    }

    #[test]
    fn a_refusal_names_both_counts_and_the_way_out() {
        let counts = Counts::parse(RECORDED).expect("well formed");
        let refusal = counts.check("hit", 50).expect_err("it has grown").to_string();
        assert_eq!(
            refusal,
            "hit: 50 instructions, where 40 are recorded; `cargo xtask accept` records what is"
        );
    }

    #[test]
    fn what_is_recorded_reads_back() {
        let mut counts = Counts::parse(RECORDED).expect("well formed");
        counts.record("hit", 44);
        counts.record("spill", 300);
        assert_eq!(Counts::parse(&counts.to_string()).expect("its own format"), counts);
        assert!(counts.check("hit", 44).is_ok() && counts.check("spill", 300).is_ok());
    }

    #[test]
    fn lines_of_another_form_are_shown() {
        for line in ["hit", "hit forty", "hit -4"] {
            let refusal = Counts::parse(line).expect_err("not a count").to_string();
            assert!(refusal.contains(line), "{refusal}");
        }
    }
}
