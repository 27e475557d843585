//! What shrinkers may do, and may not upset.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmem::AllocFlags;
use kmem::frame::Order;
use kmem::page::{AllocError, PageAllocator, Shrinker};

mod support;
use support::{Machine, pages, pinned};

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
