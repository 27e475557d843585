//! The examples that are commands end in words, whatever they are told, and with their reader.

#[path = "support/example.rs"]
mod example;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

fn traces(arguments: &[&str]) -> Command {
    let mut command = Command::new(example::build("traces", "traces"));
    command.args(arguments);
    command
}

#[track_caller]
fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_command_ends_with_its_reader() {
    const SIGPIPE: i32 = 13;
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let output = traces(&[]).stdout(writer).output().expect("it runs");
    assert_eq!(output.status.signal(), Some(SIGPIPE));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_command_says_what_it_takes() {
    let help = traces(&["--help"]).output().expect("it runs");
    let usage = String::from_utf8(help.stdout).expect("text");
    assert!(help.status.success() && usage.starts_with("traces    "), "{usage}");
    let refusals = [("all", "unexpected argument \"all\""), ("--loud", "invalid option '--loud'")];
    for (surplus, words) in refusals {
        let expected = format!("traces: {words}\n{usage}");
        assert_eq!(refusal(traces(&[surplus]).output().expect("it runs")), expected);
    }
    let mut workload = Command::new(example::build("workload", "workload"));
    let words = refusal(workload.arg("/no/such/file").output().expect("it runs"));
    assert!(words.starts_with("workload: /no/such/file: "), "{words}");
    for run in [["no rung", "0"], ["bins", "99"]] {
        let mut ladder = Command::new(example::build("ladder", "ladder"));
        let words =
            refusal(ladder.arg("--child").args(run).args(["1", "1"]).output().expect("it runs"));
        assert!(words.starts_with("ladder: no such "), "{words}");
    }
}
