//! How the commands among the examples begin and end.

use std::error::Error;
use std::ffi::{OsString, c_int};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lexopt::prelude::*;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
}

/// Ends the process, as `cat` ends, once nobody reads what it prints any more.
pub(crate) fn end_with_the_reader() {
    const SIGPIPE: c_int = 13;
    const DEFAULT: usize = 0;
    // SAFETY: no handler of ours runs: what to do is the system's default.
    unsafe { signal(SIGPIPE, DEFAULT) };
}

/// Runs a command with its arguments, at most `most` of them, none of which is an option but that
/// for help. The usage begins with the command's name.
pub(crate) fn run(
    usage: &str,
    most: usize,
    command: impl FnOnce(&[OsString]) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    end_with_the_reader();
    let done = match values(lexopt::Parser::from_env(), most) {
        Ok(Some(values)) => command(&values),
        Ok(None) => {
            println!("{usage}");
            Ok(())
        }
        Err(error) => Err(format!("{error}\n{usage}").into()),
    };
    end(usage.split(' ').next().unwrap_or_default(), done)
}

/// The arguments, at most `most`; `None` where help is asked for.
fn values(
    mut arguments: lexopt::Parser,
    most: usize,
) -> Result<Option<Vec<OsString>>, lexopt::Error> {
    let mut values = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Value(value) if values.len() < most => values.push(value),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(values))
}

/// Ends a command of this name, and says what went wrong if something did.
pub(crate) fn end(name: &str, done: Result<(), Box<dyn Error>>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the folder that a file is to lie in: no build has made it where the target directory is
/// another.
pub(crate) fn make_folder_of(path: &str) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()).into())
}
