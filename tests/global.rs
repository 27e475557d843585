//! A whole test program whose allocator is kmem: the harness, its threads, and these.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use kmem::host::MmapAllocator;

#[global_allocator]
static KMEM: MmapAllocator = MmapAllocator::new();

/// Numbers that look random and come again.
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |step: u64| {
        let mixed = (seed ^ step).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
    })
}

/// The allocator serves the whole process, and can be verified only while nobody else uses it: one
/// test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn collections_hold_what_was_put_into_them() {
    let _alone = alone();
    let mut tree = BTreeMap::new();
    let mut map = HashMap::new();
    let mut queue = VecDeque::new();
    for number in numbers(1).take(200_000) {
        let key = number % 5_000;
        tree.entry(key).or_insert_with(Vec::new).push(number);
        map.entry(key).or_insert_with(Vec::new).push(number);
        queue.push_back(key.to_string());
        if queue.len() > 1_000 {
            queue.pop_front();
        }
    }
    assert!(tree.iter().all(|(key, list)| map[key] == *list));
    tree.retain(|key, _| key % 3 == 0);
    map.retain(|key, _| key % 3 == 0);
    assert_eq!(tree.len(), map.len());
    assert!(queue.iter().all(|text| text.parse::<u64>().is_ok_and(|key| key < 5_000)));
    KMEM.verify().expect("sound");
}

#[test]
fn strings_grow_and_vectors_of_all_sizes_are_sorted() {
    let _alone = alone();
    let mut text = String::new();
    for number in numbers(2).take(300_000) {
        text.push_str(&number.to_string());
        text.push(' ');
    }
    let parsed: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(parsed.iter().copied().eq(numbers(2).take(300_000)));
    for len in (0..2_000).step_by(7) {
        let mut list: Vec<u64> = numbers(len).take(len as usize).collect();
        let heap: BinaryHeap<u64> = list.iter().copied().collect();
        let set: BTreeSet<u64> = list.iter().copied().collect();
        list.sort_unstable();
        assert_eq!(list, heap.into_sorted_vec());
        assert!(set.iter().all(|number| list.binary_search(number).is_ok()));
    }
    KMEM.verify().expect("sound");
}

#[test]
fn threads_share_and_hand_over() {
    let _alone = alone();
    let shared: Arc<Mutex<HashMap<String, Arc<[u64]>>>> = Arc::default();
    let (sender, receiver) = mpsc::channel::<Box<[u64]>>();
    let threads: Vec<_> = (0..8)
        .map(|seed| {
            let (shared, sender) = (Arc::clone(&shared), sender.clone());
            thread::spawn(move || {
                for (step, number) in numbers(seed).enumerate().take(2_000) {
                    let list: Arc<[u64]> = numbers(number).take(step % 300).collect();
                    sender.send(list.iter().copied().collect()).expect("main listens");
                    let key = format!("{seed}-{}", number % 100);
                    drop(shared.lock().expect("no panic").insert(key, list));
                }
            })
        })
        .collect();
    drop(sender);
    let received: usize = receiver.iter().map(|list| list.len()).sum();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(received, 8 * (0..2_000).map(|step| step % 300).sum::<usize>());
    KMEM.verify().expect("sound");
}

#[test]
fn large_blocks_come_zeroed_and_go_back() {
    let _alone = alone();
    for mib in [1, 3, 7, 20, 5] {
        let zeroed = vec![0_u8; mib << 20];
        assert!(zeroed.iter().all(|byte| *byte == 0));
        let mut copy = zeroed.clone();
        copy.fill(0xFF);
        drop(zeroed);
        copy.resize((mib + 1) << 20, 0xFE);
        assert_eq!(copy.iter().filter(|byte| **byte == 0xFE).count(), 1 << 20);
    }
    assert!(KMEM.trim() > 0);
    KMEM.verify().expect("sound");
}

#[test]
fn the_report_shows_what_there_is() {
    let _alone = alone();
    let kept: Vec<Box<[u8; 48]>> = (0..100).map(|_| Box::new([7; 48])).collect();
    let text = KMEM.report().to_string();
    assert!(text.contains("heap-48") && text.contains("KiB live"), "{text}");
    assert!(kept.iter().all(|bytes| bytes.iter().all(|byte| *byte == 7)));
    let stats = KMEM.stats();
    assert!(stats.objects >= 100 && stats.live_bytes() <= stats.held_bytes());
    assert!(KMEM.cache_stats().any(|cache| cache.objects_active >= 100));
}

/// Two versions may be linked into one program: no symbol of both may have the same name.
#[test]
#[cfg(target_arch = "x86_64")]
fn what_a_thread_keeps_is_named_after_the_version() {
    let program = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
    let [major, minor, patch] = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ];
    let name = ["kmem", "thread", major, minor, patch].join("_");
    assert!(program.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
}
