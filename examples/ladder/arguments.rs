//! The command line of the ladder.

use std::ffi::OsString;

use lexopt::prelude::*;

/// Blocks of a workload, unless the command line says otherwise.
const COUNT: usize = 10_000;
/// Most blocks of a workload: the managers' addresses are enough for them.
const MOST_BLOCKS: usize = 1_000_000;

pub(crate) const USAGE: &str = "\
ladder [BLOCKS]    every manager under workloads of so many blocks (10,000), 1 to 1,000,000";

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Help,
    /// The table and the plot, with so many blocks.
    Climb(usize),
    /// One run, for the process that has started this one: see `measure`.
    Child(Vec<OsString>),
}

/// Reads the command line.
///
/// # Errors
///
/// Says what makes no sense.
pub(crate) fn parse(mut arguments: lexopt::Parser) -> Result<Request, lexopt::Error> {
    let mut count = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Request::Help),
            Long("child") => return Ok(Request::Child(arguments.raw_args()?.collect())),
            Value(text) if count.is_none() => {
                let blocks: usize = text.parse()?;
                if !(1..=MOST_BLOCKS).contains(&blocks) {
                    return Err("a workload has 1 to 1,000,000 blocks".into());
                }
                count = Some(blocks);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Request::Climb(count.unwrap_or(COUNT)))
}
