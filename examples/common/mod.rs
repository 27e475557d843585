//! How the commands among the examples begin and end.

use std::error::Error;
use std::ffi::{OsString, c_int};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

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
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "-h" || argument == "--help") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    let is_option = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let surplus = arguments.iter().find(|argument| is_option(argument));
    let done = match surplus.or(arguments.get(most)) {
        Some(argument) => Err(format!("unexpected argument {argument:?}\n{usage}").into()),
        None => command(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", usage.split(' ').next().unwrap_or_default());
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
