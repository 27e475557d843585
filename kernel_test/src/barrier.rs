//! A memory barrier on every CPU: what kmem asks for as [`Platform::synchronize`].
//!
//! Calls are numbered. A caller takes the next number, interrupts all others, and waits until each
//! has served a call of that number or a later one. To serve is to look up the last number, to
//! forget the translations that were taken out of the page tables, to pass a barrier, and to note
//! the number: so one barrier serves all calls that began before it.
//!
//! Those who wait serve, too, so calls on several CPUs at once do not wait for each other, even
//! with interrupts masked. A wait has an end: a CPU that masks interrupts for very long makes the
//! call answer `false`.
//!
//! [`Platform::synchronize`]: kmem::Platform::synchronize

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};

use crate::apic::{self, Command};
use crate::cpu::{self, Cpu};
use crate::tlb;

/// The number of the last call.
static LAST_CALL: AtomicU64 = AtomicU64::new(0);

/// Rounds to wait for one CPU: seconds, as an emulator may not run that CPU for a while.
const ROUNDS: usize = 100_000_000;

/// Makes every CPU that runs pass a full memory barrier; whether all did.
pub(crate) fn synchronize() -> bool {
    let call = LAST_CALL.fetch_add(1, SeqCst) + 1;
    fence(SeqCst);
    if cpu::count() > 1 {
        apic::send_to_others(Command::Interrupt { vector: apic::KNOCK_VECTOR });
    }
    let all = cpu::others().filter(|cpu| cpu.is_online()).all(|cpu| has_served(cpu, call));
    fence(SeqCst);
    all
}

/// Waits until `cpu` has served `call`.
fn has_served(cpu: &Cpu, call: u64) -> bool {
    for _ in 0..ROUNDS {
        if cpu.barrier.load(SeqCst) >= call {
            return true;
        }
        serve();
        spin_loop();
    }
    false
}

/// Serves all calls made so far, on the running CPU.
pub(crate) fn serve() {
    let call = LAST_CALL.load(SeqCst);
    let served = &cpu::current().barrier;
    if served.load(SeqCst) < call {
        tlb::catch_up();
        fence(SeqCst);
        // The largest: a handler that interrupts this here may serve a later call.
        served.fetch_max(call, SeqCst);
    }
}
