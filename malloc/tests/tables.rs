//! The library's own tables against simple models.

// The modules themselves: the library is made to be preloaded, not to be linked with a test.
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../src/blocks.rs"]
mod blocks;
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../src/lock.rs"]
mod lock;
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../src/mapped.rs"]
mod mapped;
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../src/names.rs"]
mod names;
#[allow(dead_code, reason = "the tests use a part of it")]
#[path = "../src/table.rs"]
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use blocks::{BOOKS, Block};
use lock::{Lock, Owner, Owners};
use mapped::Mapped;
use names::{Name, Names};
use table::{Record, Table};

/// A sequence that looks random and is always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    key: usize,
    value: usize,
}

// SAFETY: integers; the key of one that is all zero is 0.
unsafe impl Record for Pair {
    fn key(&self) -> usize {
        self.key
    }
}

/// Keys as addresses are, the n-th of them, all over the place: neighbours would not collide.
fn address(n: usize) -> usize {
    let mut random = Random(n as u64 + 1);
    random.below(1 << 40);
    (random.below(1 << 40) + 1) * 16
}

#[test]
fn a_table_is_a_map() {
    // With 500 keys the table stays as it is, nearly half full, so that chains wrap around its
    // end; with 100,000 it grows.
    let cases = (0..8).map(|case| (case, 500, 20_000)).chain([(8, 100_000, 150_000)]);
    for (case, keys, steps) in cases {
        let (mut table, mut model) = (Table::<Pair>::new(), BTreeMap::new());
        let mut random = Random(7);
        for step in 0..steps {
            let key = address(case << 32 | random.below(keys));
            match random.below(8) {
                0..6 => {
                    assert!(table.insert(Pair { key, value: step }));
                    model.insert(key, step);
                }
                6 => {
                    let found =
                        table.get_mut(key).map(|pair| std::mem::replace(&mut pair.value, step));
                    assert_eq!(
                        found,
                        model.get_mut(&key).map(|value| std::mem::replace(value, step))
                    );
                }
                _ => {
                    let removed = table.remove(key).map(|pair| pair.value);
                    assert_eq!(removed, model.remove(&key));
                }
            }
            assert_eq!(table.len(), model.len());
            let other = address(case << 32 | random.below(keys));
            assert_eq!(table.get(other).map(|pair| pair.value), model.get(&other).copied());
        }
        let mut all: Vec<(usize, usize)> =
            table.iter().map(|pair| (pair.key, pair.value)).collect();
        all.sort_unstable();
        assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_empty_table_has_nothing() {
    let mut table = Table::<Pair>::new();
    assert_eq!(table.get(16), None);
    assert_eq!(table.remove(16), None);
    assert_eq!((table.len(), table.iter().count()), (0, 0));
}

#[test]
fn a_mapped_array_is_a_vector() {
    let (mut array, mut model) = (Mapped::new(), Vec::new());
    let mut random = Random(3);
    for _ in 0..2000 {
        match random.below(20) {
            0 => {
                let len = random.below(model.len() + 2);
                array.truncate(len);
                model.truncate(len);
            }
            1 => {
                let more: Vec<usize> = (0..random.below(3000)).collect();
                assert!(array.extend(&more));
                model.extend(more);
            }
            _ => {
                assert!(array.push(model.len()));
                model.push(model.len());
            }
        }
        assert!(array.as_slice() == model, "after {} elements", model.len());
    }
    // SAFETY: integers.
    assert!(unsafe { array.fill_zeroed(5000) });
    assert!(
        array.as_mut_slice().iter().all(|&element| element == 0) && array.as_slice().len() == 5000
    );
}

#[test]
fn each_name_is_kept_once() {
    let mut names = Names::new();
    let mut model = BTreeMap::new();
    let mut random = Random(5);
    for _ in 0..30_000 {
        let text = format!("name {}{}", random.below(5000), "x".repeat(random.below(70)));
        let kept = &text.as_bytes()[..text.len().min(64)];
        let name = names.intern(text.as_bytes());
        assert_ne!(name, Name::NONE);
        assert_eq!(*model.entry(kept.to_vec()).or_insert(name), name);
        assert_eq!(names.text(name), kept);
    }
    let different: std::collections::BTreeSet<Name> = model.values().copied().collect();
    assert_eq!(different.len(), model.len());
    assert_eq!(names.text(Name::NONE), b"");
    assert_eq!(names.text(Name(u32::MAX)), b"");
    let empty = names.intern(b"");
    assert_eq!(names.text(empty), b"");
}

/// The books as a model: what is live, and the quarantine in order of time.
#[derive(Default)]
struct Model {
    live: BTreeMap<usize, (usize, &'static str)>,
    held: VecDeque<(usize, usize)>,
    peak_bytes: usize,
    allocations: usize,
    frees: usize,
}

impl Model {
    fn live_bytes(&self) -> usize {
        self.live.values().map(|&(bytes, _)| bytes).sum()
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(|&(_, bytes)| bytes.max(16)).sum()
    }
}

#[test]
fn the_books_know_what_is_live_and_what_is_kept_back() {
    const LIMIT: usize = 20_000;
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let mut model = Model::default();
    let mut random = Random(11);
    for _ in 0..40_000 {
        let address = (random.below(400) + 1) * 16;
        let (known, is_held) = (
            model.live.get(&address).copied(),
            model.held.iter().any(|&(held, _)| held == address),
        );
        BOOKS
            .with(|books| {
                assert_eq!(
                    books.blocks.get(address).map(|block| block.bytes),
                    known.map(|(bytes, _)| bytes)
                );
                assert_eq!(books.holds(address), is_held);
                match (known, random.below(6)) {
                    (None, _) if !is_held => {
                        let bytes = random.below(1000);
                        let live_bytes = model.live_bytes();
                        assert!(!books.set_aside(bytes + 1, 0, live_bytes + bytes));
                        assert!(books.set_aside(bytes + 1, 0, live_bytes + bytes + 1));
                        books.put_back(1);
                        books.enter(Block { address, bytes, thread: 1, name: Name::NONE });
                        model.live.insert(address, (bytes, ""));
                        model.allocations += 1;
                    }
                    (Some((bytes, _)), 0) => {
                        let name = NAMES[random.below(3)];
                        books.name(address, None, 1, name.as_bytes());
                        model.live.insert(address, (bytes, name));
                    }
                    (Some(_), 1) => {
                        let left = books.leave(address).expect("it is live");
                        books.reenter(left);
                    }
                    (Some((bytes, name)), _) => {
                        let left = books.begin_free(address).expect("it is not held");
                        let left = left.expect("it is live");
                        assert_eq!(
                            (left.bytes, books.names.text(left.name)),
                            (bytes, name.as_bytes())
                        );
                        assert!(books.holds(address) && books.keep_back(address, bytes));
                        model.live.remove(&address);
                        model.held.push_back((address, bytes));
                        model.frees += 1;
                    }
                    _ => assert!(books.begin_free(address).is_err()),
                }
                assert!(books.kept_back().eq(model.held.iter().copied()));
                while let Some(left) = books.let_go(LIMIT) {
                    assert!(model.held_bytes() > LIMIT && books.holds(left.0));
                    books.end_free(left.0);
                    assert_eq!(Some(left), model.held.pop_front());
                }
                assert!(model.held_bytes() <= LIMIT);
                model.peak_bytes = model.peak_bytes.max(model.live_bytes());
                assert_eq!(books.live_bytes, model.live_bytes());
                assert_eq!(books.peak_bytes, model.peak_bytes);
                assert_eq!((books.allocations, books.frees), (model.allocations, model.frees));
            })
            .expect("nobody else uses the books");
    }
    let sorted = BOOKS.with(|books| books.sorted()).expect("nobody else uses the books");
    let sorted: Vec<(usize, usize)> =
        sorted.as_slice().iter().map(|block| (block.address, block.bytes)).collect();
    let expected: Vec<(usize, usize)> =
        model.live.iter().map(|(&address, &(bytes, _))| (address, bytes)).collect();
    assert_eq!(sorted, expected);
}

#[test]
fn a_lock_lets_one_thread_in_and_tells_its_owner() {
    static OWNER: Owner = Owner::new();
    // SAFETY: no other lock has this owner.
    static COUNT: Lock<usize> = unsafe { Lock::new(&OWNER, 0) };
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert!(!COUNT.is_held());
                    let answer = COUNT.with(|count| {
                        assert_eq!(INSIDE.fetch_add(1, Relaxed), 0);
                        *count += 1;
                        assert!(COUNT.is_held() && COUNT.with(|_| ()).is_none());
                        INSIDE.fetch_sub(1, Relaxed);
                    });
                    assert!(answer.is_some());
                }
            });
        }
    });
    assert_eq!(COUNT.with(|count| *count), Some(80_000));
}

#[test]
fn a_fork_takes_the_locks_that_its_thread_does_not_hold() {
    static OWNERS: Owners = Owners { books: Owner::new(), log: Owner::new(), arena: Owner::new() };
    // SAFETY: no other locks have these owners.
    static LOCKS: [Lock<()>; 3] = unsafe {
        [Lock::new(&OWNERS.books, ()), Lock::new(&OWNERS.log, ()), Lock::new(&OWNERS.arena, ())]
    };
    let held = || LOCKS.each_ref().map(|lock| lock.is_held());
    assert!(OWNERS.try_take_for_fork());
    assert_eq!(held(), [true; 3]);
    OWNERS.give_after_fork();
    assert_eq!(held(), [false; 3]);
    // As a signal handler does that forks on top of the log.
    let forked = LOCKS[1].with(|()| {
        assert!(OWNERS.try_take_for_fork());
        assert_eq!(held(), [true; 3]);
        OWNERS.give_after_fork();
        held()
    });
    assert_eq!(forked, Some([false, true, false]), "the log goes on");
    assert_eq!(held(), [false; 3]);
}
