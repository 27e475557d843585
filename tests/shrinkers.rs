//! What shrinkers may do, and may not upset.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use kmem::AllocFlags;
use kmem::frame::Order;
use kmem::page::{AllocError, PageAllocator, Shrinker};

mod support;
use support::{Machine, become_cpu, pages, pinned};

const NONE: AllocFlags = AllocFlags::empty();

type Pages = PageAllocator<Machine>;

/// Has `work` run for each request that would fail, and counts how often.
struct Hoard<F> {
    work: F,
    runs: AtomicUsize,
}

impl<F: Fn() -> usize + Sync> Shrinker for Hoard<F> {
    fn shrink(&self, _: usize) -> usize {
        self.runs.fetch_add(1, Relaxed);
        (self.work)()
    }
}

/// Registers a shrinker for good.
fn hoard<F: Fn() -> usize + Sync + 'static>(pages: &Pages, work: F) -> &'static Hoard<F> {
    let hoard = Box::leak(Box::new(Hoard { work, runs: AtomicUsize::new(0) }));
    pages.register_shrinker(hoard).expect("a place");
    hoard
}

/// Asks for more than there is.
fn ask(pages: &Pages) -> Result<(), AllocError> {
    pages.alloc(Order::MAX, NONE).map(|_| ())
}

#[test]
fn shrinkers_that_boast_change_nothing() {
    let pages = pages(64, 1);
    let hoards = [1, usize::MAX, usize::MAX].map(|boast| hoard(&pages, move || boast));
    assert_eq!(ask(&pages), Err(AllocError::OutOfMemory));
    assert_eq!(hoards.map(|hoard| hoard.runs.load(Relaxed)), [1, 1, 0]);
}

#[test]
fn shrinkers_run_again_after_one_has_unwound() {
    let pages = pages(64, 1);
    let hoard = hoard(&pages, || panic!("a shrinker that fails"));
    for runs in 1..4 {
        assert!(catch_unwind(AssertUnwindSafe(|| ask(&pages))).is_err());
        assert_eq!(hoard.runs.load(Relaxed), runs);
        assert!(!pinned());
    }
}

#[test]
fn a_shrinker_stays_on_its_cpu_and_its_own_requests_start_none() {
    let pages: &'static Pages = Box::leak(Box::new(pages(64, 1)));
    let hoard = hoard(pages, || {
        assert!(pinned(), "it could find itself on another CPU, where none runs");
        assert_eq!(ask(pages), Err(AllocError::OutOfMemory));
        0
    });
    assert_eq!(ask(pages), Err(AllocError::OutOfMemory));
    assert_eq!(hoard.runs.load(Relaxed), 1);
    assert!(!pinned());
}

#[test]
fn each_shrinker_is_asked_for_what_is_missing_yet_and_none_for_nothing() {
    static ASKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    struct Gives(usize);
    impl Shrinker for Gives {
        fn shrink(&self, frames: usize) -> usize {
            ASKED.lock().expect("no panic").push(frames);
            self.0
        }
    }
    static ALL: usize = Order::MAX.frames();
    static SHRINKERS: [Gives; 3] = [Gives(10), Gives(ALL - 10), Gives(1)];
    let pages = pages(64, 1);
    for shrinker in &SHRINKERS {
        pages.register_shrinker(shrinker).expect("a place");
    }
    assert_eq!(ask(&pages), Err(AllocError::OutOfMemory));
    assert_eq!(*ASKED.lock().expect("no panic"), [ALL, ALL - 10]);
}

#[test]
fn where_threads_keep_to_their_cpus_shrinkers_run_on_several_at_once() {
    static IS_NESTED: AtomicBool = AtomicBool::new(false);
    let pages: &'static Pages = Box::leak(Box::new(pages(64, 2)));
    let hoard = hoard(pages, || {
        if !IS_NESTED.swap(true, Relaxed) {
            let other = || {
                become_cpu(1);
                ask(pages)
            };
            let asked = thread::scope(|scope| scope.spawn(other).join().expect("no panic"));
            assert_eq!(asked, Err(AllocError::OutOfMemory));
        }
        0
    });
    assert_eq!(ask(pages), Err(AllocError::OutOfMemory));
    assert_eq!(hoard.runs.load(Relaxed), 2);
}
