//! The command line of every benchmark.

use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Options (after `--`):
  --case TEXT     only cases whose name contains TEXT (also as a bare word; repeatable)
  --peer TEXT     only peers whose name contains TEXT, beside kmem (repeatable)
  --quick         a tenth of the time: for a first look, not for figures
  --markdown      print the rows of README's table and nothing else
  --list          name the cases
  --help          this";

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    cases: Vec<String>,
    peers: Vec<String>,
    quick: bool,
    /// Print the rows of README's table and nothing else.
    pub markdown: bool,
    /// Name the cases and run none.
    pub list: bool,
    /// A measurement that this process is to make for its parent: see [`crate::peers::child`].
    pub child: Option<String>,
}

impl Options {
    /// Reads the command line; ends the process where it makes no sense.
    pub fn from_env() -> Self {
        Self::parse(Parser::from_env()).unwrap_or_else(|error| {
            eprintln!("{error}\n{HELP}");
            std::process::exit(2);
        })
    }

    fn parse(mut parser: Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("case") => options.cases.push(parser.value()?.string()?),
                Arg::Value(case) => options.cases.push(case.string()?),
                Arg::Long("peer") => options.peers.push(parser.value()?.string()?),
                Arg::Long("quick") => options.quick = true,
                Arg::Long("markdown") => options.markdown = true,
                Arg::Long("list") => options.list = true,
                Arg::Long("child") => options.child = Some(parser.value()?.string()?),
                // What cargo itself appends.
                Arg::Long("bench") => {}
                Arg::Long("help") => {
                    println!("{HELP}");
                    std::process::exit(0);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(options)
    }

    /// Whether the case is to run; names it where only names are wanted.
    pub fn wants_case(&self, case: &str) -> bool {
        if self.list {
            println!("{case}");
            return false;
        }
        self.cases.is_empty() || self.cases.iter().any(|text| case.contains(text.as_str()))
    }

    /// Whether the allocator is to take part. kmem always does.
    pub fn wants_peer(&self, peer: &str) -> bool {
        peer.starts_with("kmem")
            || self.peers.is_empty()
            || self.peers.iter().any(|text| peer.contains(text.as_str()))
    }

    /// How long one allocator may run in one case.
    pub fn time_per_lane(&self) -> Duration {
        Duration::from_millis(if self.quick { 40 } else { 400 })
    }

    /// `full`, or a tenth of it with `--quick`.
    pub fn scaled(&self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }
}
