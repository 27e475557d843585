//! What one CPU does under stress: takes, holds, sends and gives back, at random.

use alloc::vec::Vec;

use kmem::{AllocFlags, CpuId, Order};

use super::item::Item;
use super::mail;
use crate::cpu;
use crate::tests::random::Random;

/// What a CPU asks for, in which proportions, and what becomes of it.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    /// Of so many requests for blocks, heap memory and objects, one after the other.
    pub(super) blocks: usize,
    pub(super) bytes: usize,
    pub(super) objects: usize,
    /// The orders of blocks, each as often.
    pub(super) orders: &'static [u8],
    /// The largest request to the heap.
    pub(super) most_bytes: usize,
    /// Of ten items, how many are sent to another CPU to be given back there.
    pub(super) sent_of_ten: usize,
    /// Most items that a CPU holds.
    pub(super) held: usize,
}

impl Mix {
    /// Small blocks, heap memory and objects, half of which travel.
    pub(super) const EVERYTHING: Self = Self {
        blocks: 2,
        bytes: 2,
        objects: 1,
        orders: &[0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        most_bytes: 40_000,
        sent_of_ten: 5,
        held: 24,
    };

    /// Blocks only.
    pub(super) const fn blocks(orders: &'static [u8]) -> Self {
        Self { bytes: 0, objects: 0, orders, ..Self::EVERYTHING }
    }
}

/// One CPU's work.
pub(super) struct Worker {
    cpu: CpuId,
    mix: Mix,
    random: Random,
    held: Vec<Item>,
    /// Requests and frees that were done.
    operations: usize,
}

impl Worker {
    pub(super) fn new(cpu: CpuId, mix: Mix) -> Self {
        let random = Random::new((0x5eed << 8) | (cpu.index() as u64 + 1));
        Self { cpu, mix, random, held: Vec::with_capacity(mix.held), operations: 0 }
    }

    /// Works until so many operations are done, and those of the end: it holds nothing afterwards.
    /// How many there were.
    pub(super) fn run(mut self, operations: usize) -> usize {
        while self.operations < operations {
            self.step();
        }
        self.finish()
    }

    /// One request or one free.
    pub(super) fn step(&mut self) {
        match self.random.below(20) {
            0..9 if self.held.len() < self.mix.held => self.take(),
            0..18 => self.release(),
            _ => self.receive(),
        }
    }

    fn take(&mut self) {
        let Mix { blocks, bytes, objects, orders, most_bytes, .. } = self.mix;
        let kind = self.random.below(blocks + bytes + objects);
        let any = AllocFlags::empty();
        let item = if kind < blocks {
            let order = Order::new(orders[self.random.below(orders.len())]).expect("an order");
            Item::block(order, any)
        } else if kind < blocks + bytes {
            // Each doubling as often as the next.
            let most = most_bytes >> self.random.below(most_bytes.ilog2() as usize);
            Item::words(1 + self.random.below(most.div_ceil(8)), any)
        } else {
            Item::object(any)
        };
        // Memory may be short for a while, when others hold much.
        self.held.extend(item);
        self.operations += 1;
    }

    /// Gives an item back, here or on another CPU.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let item = self.held.swap_remove(self.random.below(self.held.len()));
        let mut item = Some(item);
        if self.random.below(10) < self.mix.sent_of_ten {
            let to = CpuId::new(self.random.below(cpu::count())).expect("a CPU");
            item = item.and_then(|item| mail::post(self.cpu, to, item).err());
        }
        if let Some(item) = item {
            item.free();
            self.operations += 1;
        }
    }

    /// Gives back what another CPU has sent.
    fn receive(&mut self) {
        let from = CpuId::new(self.random.below(cpu::count())).expect("a CPU");
        if let Some(item) = mail::receive(self.cpu, from) {
            item.free();
            self.operations += 1;
        }
    }

    /// Gives everything back that it holds; how many operations there have been.
    pub(super) fn finish(mut self) -> usize {
        self.operations += self.held.len();
        self.held.drain(..).for_each(Item::free);
        self.operations
    }
}
