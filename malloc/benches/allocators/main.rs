//! kmem's malloc beside the C library's and five others, on the workloads of `workloads.c`, in one
//! run.
//!
//! ```text
//! cargo bench --bench allocators                         all workloads, all allocators, 3 rounds
//! cargo bench --bench allocators -- --quick              a quarter of each workload, once
//! cargo bench --bench allocators -- --rounds 9 ints pipe
//! cargo bench --bench allocators -- --only glibc,kmem
//! ```
//!
//! Rounds are interleaved: every allocator runs a workload before any runs it again, so that what
//! else the machine does hits all alike. A cell is the median over the rounds, with its ratio to
//! the C library's. CPU is user and system time together. The last table is the fastest of many
//! times that 100 to 100,000 ints are allocated and freed, measured inside the program; in its last
//! column by functions that do nothing.
//!
//! Allocators that are not installed are named and left out, and those that are not asked for are
//! not built; snmalloc, rpmalloc and ferroc are built from the registry, in workspaces of
//! their own, ferroc by a compiler of its own: `rustup` installs it
//! (`peers/ferroc/rust-toolchain.toml`).

use std::collections::BTreeMap;
use std::env;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

mod options;

use options::Options;

const WORKLOADS: &[&str] = &[
    "ints", "trees", "numbers", "tail", "server", "pipe", "arrays", "buffers", "threads",
    "scratch", "strings",
];

/// Every allocator, in the order of the tables' columns.
const ALLOCATORS: &[&str] =
    &["glibc", "kmem", "mimalloc", "jemalloc", "snmalloc", "rpmalloc", "ferroc"];

/// The workload that prints how long [`INTS`] take.
const TALK: &str = "talk";

/// How many ints are allocated and freed again.
const INTS: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// An allocator, and the library that is preloaded for it.
struct Allocator {
    name: &'static str,
    preloaded: Option<PathBuf>,
}

/// One run of a workload.
#[derive(Clone, Copy)]
struct Sample {
    wall: Duration,
    cpu: Duration,
    peak_kib: u64,
}

fn main() {
    let options = Options::from_env();
    let workloads: Vec<&str> =
        WORKLOADS.iter().copied().filter(|name| options.wants_workload(name)).collect();
    let allocators = allocators(|name| options.wants_allocator(name));
    assert!(!allocators.is_empty(), "none of the allocators is there");
    let program = compile("workloads.c", "workloads", &["-pthread"]);
    let nothing = compile("nothing.c", "nothing.so", &["-shared", "-fPIC", "-fno-builtin"]);
    let nothing = Allocator { name: "nothing", preloaded: Some(nothing) };
    let talkers: Vec<&Allocator> = allocators.iter().chain([&nothing]).collect();

    let mut table = BTreeMap::<(&str, &str), Vec<Sample>>::new();
    let mut talks = vec![[f64::INFINITY; INTS.len()]; talkers.len()];
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for workload in &workloads {
            for allocator in &allocators {
                let sample = run(&program, workload, options.percent, allocator);
                table.entry((workload, allocator.name)).or_default().push(sample);
            }
        }
        if options.wants_workload(TALK) {
            for (allocator, fastest) in talkers.iter().zip(&mut talks) {
                let times = talk(&program, allocator);
                iter::zip(fastest, times).for_each(|(fastest, time)| *fastest = fastest.min(time));
            }
        }
    }
    if !workloads.is_empty() {
        print(&workloads, &allocators, &table);
    }
    if options.wants_workload(TALK) {
        print_talk(&talkers, &talks);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Where the workspace's products lie.
fn target() -> PathBuf {
    let program = env::current_exe().expect("this program has a path");
    program.ancestors().nth(3).expect("target/release/deps/program").to_owned()
}

/// Compiles one of the C files beside this program.
fn compile(source: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let product = target().join(name);
    let status = Command::new("gcc")
        .arg("-O2")
        .args(arguments)
        .arg("-o")
        .arg(&product)
        .arg(root().join("benches").join(source))
        .status()
        .expect("gcc is needed: apt-get install gcc");
    assert!(status.success(), "gcc failed");
    product
}

/// Builds by the toolchain that runs already, or by the one that `directory` asks for.
fn cargo_build(arguments: &[&str], directory: &Path) -> bool {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    if directory.join("rust-toolchain.toml").exists() {
        command = Command::new("cargo");
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    let status = command
        .args(["build", "--release"])
        .args(arguments)
        .current_dir(directory)
        .env_remove("CARGO_TARGET_DIR")
        .status();
    status.is_ok_and(|status| status.success())
}

/// Those of kmem, the C library's and the peers that are wanted and there. No other is built.
fn allocators(is_wanted: impl Fn(&str) -> bool) -> Vec<Allocator> {
    let mut all = Vec::new();
    if is_wanted("glibc") {
        all.push(Allocator { name: "glibc", preloaded: None });
    }
    if is_wanted("kmem") {
        assert!(cargo_build(&["-p", "kmem-malloc"], &root()), "kmem-malloc does not build");
        let library = root().join("../target/release/libkmem_malloc.so");
        all.push(Allocator { name: "kmem", preloaded: Some(library) });
    }
    let peers = root().join("peers");
    for name in ["snmalloc", "rpmalloc"] {
        let package = format!("peer-{name}");
        if is_wanted(name) && !cargo_build(&["-p", &package], &peers) {
            eprintln!("{name} does not build here");
        }
    }
    if is_wanted("ferroc")
        && !cargo_build(&["--locked", "--target-dir", "../target"], &peers.join("ferroc"))
    {
        eprintln!("ferroc does not build here");
    }
    let debian = Path::new("/usr/lib/x86_64-linux-gnu");
    let candidates = [
        ("mimalloc", debian.join("libmimalloc.so.2"), "apt-get install libmimalloc2.0"),
        ("jemalloc", debian.join("libjemalloc.so.2"), "apt-get install libjemalloc2"),
        ("snmalloc", peers.join("target/release/libpeer_snmalloc.so"), "the registry"),
        ("rpmalloc", peers.join("target/release/libpeer_rpmalloc.so"), "the registry"),
        (
            "ferroc",
            peers.join("target/release/libpeer_ferroc.so"),
            "the registry, and rustup toolchain install nightly-2024-09-01 --profile minimal",
        ),
    ];
    for (name, library, source) in candidates {
        if !is_wanted(name) {
            continue;
        }
        if library.exists() {
            all.push(Allocator { name, preloaded: Some(library) });
        } else {
            eprintln!("{name} is left out; it comes from {source}");
        }
    }
    all
}

fn command(program: &Path, workload: &str, allocator: &Allocator) -> Command {
    let mut command = Command::new(program);
    command.arg(workload).stdout(Stdio::piped());
    if let Some(preloaded) = &allocator.preloaded {
        command.env("LD_PRELOAD", preloaded);
    }
    command
}

fn run(program: &Path, workload: &str, percent: u32, allocator: &Allocator) -> Sample {
    let mut command = command(program, workload, allocator);
    command.arg(percent.to_string());
    let cpu_before = children_cpu();
    let start = Instant::now();
    let output = command.output().expect("the workloads run");
    let wall = start.elapsed();
    let cpu = children_cpu() - cpu_before;
    assert!(output.status.success(), "{workload} failed on {}: {output:?}", allocator.name);
    let text = String::from_utf8_lossy(&output.stdout);
    let peak_kib = text.trim().parse().expect("workloads print their peak");
    Sample { wall, cpu, peak_kib }
}

/// CPU time of the children that have ended.
fn children_cpu() -> Duration {
    // SAFETY: integers, for which zero bytes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills the structure.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000))
        .sum()
}

fn median<T: Ord + Copy>(samples: &[Sample], value: impl Fn(&Sample) -> T) -> T {
    let mut values: Vec<T> = samples.iter().map(value).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// A title, and the figure of a cell.
type View = (&'static str, fn(&[Sample]) -> f64);
type Results<'a> = BTreeMap<(&'a str, &'a str), Vec<Sample>>;

fn print_head<'a>(title: &str, allocators: impl IntoIterator<Item = &'a Allocator>) {
    print!("\n{title:<18}");
    for allocator in allocators {
        print!("{:>20}", allocator.name);
    }
    println!();
}

fn print(workloads: &[&str], allocators: &[Allocator], results: &Results<'_>) {
    let views: [View; 3] = [
        ("CPU time, ms", |samples| median(samples, |sample| sample.cpu).as_secs_f64() * 1e3),
        ("wall time, ms", |samples| median(samples, |sample| sample.wall).as_secs_f64() * 1e3),
        ("peak memory, KiB", |samples| median(samples, |sample| sample.peak_kib) as f64),
    ];
    for (title, view) in views {
        print_head(title, allocators);
        let mut logarithms = vec![0.0; allocators.len()];
        for workload in workloads {
            print!("{workload:<18}");
            let value = |allocator: &Allocator| view(&results[&(*workload, allocator.name)]);
            let base = value(&allocators[0]);
            for (allocator, sum) in allocators.iter().zip(&mut logarithms) {
                let ratio = value(allocator) / base;
                *sum += ratio.ln();
                print!("{:>12.0} ({ratio:>5.2})", value(allocator));
            }
            println!();
        }
        print!("{:<18}", "geometric mean");
        for sum in logarithms {
            print!("{:>20.3}", (sum / workloads.len() as f64).exp());
        }
        println!();
    }
}

/// How many nanoseconds each number of ints takes.
fn talk(program: &Path, allocator: &Allocator) -> [f64; INTS.len()] {
    let output = command(program, TALK, allocator).output().expect("the test runs");
    assert!(output.status.success(), "{TALK} failed on {}: {output:?}", allocator.name);
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.split_whitespace().map(|number| number.parse().expect("a number"));
    times.collect::<Vec<_>>().try_into().expect("a time for each number of ints")
}

fn print_talk(allocators: &[&Allocator], times: &[[f64; INTS.len()]]) {
    print_head("n ints, us", allocators.iter().copied());
    for (row, n) in INTS.iter().enumerate() {
        print!("{n:<18}");
        for column in times {
            let (time, ratio) = (column[row] / 1e3, column[row] / times[0][row]);
            print!("{time:>12.1} ({ratio:>5.2})");
        }
        println!();
    }
}
