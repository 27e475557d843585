//! A real program whose every allocation is served by kmem: it indexes a large text with several
//! threads, asks the index questions, builds and drops maps, and shows what the allocator saw.
//!
//! ```text
//! cargo run --release --features mmap --example workload [FILE]
//! ```
//!
//! Without a file it makes up its text, the same one every time.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use kmem::host::MmapAllocator;

#[path = "common/mod.rs"]
#[expect(dead_code, reason = "nothing is drawn")]
mod common;

#[global_allocator]
static KMEM: MmapAllocator = MmapAllocator::new();

const THREADS: usize = 4;
const TEXT_BYTES: usize = 24 << 20;

/// The byte offsets at which each word begins.
type Index = HashMap<String, Vec<u32>>;

const USAGE: &str = "workload [FILE]    indexes a text of at most 4 GiB, or one that it makes up";

fn main() -> ExitCode {
    common::run(USAGE, 1, work)
}

fn work(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let text: Arc<str> = match arguments.first() {
        Some(path) => {
            let path = path.display();
            let text = step(&format!("reading {path}"), || fs::read_to_string(&arguments[0]));
            text.map_err(|error| format!("{path}: {error}"))?.into()
        }
        None => step("making up a text", || made_up_text(TEXT_BYTES)).into(),
    };
    // Words are found again by offsets of 32 bits.
    u32::try_from(text.len()).map_err(|_| format!("a text of {} bytes is too long", text.len()))?;
    println!("  {} MiB, {} lines", text.len() >> 20, text.lines().count());

    let index = step(&format!("indexing it with {THREADS} threads"), || index_in_parallel(&text));
    println!(
        "  {} different words, {} in all",
        index.len(),
        index.values().map(Vec::len).sum::<usize>()
    );

    let catalogue = step("sorting the index", || catalogue(index));
    for (word, positions) in most_frequent(&catalogue, 5) {
        println!("  {word:12} {:8} times, first at byte {}", positions.len(), positions[0]);
    }

    step("asking it from 500 short threads", || ask_from_threads(&catalogue, 500));
    step("building and dropping 200 maps", || build_and_drop(200));
    show("with everything alive");

    step("dropping text and index", || drop((text, catalogue)));
    let returned = step("returning memory to the system", || KMEM.trim());
    println!("  {} MiB returned", returned >> 20);
    show("at the end");
    KMEM.verify()?;
    println!("every invariant of the allocator holds");
    Ok(())
}

/// Says what is done, does it, and says how long that took.
fn step<R>(what: &str, run: impl FnOnce() -> R) -> R {
    println!("{what} ...");
    let start = Instant::now();
    let result = run();
    println!("  {} ms", start.elapsed().as_millis());
    result
}

/// What the allocator has to say for itself.
fn show(when: &str) {
    println!("\nwhat kmem sees {when}:\n{}", KMEM.report());
}

/// At least `len_bytes` of words, few of them frequent and many rare, as in a language.
fn made_up_text(len_bytes: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mi", "ra", "ten", "so", "vel", "ur", "an", "po", "dri", "es", "qua", "ni",
        "tho", "be",
    ];
    let mut random = Random(1);
    let mut text = String::new();
    while text.len() < len_bytes {
        // The rank of a word: halving its range at each throw makes low ranks frequent.
        let mut rank = random.below(1 << 20) >> random.below(21);
        loop {
            text.push_str(SYLLABLES[rank % SYLLABLES.len()]);
            rank /= SYLLABLES.len();
            if rank == 0 {
                break;
            }
        }
        text.push(if random.below(12) == 0 { '\n' } else { ' ' });
    }
    text
}

/// Each thread indexes its share and sends the result to this one, which frees what others
/// allocated.
fn index_in_parallel(text: &Arc<str>) -> Index {
    let (sender, receiver) = mpsc::channel();
    let mut start = 0;
    for share in 1..=THREADS {
        let end = word_end(text, text.len() * share / THREADS);
        let (sender, text, range) = (sender.clone(), Arc::clone(text), start..end);
        thread::spawn(move || sender.send(index_words(&text, range)));
        start = end;
    }
    drop(sender);
    let mut parts: Vec<(usize, Index)> = receiver.iter().collect();
    parts.sort_by_key(|(start, _)| *start);
    let mut index = Index::new();
    for (_, part) in parts {
        for (word, positions) in part {
            index.entry(word).or_default().extend(positions);
        }
    }
    index
}

/// The first place at or after `from` where no word goes on.
fn word_end(text: &str, from: usize) -> usize {
    let rest = &text.as_bytes()[from..];
    from + rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())
}

fn index_words(text: &str, range: std::ops::Range<usize>) -> (usize, Index) {
    let mut index = Index::new();
    for word in text[range.clone()].split_ascii_whitespace() {
        // Both are slices of the same text.
        let position = word.as_ptr().addr() - text.as_ptr().addr();
        index.entry(word.to_lowercase()).or_default().push(position as u32);
    }
    (range.start, index)
}

type Catalogue = Arc<BTreeMap<Arc<str>, Arc<[u32]>>>;

fn catalogue(index: Index) -> Catalogue {
    Arc::new(index.into_iter().map(|(word, positions)| (word.into(), positions.into())).collect())
}

fn most_frequent(catalogue: &Catalogue, count: usize) -> Vec<(Arc<str>, Arc<[u32]>)> {
    let mut words: Vec<_> = catalogue.iter().collect();
    words.sort_by_key(|(_, positions)| std::cmp::Reverse(positions.len()));
    words.into_iter().take(count).map(|(word, at)| (Arc::clone(word), Arc::clone(at))).collect()
}

/// Threads that live as long as one question; each leaves its answer for this one to free.
fn ask_from_threads(catalogue: &Catalogue, questions: usize) {
    for question in 0..questions {
        let catalogue = Arc::clone(catalogue);
        let answer = thread::spawn(move || {
            let (word, at) = catalogue.iter().nth(question % catalogue.len().max(1))?;
            let mut answer = String::new();
            write!(answer, "{word}: {}", at.len()).ok()?;
            Some(answer)
        });
        answer.join().expect("the thread does not panic");
    }
}

/// Maps of growing size whose values are of all sizes, up to a few hundred KiB.
fn build_and_drop(maps: usize) {
    let mut random = Random(2);
    let mut kept: Vec<HashMap<usize, Vec<u8>>> = Vec::new();
    for _ in 0..maps {
        let map = (0..500)
            .map(|key| {
                let most = 16 << random.below(15);
                let len_bytes = random.below(most);
                (key, vec![key as u8; len_bytes])
            })
            .collect();
        kept.push(map);
        if kept.len() > 8 {
            kept.swap_remove(random.below(kept.len()));
        }
    }
    for map in &kept {
        for (key, value) in map {
            assert!(value.iter().all(|byte| *byte == *key as u8), "memory was changed");
        }
    }
}

/// A small generator of numbers (xorshift64*): the same run every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}
