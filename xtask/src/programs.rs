//! `cargo xtask programs`: real programs on kmem's malloc, beside the system's.
//!
//! Rounds are interleaved: each program runs on both allocators before any runs again, so that what
//! else the machine does hits both alike. A cell is the median over the rounds; CPU time is user
//! and system time together, of the program and the processes it waits for; memory is the peak of
//! the largest of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use xtask::project_root;
use xtask::setup::is_program;

use crate::preload::{self, Cost};

/// What a row counts for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A program's work: counts for the means.
    Work,
    /// What it costs to start: shown apart, and without a peak, which would be the shell's.
    Start,
}

/// A program at work.
struct Program {
    name: &'static str,
    /// Without this program the row is left out.
    needs: &'static str,
    role: Role,
    /// For `sh`, once, in a folder of its own.
    prepare: &'static str,
    /// For `sh`, in the same folder, each time. What follows `$RUN` runs on the allocator.
    run: &'static str,
}

const fn work(
    name: &'static str,
    needs: &'static str,
    prepare: &'static str,
    run: &'static str,
) -> Program {
    Program { name, needs, role: Role::Work, prepare, run }
}

const PROGRAMS: &[Program] = &[
    work(
        "python3",
        "python3",
        "python3 -c 'import sys; print(sys.executable)' > python
         cat > work.py <<'PY'
import collections, json, re
words = collections.Counter(re.findall('[a-z]+', ' '.join(str(i) + 'ab' * (i % 7) + chr(97 + i % 26) for i in range(150000))))
table = {str(i): [i] * 5 + [str(i) * 3] for i in range(100000)}
text = json.dumps(table)
print(len(words), len(text), len(json.loads(text)), sum(len(sorted(row, key=str)) for row in table.values()))
PY",
        "$RUN $(cat python) work.py",
    ),
    work(
        "perl",
        "perl",
        "",
        "$RUN perl -e 'my %h; for (1..600000) { $h{$_ % 50021} .= \"$_,\" }
             my @s = sort { $h{$a} cmp $h{$b} } keys %h; print scalar(@s), length(join(\"\", @s)), \"\\n\"'",
    ),
    work(
        "gcc",
        "gcc",
        "{ echo '#include <stdio.h>'; for i in $(seq 80); do
             echo \"int f$i(int *a, int n) { int s = $i; while (n--) s += a[n] * s ^ $i; return s; }\"; done; } > large.c",
        "$RUN gcc -O2 -c large.c -o large.o",
    ),
    work(
        "g++",
        "g++",
        "printf '#include <map>\\n#include <string>\\n#include <vector>\\nint f(const std::string &s) {
             std::map<std::string, std::string> m; m[s] = s; std::vector<std::string> v(9, s); return (int)(m.size() + v.size()); }\\n' > one.cc",
        "$RUN g++ -O1 -c one.cc -o one.o",
    ),
    work(
        "rustc",
        "rustc",
        "rustc --print sysroot > sysroot
         { for i in $(seq 20); do
             echo \"pub fn f$i(v: &[u32]) -> Vec<String> { v.iter().map(|x| format!(\\\"{}\\\", x + $i)).collect() }\"; done; } > lib.rs",
        "$RUN $(cat sysroot)/bin/rustc --crate-type lib --emit obj -O lib.rs -o lib.o",
    ),
    work(
        "git",
        "git",
        "git init -q . && git config user.email a@b && git config user.name n && cp -r $SOURCES/src . && git add . && git commit -qm first
         for i in $(seq 30); do for f in src/*.rs; do echo \"// $i\" >> $f; done; git commit -qam $i; done",
        "$RUN git log -p --stat > log; $RUN git blame -w src/lib.rs > blame; $RUN git repack -adfq",
    ),
    work(
        "sqlite3",
        "sqlite3",
        "",
        "rm -f data.db; $RUN sqlite3 data.db \"pragma journal_mode = off; pragma synchronous = off;
         create table t(a integer primary key, b text, c real);
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)
         insert into t select i, 'row ' || (i * 7919 % 100003), i / 3.0 from n;
         select substr(b, 1, 7), count(*) from t group by 1 order by 2 desc limit 20;
         delete from t where a % 3 = 0; create index by_b on t(b); pragma integrity_check;\"",
    ),
    work(
        "node",
        "node",
        "cat > work.js <<'JS'
const rows = []; for (let i = 0; i < 300000; i++) rows.push({ i, s: 'x'.repeat(i % 50) });
const text = JSON.stringify(rows); const words = new Map();
for (const row of JSON.parse(text)) words.set(row.s + row.i % 977, row);
console.log(text.length, words.size, Buffer.alloc(1 << 24, 7).reduce((x, y) => (x + y) & 0xffff));
JS",
        "$RUN node work.js",
    ),
    work(
        "redis",
        "redis-check-rdb",
        "ln -s $(command -v redis-check-rdb) redis-server",
        // The client is nobody's business: left behind, it is not counted.
        "rm -f s; { for i in $(seq 100); do redis-cli -s s ping > /dev/null 2>&1 && break; sleep 0.05; done
                    redis-benchmark -s s -q -n 60000 -r 20000 -P 8 -t set,get,lpush,hset,sadd,lrange_100
                    redis-cli -s s shutdown nosave; } > client 2>&1 &
         exec $RUN ./redis-server --port 0 --unixsocket $PWD/s --save '' > log",
    ),
    work(
        "xz",
        "xz",
        "for i in 1 2 3 4; do cat $SOURCES/src/*.rs $SOURCES/src/*/*.rs; done > all",
        "$RUN xz -T2 -3 -kf all; $RUN xz -dc all.xz > again",
    ),
    work(
        "zstd",
        "zstd",
        "for i in 1 2 3 4 5 6; do cat $SOURCES/src/*.rs $SOURCES/src/*/*.rs; done > all",
        "$RUN zstd -q -f -9 all -o all.zst; $RUN zstd -q -f -d all.zst -o again",
    ),
    work(
        "sort",
        "sort",
        "for i in $(seq 12); do cat $SOURCES/src/*.rs $SOURCES/src/*/*.rs; done > all",
        "LC_ALL=C $RUN sort -S 200M all > sorted; LC_ALL=C $RUN sort -u -k2 all > unique",
    ),
    work(
        "make",
        "make",
        "{ echo 'all: t3000'; echo 't1:'; for i in $(seq 2 3000); do echo \"t$i: t$((i - 1)) t$((i / 2))\"; echo '\t@:'; done; } > Makefile",
        "$RUN make -s",
    ),
    work(
        "bash",
        "bash",
        "echo 'declare -A a; for i in {1..60000}; do a[$((i % 997))]+=$i; b+=(\"x$i\"); done; echo ${#a[@]} ${#b[@]}' > work.bash",
        "$RUN bash work.bash",
    ),
    work(
        "gawk",
        "gawk",
        "",
        "$RUN gawk 'BEGIN { for (i = 0; i < 400000; i++) { a[i % 20011] = a[i % 20011] i; n += split(\"a b c \" i, p) }
             for (k in a) m += length(a[k]); print n, m }'",
    ),
    work(
        "jq",
        "jq",
        "{ echo '['; for i in $(seq 30000); do echo \"{\\\"a\\\": $i, \\\"b\\\": [\\\"x$i\\\", $i.5]},\"; done; echo '0]'; } > in.json",
        "$RUN jq '[.[:-1][] | {a: .b[0], c: (.a * 2 | tostring)}] | group_by(.c[0:2]) | map(length)' in.json",
    ),
    Program {
        name: "100 × true",
        needs: "true",
        role: Role::Start,
        prepare: "",
        run: "for i in $(seq 100); do $RUN /bin/true; done",
    },
    Program {
        name: "10 × python3 -c pass",
        needs: "python3",
        role: Role::Start,
        prepare: "python3 -c 'import sys; print(sys.executable)' > python",
        run: "for i in $(seq 10); do $RUN $(cat python) -c pass; done",
    },
];

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) rounds: usize,
    /// Names of programs; none means all.
    pub(crate) only: Vec<String>,
}

/// Runs programs on both allocators, and prints a table.
///
/// # Errors
///
/// If the library cannot be built, or a program fails.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    if let Some(unknown) =
        request.only.iter().find(|name| PROGRAMS.iter().all(|p| p.name != **name))
    {
        let known: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
        bail!("{unknown} is none of the programs: {}", known.join(", "));
    }
    let library = preload::build()?;
    let mut measured = Vec::new();
    for program in PROGRAMS.iter().filter(|program| {
        request.only.is_empty() || request.only.iter().any(|name| name == program.name)
    }) {
        if !is_program(program.needs) {
            eprintln!("xtask: {} is not installed, and left out", program.needs);
            continue;
        }
        let folder = project_root().join("target/programs").join(program.name.replace(' ', "-"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).context("no folder for a program")?;
        let shell = Shell { folder };
        ensure!(
            shell.command(program.prepare, None).status()?.success(),
            "{} cannot be prepared",
            program.name
        );
        measured.push((program, shell, Pair::default()));
    }
    for round in 0..request.rounds {
        eprintln!("xtask: round {} of {}", round + 1, request.rounds);
        for (program, shell, pair) in &mut measured {
            for (library, costs) in [(None, &mut pair.system), (Some(&library), &mut pair.kmem)] {
                let command = &mut shell.command(program.run, library.map(PathBuf::as_path));
                let (status, cost) = preload::measure_command(command)?;
                ensure!(status.success(), "{} ended with {status}", program.name);
                costs.push(cost);
            }
        }
    }
    let rows = measured.iter().map(|(program, _, pair)| (*program, pair));
    print(&rows.collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

/// Where a program's scripts run.
struct Shell {
    folder: PathBuf,
}

impl Shell {
    fn command(&self, script: &str, library: Option<&Path>) -> Command {
        // `env` on both sides: it, too, takes its time to start.
        let run =
            library.map_or("env".into(), |library| format!("env LD_PRELOAD={}", library.display()));
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(&self.folder);
        command.env("SOURCES", project_root()).env("RUN", run).env_remove("RUSTC_WRAPPER");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// What a program took on each allocator, round by round.
#[derive(Default)]
struct Pair {
    system: Vec<Cost>,
    kmem: Vec<Cost>,
}

fn median(costs: &[Cost], what: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(rows: &[(&Program, &Pair)]) {
    println!(
        "{:<22}{:>12}{:>12}{:>8}{:>14}{:>14}{:>8}",
        "program", "CPU system", "kmem", "ratio", "peak system", "kmem", "ratio"
    );
    let (mut cpu_logs, mut peak_logs) = (Vec::new(), Vec::new());
    for (program, pair) in rows {
        let cpu = |costs: &[Cost]| median(costs, |cost| cost.cpu.as_secs_f64() * 1e3);
        let peak = |costs: &[Cost]| median(costs, |cost| cost.peak_kib as f64);
        let (cpu_system, cpu_kmem) = (cpu(&pair.system), cpu(&pair.kmem));
        let cpu_ratio = cpu_kmem / cpu_system;
        print!("{:<22}{cpu_system:>9.0} ms{cpu_kmem:>9.0} ms{cpu_ratio:>8.3}", program.name);
        if program.role == Role::Start {
            println!();
            continue;
        }
        let (peak_system, peak_kmem) = (peak(&pair.system), peak(&pair.kmem));
        let peak_ratio = peak_kmem / peak_system;
        println!("{peak_system:>10.0} KiB{peak_kmem:>10.0} KiB{peak_ratio:>8.3}");
        cpu_logs.push(cpu_ratio.ln());
        peak_logs.push(peak_ratio.ln());
    }
    let mean = |logs: &[f64]| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    if !cpu_logs.is_empty() {
        let (cpu, peak) = (mean(&cpu_logs), mean(&peak_logs));
        println!("{:<22}{:>24}{cpu:>8.3}{:>28}{peak:>8.3}", "geometric mean", "", "");
    }
}
