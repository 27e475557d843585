//! The arena engines: each fit does what its name says, and everything else is as with slabs.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{
    ARENA_ENGINES, SIGABRT, assert_same_output, build, is_ended_by, preloaded, run, stderr, stdout,
};

fn under(engine: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = preloaded(program);
    command.env("KMEM_ENGINE", engine);
    command
}

/// Runs a C program under each engine, with the same arguments, to its good end.
#[track_caller]
fn run_under_each(source: &str, arguments: &[&str]) -> Vec<(&'static str, Output)> {
    let program = build(source, &[]);
    let run = |&engine| (engine, run(under(engine, &program).args(arguments)));
    ARENA_ENGINES.iter().map(run).collect()
}

#[test]
fn each_fit_chooses_among_the_holes_as_its_name_says() {
    for (engine, output) in run_under_each("fits.c", &["places"]) {
        // Holes of 3, 6, 2 and 4 units at 0, 5, 13 and 17; requests for 2, 3 and 1.
        let expected = match engine {
            "first" => "0 5 2\n",
            "best" => "13 0 17\n",
            "worst" => "5 7 17\n",
            "next" => "0 5 8\n",
            // From lists by powers of two, and there what was given back last.
            "instant" => "13 17 20\n",
            other => panic!("{other}"),
        };
        assert_eq!(stdout(&output), expected, "{engine}");
    }
}

#[test]
fn the_course_projects_variables_choose_the_same_engines() {
    let program = build("fits.c", &[]);
    for (algorithm, expected) in
        [("first_fit", "0 5 2\n"), ("best_fit", "13 0 17\n"), ("worst_fit", "5 7 17\n")]
    {
        let output = run(preloaded(&program).arg("places").env("ALLOCATOR_ALGORITHM", algorithm));
        assert_eq!(stdout(&output), expected, "{algorithm}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn realloc_stays_where_there_is_room_and_keeps_contents() {
    run_under_each("fits.c", &["resize"]);
}

#[test]
fn spans_that_fall_free_go_back_and_trim_takes_what_lies_between() {
    run_under_each("fits.c", &["spans"]);
}

#[test]
fn every_edge_case_is_as_the_standards_say() {
    for (engine, output) in run_under_each("standards.c", &[]) {
        assert_eq!(stdout(&output), "ok\n", "{engine}");
    }
}

#[test]
fn threads_free_each_others_blocks() {
    run_under_each("torture.c", &["threads"]);
}

#[test]
fn children_of_a_process_with_busy_threads_can_allocate() {
    run_under_each("torture.c", &["fork"]);
}

#[test]
fn a_signal_handler_may_interrupt_the_engine_anywhere() {
    run_under_each("torture.c", &["signal"]);
    run_under_each("handlers.c", &["books"]);
}

#[test]
fn wrong_calls_stop_with_a_line_that_names_the_block() {
    let program = build("wrong.c", &[]);
    let provoke = |engine, what: &str, size: &str, words: &str, option: Option<&str>| {
        let mut command = under(engine, &program);
        command.args([what, size]);
        if let Some((name, value)) = option.and_then(|option| option.split_once('=')) {
            command.env(name, value);
        }
        let output = command.output().expect("the program starts");
        let message = stderr(&output);
        let context = format!("{engine}: {what} of {size} bytes: {}: {message}", output.status);
        assert!(is_ended_by(&output, SIGABRT), "{context}");
        assert_eq!(
            message.lines().filter(|line| line.starts_with("kmem:")).count(),
            1,
            "{context}"
        );
        assert!(message.contains(words), "{context}");
        let block = stdout(&output).lines().next().map(String::from).expect("the address");
        let is_foreign = matches!(what, "stack" | "data" | "wild" | "realloc-foreign");
        assert!(is_foreign || message.contains(&block), "{context}");
    };
    for engine in ARENA_ENGINES {
        for what in ["twice", "twice-later", "twice-elsewhere", "realloc-freed"] {
            provoke(engine, what, "24", "not allocated", None);
        }
        // The span has gone back with the block: the frames know.
        provoke(engine, "twice", "3000000", "not allocated", None);
        for what in ["inside", "deep-inside", "misaligned"] {
            provoke(engine, what, "5000", "not an object's start", None);
        }
        for what in ["stack", "data", "wild", "realloc-foreign"] {
            provoke(engine, what, "24", "not kmem's", None);
        }
        provoke(engine, "overrun", "24", "beyond its ends", Some("KMEM_RED_ZONES=1"));
        let quarantine = Some("KMEM_QUARANTINE=100K");
        provoke(engine, "write-after-free", "24", "written after it was freed", quarantine);
        provoke(engine, "wrong-size", "24", "wrong size", Some("KMEM_TRACK=1"));
    }
}

#[test]
fn blocks_are_printed_with_their_names_and_with_what_is_available() {
    let program = build("names.c", &[]);
    for engine in ARENA_ENGINES {
        for track in ["0", "1"] {
            let output = run(under(engine, &program).env("KMEM_TRACK", track));
            let text = stdout(&output);
            let (before, after) = text.split_once("after\n").expect("both lists");
            for name in ["\"the first block\"", "\"second\"", "\"grows\""] {
                assert!(before.contains(name) && !after.contains(name), "{engine}: {text}");
            }
            assert_eq!(after.matches("\"leaked\"").count(), 3, "{engine}: {text}");
            let spans = after.lines().filter(|line| line.starts_with("span 0x")).count();
            let available = after.lines().filter(|line| line.ends_with(" available")).count();
            assert!(spans > 0 && available > 0, "{engine}: {text}");
        }
    }
}

#[test]
fn leaks_log_and_statistics_come_with_every_engine() {
    let program = build("names.c", &[]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for engine in ARENA_ENGINES {
        let log = folder.join(format!("calls-{engine}.log"));
        let _ = fs::remove_file(&log);
        let output = run(under(engine, &program)
            .envs([("KMEM_LEAKS", "1"), ("KMEM_STATS", "1")])
            .env("KMEM_LOG", &log));
        let message = stderr(&output);
        let leak = message.lines().find(|line| line.contains("\"leaked\"")).expect("a group");
        let words: Vec<&str> = leak.split_whitespace().collect();
        assert_eq!(words[..3], ["231", "3", "77"], "{engine}");
        for part in ["segments", "spans", "largest", "lost in blocks", "peak live", "records"] {
            assert!(message.contains(part), "{engine}: no {part} in {message}");
        }
        let name = format!("{}{}", engine[..1].to_uppercase(), &engine[1..]);
        assert!(message.contains(&format!("{name} fit")), "{engine}: {message}");
        let log = fs::read_to_string(&log).expect("the log");
        assert_eq!(log.matches("malloc_named 77 0x").count(), 3, "{engine}");
    }
}

#[test]
fn scribbling_shows_to_who_reads_what_he_has_not_written() {
    let program = build("scribble.c", &[]);
    for engine in ["slab"].iter().chain(ARENA_ENGINES) {
        for variable in ["KMEM_SCRIBBLE", "ALLOCATOR_SCRIBBLE"] {
            let output = run(under(engine, &program).env(variable, "1"));
            assert_eq!(stdout(&output), "aa aa aa, zeros stay zero\n", "{engine} {variable}");
        }
    }
}

#[test]
fn a_small_address_space_gives_null_and_no_crash() {
    run_under_each("limits.c", &["200"]);
}

/// `script` prints under each engine what it prints on the system's allocator.
fn assert_same_under_each(program: &str, package: &str, script: &str) {
    let kmem: PathBuf = support::library().to_owned();
    let environments: Vec<(String, Vec<(&str, PathBuf)>)> = ARENA_ENGINES
        .iter()
        .map(|engine| {
            let environment =
                vec![("LD_PRELOAD", kmem.clone()), ("KMEM_ENGINE", PathBuf::from(engine))];
            (format!("under-{engine}"), environment)
        })
        .collect();
    assert_same_output(program, package, script, &environments);
}

#[test]
fn python_runs_to_the_end_under_every_engine() {
    assert_same_under_each(
        "python3",
        "python3",
        "export PYTHONMALLOC=malloc
         python3 - <<'PY'
import collections, json, re, subprocess, sys, threading
words = collections.Counter(re.findall('[a-z]+', ' '.join(str(i) + 'ab' * (i % 7) for i in range(15000))))
print(sorted(words.items()), len(json.dumps([{str(i): [i] * 5} for i in range(5000)])))
sums = []
def work(n): sums.append(sum(len(str(i * n)) for i in range(10000)))
threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(sums), subprocess.run([sys.executable, '-c', 'print(42)'], capture_output=True).stdout)
PY
         python3 -m test -q test_list test_dict > tests.log 2>&1 \
         && echo the tests pass || { grep -q 'No module named test' tests.log && echo the tests pass; }",
    );
}

#[test]
fn gcc_compiles_a_large_file_under_every_engine() {
    assert_same_under_each(
        "gcc",
        "gcc",
        "{ echo '#include <stdio.h>'; cat $SOURCES/malloc/benches/workloads.c
           for i in $(seq 100); do
               echo \"int f$i(int *a, int n) { int s = $i; for (int i = 0; i < n; i++) s += a[i] * s ^ $i; return s; }\"
           done; } > large.c
         gcc -O1 -c large.c -o large.o; sha256sum < large.o",
    );
}
