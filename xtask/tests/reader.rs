//! `cargo xtask … | head` ends as `cat` does.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

#[test]
fn the_command_ends_with_its_reader() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let command = Command::new(env!("CARGO_BIN_EXE_xtask")).stdout(writer).output();
    let output = command.expect("it runs");
    assert_eq!(output.status.signal(), Some(libc::SIGPIPE));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
