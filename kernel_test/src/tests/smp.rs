//! Several CPUs: how they are found and started, and what they do to each other.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kmem::{CpuId, Platform};
use spin::Mutex;
use x86_64::instructions::hlt;
use x86_64::instructions::interrupts::{are_enabled, without_interrupts};

use crate::acpi::{self, AcpiError};
use crate::call::on_every_cpu;
use crate::platform::Pc;
use crate::{barrier, cpu, fw_cfg, local_timer};

pub(super) fn firmware_names_every_cpu() {
    assert_eq!(cpu::count(), fw_cfg::cpu_count());
    assert_eq!(Pc.cpu_count(), cpu::count());
    assert_eq!(Pc.cpu_id(), CpuId::BOOT);
    assert!(cpu::all().all(|cpu| cpu.is_online()));
    let mut apic_ids: Vec<_> = cpu::all().map(|cpu| cpu.apic_id()).collect();
    apic_ids.sort_unstable();
    apic_ids.dedup();
    assert_eq!(apic_ids.len(), cpu::count(), "two CPUs with one interrupt controller");
}

/// A firmware's memory from address 0 on, in which a root pointer leads to a root table and that to
/// a MADT of three CPUs, one of them switched off.
struct Firmware(Vec<u8>);

impl Firmware {
    const POINTER: usize = 0xe_0040;
    const ROOT: usize = 0xe_1000;
    const MADT: usize = 0xe_2000;

    fn new() -> Self {
        let mut firmware = Self(vec![0; 0x10_0000]);
        firmware.put(Self::POINTER, b"RSD PTR ");
        firmware.put(Self::POINTER + 16, &(Self::ROOT as u32).to_le_bytes());
        firmware.complete(Self::POINTER, 20, 8);
        firmware.put_table(Self::ROOT, b"RSDT", &(Self::MADT as u32).to_le_bytes());
        let madt = [
            [0x00, 0x00, 0xe0, 0xfe, 0, 0, 0, 0], // address of the controllers, flags
            [0, 8, 0, 7, 1, 0, 0, 0],             // kind, length, -, controller, enabled
            [0, 8, 1, 9, 0, 0, 0, 0],
            [0, 8, 2, 8, 1, 0, 0, 0],
        ];
        firmware.put_table(Self::MADT, b"APIC", madt.as_flattened());
        firmware
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_table(&mut self, at: usize, signature: &[u8; 4], content: &[u8]) {
        let len_bytes = 36 + content.len();
        self.put(at, signature);
        self.put(at + 4, &(len_bytes as u32).to_le_bytes());
        self.put(at + 36, content);
        self.complete(at, len_bytes, 9);
    }

    /// Makes the sum of a table's bytes zero by its byte `sum_at`.
    fn complete(&mut self, at: usize, len_bytes: usize, sum_at: usize) {
        self.0[at + sum_at] = 0;
        let sum = self.0[at..at + len_bytes].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        self.0[at + sum_at] = sum.wrapping_neg();
    }

    fn processors(&self) -> Result<acpi::Processors, AcpiError> {
        acpi::processors(&|start, len_bytes| {
            let start = usize::try_from(start).ok()?;
            self.0.get(start..start.checked_add(len_bytes)?)
        })
    }

    /// What comes of changing one byte.
    fn with(mut self, at: usize, byte: u8) -> Result<acpi::Processors, AcpiError> {
        self.0[at] = byte;
        self.processors()
    }
}

pub(super) fn broken_firmware_tables_are_refused() {
    let (pointer, root, madt) = (Firmware::POINTER, Firmware::ROOT, Firmware::MADT);
    let whole = Firmware::new().processors().expect("nothing is broken");
    assert_eq!((whole.apic_ids(), whole.local_apic), (&[7, 8][..], 0xfee0_0000));

    let broken = |at, byte| Firmware::new().with(at, byte);
    assert_eq!(broken(pointer, b'r'), Err(AcpiError::NoRoot));
    assert_eq!(broken(pointer + 8, 1), Err(AcpiError::NoRoot), "the pointer's sum");
    assert_eq!(broken(root + 30, 1), Err(AcpiError::Checksum(*b"RSDT")));
    assert_eq!(broken(madt + 39, 1), Err(AcpiError::Checksum(*b"APIC")));
    assert_eq!(broken(madt, b'X'), Err(AcpiError::NoTable(*b"APIC")));
    assert_eq!(broken(madt + 4, 35), Err(AcpiError::Unreadable(madt as u64)), "no header");
    assert_eq!(broken(madt + 7, 1), Err(AcpiError::Unreadable(madt as u64)), "16 MiB long");

    // An entry that is longer than what is left, or has no length, ends the list.
    for (len_bytes, found) in [(200, 0), (0, 0)] {
        let mut firmware = Firmware::new();
        firmware.0[madt + 45] = len_bytes;
        firmware.complete(madt, 36 + 32, 9);
        let count = firmware.processors().map(|processors| processors.apic_ids().len());
        assert_eq!(count, Ok(found), "an entry of {len_bytes} bytes");
    }
}

pub(super) fn every_cpu_runs_on_a_stack_of_its_own() {
    let seen = Mutex::new(Vec::new());
    on_every_cpu(&|cpu| {
        let on_stack = 0_u8;
        let stack = (&raw const on_stack).addr();
        assert_eq!(Pc.cpu_id(), cpu);
        assert!(are_enabled());
        without_interrupts(|| seen.lock().push((cpu.index(), stack)));
    });
    let mut seen = seen.into_inner();
    seen.sort_unstable();
    assert!(seen.iter().map(|(cpu, _)| *cpu).eq(0..cpu::count()), "{seen:x?}");
    let mut stacks: Vec<_> = seen.iter().map(|(_, stack)| stack / (128 * 1024)).collect();
    stacks.sort_unstable();
    stacks.dedup();
    assert_eq!(stacks.len(), cpu::count(), "{seen:x?}");
}

pub(super) fn calls_follow_each_other() {
    let calls = AtomicUsize::new(0);
    for _ in 0..100 {
        on_every_cpu(&|_| _ = calls.fetch_add(1, Ordering::Relaxed));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 100 * cpu::count());
}

fn ticks() -> Vec<u64> {
    cpu::all().map(|cpu| cpu.ticks.load(Ordering::Relaxed)).collect()
}

pub(super) fn timers_interrupt_every_cpu() {
    static HOOKS: AtomicU64 = AtomicU64::new(0);
    local_timer::start(|| {
        assert!(!are_enabled());
        HOOKS.fetch_add(1, Ordering::Relaxed);
    });
    while ticks().iter().any(|&ticks| ticks < 50) {
        hlt();
    }
    local_timer::stop();
    assert!(HOOKS.load(Ordering::Relaxed) >= 50 * cpu::count() as u64);
}

pub(super) fn stopped_timers_stay_silent() {
    static HOOKS: AtomicU64 = AtomicU64::new(0);
    for _ in 0..20 {
        local_timer::start(|| _ = HOOKS.fetch_add(1, Ordering::Relaxed));
        hlt();
        hlt();
        local_timer::stop();
        let hooks = HOOKS.load(Ordering::Relaxed);
        hlt();
        hlt();
        assert_eq!(HOOKS.load(Ordering::Relaxed), hooks);
    }
    assert!(HOOKS.load(Ordering::Relaxed) > 0);
}

/// A CPU that masks interrupts serves no barrier, so one must not be said to be passed before it
/// has opened them.
pub(super) fn barrier_waits_for_cpus_that_mask_interrupts() {
    let masked = AtomicUsize::new(0);
    let about_to_open = AtomicUsize::new(0);
    on_every_cpu(&|id| {
        if id == CpuId::BOOT {
            while masked.load(Ordering::Acquire) < cpu::count() - 1 {
                core::hint::spin_loop();
            }
            assert!(barrier::synchronize());
            assert_eq!(about_to_open.load(Ordering::Acquire), cpu::count() - 1);
            return;
        }
        without_interrupts(|| {
            masked.fetch_add(1, Ordering::AcqRel);
            (0..1_000_000).for_each(|_| core::hint::spin_loop());
            about_to_open.fetch_add(1, Ordering::AcqRel);
        });
    });
}

pub(super) fn barriers_at_once_do_not_wait_for_each_other() {
    on_every_cpu(&|_| {
        for round in 0..100 {
            let done = match round % 2 {
                0 => barrier::synchronize(),
                _ => without_interrupts(barrier::synchronize),
            };
            assert!(done, "round {round}");
        }
    });
}

/// kmem waits with interrupts masked for locks, and for CPUs that may be waiting for a barrier.
pub(super) fn who_waits_for_another_cpu_serves_barriers() {
    let masked = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    on_every_cpu(&|id| {
        if id == CpuId::BOOT {
            while masked.load(Ordering::Acquire) < cpu::count() - 1 {
                core::hint::spin_loop();
            }
            assert!(barrier::synchronize());
            done.store(true, Ordering::Release);
            return;
        }
        without_interrupts(|| {
            masked.fetch_add(1, Ordering::AcqRel);
            while !done.load(Ordering::Acquire) {
                Pc.relax();
            }
        });
    });
}

/// Runs `work` on the second CPU.
fn on_the_second_cpu(work: fn()) {
    on_every_cpu(&|cpu| {
        if cpu.index() == 1 {
            work();
        }
    });
}

pub(super) fn panic_on_another_cpu_is_reported() {
    on_the_second_cpu(|| panic!("on another CPU"));
}

pub(super) fn stack_overflow_on_another_cpu_is_reported() {
    #[expect(unconditional_recursion, reason = "the overflow is what is tested")]
    fn deeper(depth: usize) -> usize {
        let frame = black_box([depth; 64]);
        deeper(depth + 1) + black_box(frame)[0]
    }
    on_the_second_cpu(|| _ = deeper(0));
}
