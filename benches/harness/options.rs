//! The command line of every benchmark.

use std::cell::Cell;
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

/// A part of the names that are wanted.
#[derive(Clone, Debug)]
struct Filter {
    text: String,
    /// Whether there was such a name.
    found: Cell<bool>,
}

impl Filter {
    fn new(text: String) -> Self {
        Self { text, found: Cell::new(false) }
    }

    fn matches(&self, name: &str) -> bool {
        let matches = name.contains(&self.text);
        self.found.set(self.found.get() || matches);
        matches
    }
}

/// Whether the name is wanted: every filter is asked, so that each knows whether it found
/// something.
fn is_wanted(filters: &[Filter], name: &str) -> bool {
    let matching = filters.iter().filter(|filter| filter.matches(name)).count();
    filters.is_empty() || matching > 0
}

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    cases: Vec<Filter>,
    peers: Vec<Filter>,
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
                Arg::Long("case") => options.cases.push(Filter::new(parser.value()?.string()?)),
                Arg::Value(case) => options.cases.push(Filter::new(case.string()?)),
                Arg::Long("peer") => options.peers.push(Filter::new(parser.value()?.string()?)),
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
        is_wanted(&self.cases, case)
    }

    /// Whether the allocator is to take part. kmem always does.
    pub fn wants_peer(&self, peer: &str) -> bool {
        let is_wanted = is_wanted(&self.peers, peer);
        is_wanted || peer.starts_with("kmem")
    }

    /// What was asked for by name and is not there, after all cases were offered.
    pub fn nowhere_found(&self) -> Option<String> {
        if self.list {
            return None;
        }
        let missing = |filters: &[Filter]| {
            let filter = filters.iter().find(|filter| !filter.found.get())?;
            Some(filter.text.clone())
        };
        match missing(&self.cases) {
            Some(case) => Some(format!("no case has {case:?} in its name; --list names them")),
            None => missing(&self.peers)
                .map(|peer| format!("no peer in these cases has {peer:?} in its name")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers two cases with two peers each, as the benchmarks do; what is said at the end.
    fn offered(arguments: &[&str]) -> Option<String> {
        let options = Options::parse(Parser::from_args(arguments)).expect("well formed");
        for case in ["frame pair", "2 MiB pair"] {
            if options.wants_case(case) {
                for peer in ["kmem", "kmem, buddy alone", "frame-alloc"] {
                    options.wants_peer(peer);
                }
            }
        }
        options.nowhere_found()
    }

    #[test]
    fn what_is_there_is_found() {
        let lines: [&[&str]; 6] = [
            &[],
            &["pair"],
            &["frame pair", "--case", "2 MiB", "--peer", "frame"],
            &["--peer", "kmem", "--peer", "buddy"],
            &["--list", "nonsense"],
            &["--quick", "--markdown"],
        ];
        for line in lines {
            assert_eq!(offered(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let expected = "no case has \"triple\" in its name; --list names them";
        assert_eq!(offered(&["triple"]).as_deref(), Some(expected));
        assert_eq!(offered(&["pair", "--case", "triple"]).as_deref(), Some(expected));
        let expected = "no peer in these cases has \"nosuch\" in its name";
        assert_eq!(offered(&["--peer", "frame", "--peer", "nosuch"]).as_deref(), Some(expected));
    }
}
