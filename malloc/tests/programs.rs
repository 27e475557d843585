//! Real programs print what they print on the system's allocator. A program that is not installed
//! is named, with the command that installs it, and left out.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use support::{assert_same_output, library};

/// Runs a shell script with and without kmem; what it prints must be the same.
#[track_caller]
fn same_output(program: &str, package: &str, script: &str) {
    let kmem = vec![("LD_PRELOAD", library().to_owned())];
    assert_same_output(program, package, script, &[(String::from("kmem"), kmem)]);
}

#[test]
fn gcc_compiles_a_large_file_to_the_same_object() {
    same_output(
        "gcc",
        "gcc",
        "{ cat $SOURCES/malloc/benches/workloads.c; for i in $(seq 300); do
             echo \"int f$i(int *a, int n) { int s = $i; while (n--) s += a[n] * s ^ $i; return s; }\"; done; } > large.c
         gcc -O2 -c large.c -o out.o; sha256sum < out.o",
    );
}

#[test]
fn gxx_compiles_to_the_same_object() {
    same_output(
        "g++",
        "g++",
        "g++ -O1 -c $SOURCES/malloc/tests/c/exceptions.cc -o out.o; sha256sum < out.o",
    );
}

#[test]
fn git_logs_and_packs() {
    same_output(
        "git",
        "git",
        "export GIT_AUTHOR_DATE='1 Jan 2020 00:00 +0000' GIT_COMMITTER_DATE='1 Jan 2020 00:00 +0000'
         git init -q . && git config user.email a@b && git config user.name n
         cp -r $SOURCES/src . && git add . && git commit -qm first
         for i in 1 2 3; do echo $i >> src/lib.rs; git commit -qam $i; done
         git gc -q && git fsck && git log --stat && git diff HEAD~3 && git blame src/lib.rs",
    );
}

#[test]
fn sqlite_keeps_a_million_rows() {
    same_output(
        "sqlite3",
        "sqlite3",
        "sqlite3 data.db \"pragma journal_mode = off; pragma synchronous = off;
         create table t(a integer primary key, b text, c real);
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
         insert into t select i, 'row ' || (i * 7919 % 100003), i / 3.0 from n;
         select count(*), sum(a), max(b) from t; select substr(b, 1, 6), count(*) from t group by 1 order by 2 desc limit 20;
         delete from t where a > 50000; create index by_b on t(b); vacuum; pragma integrity_check;\"",
    );
}

#[test]
fn perl_builds_hashes_and_forks() {
    same_output(
        "perl",
        "perl",
        "perl -e 'my %h; $h{$_ % 5003} .= \"$_,\" for 1..200000; print join(\";\", map { length $h{$_} } sort keys %h), \"\\n\";
         for my $i (1..5) { my $p = fork; if (!$p) { my @a = map { $_ x 10 } 1..10000; exit 0 } waitpid $p, 0; print $?, \"\\n\" }'",
    );
}

#[test]
fn python_runs_threads_processes_and_its_own_tests() {
    same_output(
        "python3",
        "python3",
        "python3 - <<'PY'
import json, multiprocessing, subprocess, sys, threading, collections
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
def work(n):
    words = collections.Counter(str(i * n % 1009) for i in range(20000))
    return sum(len(k) * v for k, v in words.items())
if __name__ == '__main__':
    with ThreadPoolExecutor(8) as pool: print(list(pool.map(work, range(1, 20))))
    with ProcessPoolExecutor(2) as pool: print(list(pool.map(work, range(1, 20))))
    with multiprocessing.Manager() as manager, multiprocessing.Pool(2) as pool:
        shared = manager.dict(); queue = multiprocessing.Queue()
        print(pool.map(str, range(2000), 7)[-1], pool.apply(sorted, ([3, 1, 2],)))
        child = multiprocessing.Process(target=lambda: queue.put([shared.update(a=1), bytes(100000)]))
        child.start(); print(len(queue.get()[1]), dict(shared)); child.join(); print(child.exitcode)
    print(subprocess.run([sys.executable, '-c', 'print(42)'], capture_output=True).stdout)
    print(len(json.dumps([{str(i): [i] * 10} for i in range(20000)])))
PY
         own() { python3 -m test -q \"$@\" > tests.log 2>&1 && echo the tests pass \
                 || { grep -q 'No module named test' tests.log && echo the tests pass; }; }
         own test_list test_dict test_json test_thread test_memoryio test_array
         own test_threading -m '*LockTests*' -m '*ConditionTests*'
         own test_subprocess -m '*.ProcessTestCase.test_c*'",
    );
}

#[test]
fn node_runs_workers() {
    same_output(
        "node",
        "nodejs",
        "cat > a.js <<'JS'
const { Worker } = require('worker_threads');
const a = []; for (let i = 0; i < 200000; i++) a.push({ i, s: 'x'.repeat(i % 50) });
console.log(JSON.stringify(a).length, Buffer.alloc(1 << 24, 7).reduce((x, y) => (x + y) & 0xffff));
const w = 'require(\"worker_threads\").parentPort.postMessage([...Array(1e5).keys()].length)';
new Worker(w, { eval: true }).on('message', m => console.log(m));
JS
         node a.js",
    );
}

#[test]
fn compressors_and_sort_agree() {
    same_output(
        "xz",
        "xz-utils",
        "cat $SOURCES/src/*.rs $SOURCES/src/*/*.rs > all
         for i in 1 2 3; do cat all all > more; mv more all; done
         xz -T2 -1 -k all && sha256sum < all.xz && xz -dc all.xz | sha256sum
         sort all | uniq -c | sort -rn | head -100",
    );
}

#[test]
fn make_bash_and_awk_agree() {
    same_output(
        "make",
        "make gawk",
        "for i in $(seq 50); do
             printf 't%s: t%s\\n\\t@echo $@\\n' $i $((i + 1)); done > Makefile; echo 't51:' >> Makefile
         make t1
         bash -c 'declare -A a; for i in {1..5000}; do a[$((i % 97))]+=$i; done
                  for k in ${!a[@]}; do echo $k ${#a[$k]}; done | sort'
         $(command -v gawk || command -v awk) 'BEGIN { for (i = 0; i < 100000; i++) a[i % 1013] = a[i % 1013] i
                      for (k in a) n += length(a[k]); print n }'",
    );
}

#[test]
fn redis_serves_its_benchmark() {
    same_output(
        "redis-check-rdb",
        "redis-tools",
        // The server is the same program by another name, which Debian packs apart with a service
        // that starts.
        "ln -s $(command -v redis-check-rdb) redis-server; PATH=$PWD:$PATH
         redis-server --port 0 --unixsocket $PWD/s --save '' --daemonize yes --logfile $PWD/log > /dev/null
         # Until it serves, or the time for all of this is over.
         until redis-cli -s s ping > /dev/null 2>&1; do sleep 0.1; done
         redis-benchmark -s s -q -n 20000 -r 10000 -t set,lpush,hset > /dev/null
         redis-cli -s s eval \"for i = 1, 20000 do redis.call('set', 'k' .. i, string.rep('x', i % 100)) end
             return 20000\" 0
         redis-cli -s s strlen k1099; redis-cli -s s shutdown nosave || true; echo ended",
    );
}

#[test]
fn cargo_builds_a_crate() {
    same_output(
        "cargo",
        "cargo",
        "mkdir -p one/src; cd one
         printf '[package]\\nname = \"one\"\\nedition = \"2021\"\\n[workspace]\\n' > Cargo.toml
         echo 'fn main() { let v: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
             println!(\"{}\", v.join(\",\").len()); }' > src/main.rs
         env -u RUSTC_WRAPPER cargo run -q --offline --target-dir target",
    );
}
