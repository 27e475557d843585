//! The command line.

use lexopt::prelude::*;

use super::{ALLOCATORS, TALK, WORKLOADS};

const HELP: &str = "\
Options (after `--`):
  NAME            only this workload (repeatable); `talk` is the table of ints
  --only A,B      only these allocators; ratios are to the first column
  --rounds N      how often each allocator runs each workload; 3 unless told
  --quick         a quarter of each workload, once: for a first look, not for figures
  --help          this";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    workloads: Vec<String>,
    allocators: Vec<String>,
    /// How often each allocator runs each workload.
    pub(crate) rounds: u32,
    /// How much of each workload.
    pub(crate) percent: u32,
}

impl Options {
    /// Reads the command line; ends the process where it makes no sense, and after help.
    pub(crate) fn from_env() -> Self {
        match Self::parse(lexopt::Parser::from_env()) {
            Ok(Some(options)) => options,
            Ok(None) => {
                println!("{HELP}");
                std::process::exit(0);
            }
            Err(error) => {
                eprintln!("{error}\n{HELP}");
                std::process::exit(2);
            }
        }
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let (workloads, allocators) = (Vec::new(), Vec::new());
        let mut options = Self { workloads, allocators, rounds: 3, percent: 100 };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("only") => {
                    let names = parser.value()?.string()?;
                    for name in names.split(',') {
                        options.allocators.push(one_of(name, ALLOCATORS)?);
                    }
                }
                Long("rounds") => {
                    options.rounds = parser.value()?.parse()?;
                    if options.rounds == 0 {
                        return Err("--rounds takes at least 1".into());
                    }
                }
                Long("quick") => (options.rounds, options.percent) = (1, 25),
                // What cargo itself appends.
                Long("bench") => {}
                Short('h') | Long("help") => return Ok(None),
                Value(name) => {
                    let known = [WORKLOADS, &[TALK]].concat();
                    options.workloads.push(one_of(&name.string()?, &known)?);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// Whether the workload is to run.
    pub(crate) fn wants_workload(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|workload| workload == name)
    }

    /// Whether the allocator is to take part.
    pub(crate) fn wants_allocator(&self, name: &str) -> bool {
        self.allocators.is_empty() || self.allocators.iter().any(|allocator| allocator == name)
    }
}

/// The name, if it is a known one.
fn one_of(name: &str, known: &[&str]) -> Result<String, String> {
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is none of {}", known.join(", "))),
    }
}
