//! The command line of the ladder.

use std::ffi::OsString;
use std::num::NonZeroUsize;

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
    Child(Run),
}

/// A run of one manager.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub manager: String,
    /// Its number.
    pub workload: usize,
    pub blocks: usize,
    /// Calls between two looks at the clock.
    pub slice: NonZeroUsize,
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
            Long("child") => {
                return Ok(Request::Child(Run {
                    manager: arguments.value()?.string()?,
                    workload: arguments.value()?.parse()?,
                    blocks: blocks(arguments.value()?)?,
                    slice: arguments.value()?.parse()?,
                }));
            }
            Value(text) if count.is_none() => count = Some(blocks(text)?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Request::Climb(count.unwrap_or(COUNT)))
}

fn blocks(text: OsString) -> Result<usize, lexopt::Error> {
    let blocks = text.parse()?;
    if (1..=MOST_BLOCKS).contains(&blocks) {
        Ok(blocks)
    } else {
        Err("a workload has 1 to 1,000,000 blocks".into())
    }
}
