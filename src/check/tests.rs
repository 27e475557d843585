use std::panic::{UnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Detail, Rule, Violation, set_hook, violation};
use crate::frame::Order;
use crate::platform::CpuId;
use crate::test_support::alone_with_hook;

fn message_of(f: impl FnOnce() + UnwindSafe) -> String {
    let payload = catch_unwind(f).expect_err("it must stop");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_violation_is_one_line_that_names_the_object_and_the_rule() {
    let bare = Violation::new(Rule::NotAllocated, 0x1000);
    let order = |order| Detail::Order(Order::new(order).unwrap());
    let table = [
        (bare, "kmem: 0x1000 freed, but not allocated (freed twice, or never allocated) (CPU 0)"),
        (
            Violation::new(Rule::WrongOrder, 0x2000).expected_found(order(3), order(4)),
            "kmem: 0x2000 freed with the wrong order: expected order 3, found order 4 (CPU 0)",
        ),
        (
            Violation::new(Rule::WriteAfterFree, 0x3000)
                .in_cache("inode")
                .expected_found(
                    Detail::Byte { offset: 7, value: 0x6b },
                    Detail::Byte { offset: 7, value: 0 },
                )
                .on_cpu(CpuId::new(3).unwrap()),
            "kmem: 0x3000 of cache inode written after it was freed: \
             expected byte 0x6b at offset 7, found byte 0x00 at offset 7 (CPU 3)",
        ),
        (
            Violation::new(Rule::NotHead, 0x5000)
                .expected_found(Detail::Address(0x4000), Detail::Unknown),
            "kmem: 0x5000 freed by an address inside its block: expected 0x4000 (CPU 0)",
        ),
    ];
    for (found, line) in table {
        assert_eq!(found.to_string(), line);
    }
}

#[test]
fn without_a_hook_a_violation_stops_with_its_line() {
    let _alone = alone_with_hook();
    let found = Violation::new(Rule::Reserved, 0xf000);
    assert_eq!(message_of(|| violation(&found)), found.to_string());
}

#[test]
fn a_hook_that_returns_lets_the_kernel_go_on() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    set_hook(Some(|found| {
        SEEN.fetch_add(found.address, Ordering::Relaxed);
    }));
    violation(&Violation::new(Rule::RedZone, 40));
    violation(&Violation::new(Rule::RedZone, 2));
    set_hook(None);
    assert_eq!(SEEN.load(Ordering::Relaxed), 42);
}

#[test]
fn a_violation_inside_the_hook_stops_and_the_next_is_reported_again() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    set_hook(Some(|found| {
        SEEN.fetch_add(1, Ordering::Relaxed);
        if found.rule == Rule::Corrupted {
            violation(&Violation::new(Rule::Hole, 0x1));
        }
    }));
    let message = message_of(|| violation(&Violation::new(Rule::Corrupted, 0x2)));
    violation(&Violation::new(Rule::Busy, 0x3));
    set_hook(None);
    assert!(message.contains("0x1") && message.contains("inside the violation hook"), "{message}");
    assert_eq!(SEEN.load(Ordering::Relaxed), 2);
}

#[test]
fn hooks_of_two_cpus_do_not_stop_each_other() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    set_hook(Some(|found| {
        SEEN.fetch_add(1, Ordering::Relaxed);
        if found.cpu == CpuId::BOOT {
            violation(&Violation::new(Rule::Hole, 0).on_cpu(CpuId::new(1).unwrap()));
        }
    }));
    violation(&Violation::new(Rule::Hole, 0));
    set_hook(None);
    assert_eq!(SEEN.load(Ordering::Relaxed), 2);
}
