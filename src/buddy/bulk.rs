//! Many blocks at once, up to 64 frames with one word.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::group::{GROUP_FRAMES, GROUP_ORDER, WHOLE};
use super::word::{WORD_FRAMES, WORD_ORDER, ones};
use super::{BlockOwner, Buddy, FreeError, Placement, State, claim, frame_at};
use crate::frame::{Frame, Order};

impl Buddy<'_> {
    /// Fills `out` with blocks of `order` for `owner`, the same and in the same order as
    /// [`alloc`](Self::alloc) would one by one, and says how many there were.
    pub fn alloc_many(
        &mut self,
        order: Order,
        out: &mut [Frame],
        owner: BlockOwner,
        placement: Placement,
    ) -> usize {
        self.take_many(order, out, State::head(owner, order), placement)
    }

    /// Fills `out` with blocks of `order` for a CPU's frame list: as
    /// [`alloc_many`](Self::alloc_many), but their state is [`State::cached`].
    pub fn alloc_cached(&mut self, order: Order, out: &mut [Frame], placement: Placement) -> usize {
        self.take_many(order, out, State::cached(order), placement)
    }

    /// Gives back all `frames`, blocks of `order` of `owner`.
    ///
    /// # Errors
    ///
    /// Index and [`FreeError`] of the first block that cannot be given back; those before it were.
    pub fn free_many(
        &mut self,
        frames: &[Frame],
        order: Order,
        owner: BlockOwner,
    ) -> Result<(), (usize, FreeError)> {
        let mut given = 0;
        while let Some(rest) = frames.get(given..)
            && let Err(refused) = self.give_many(rest, order, State::head(owner, order))
        {
            given += refused;
            let Some(&frame) = frames.get(given) else { break };
            self.free(frame, order, owner).map_err(|error| (given, error))?;
            given += 1;
        }
        Ok(())
    }

    /// Gives back all `frames`, blocks of `order` from a CPU's frame list.
    ///
    /// # Errors
    ///
    /// Index and [`FreeError`] of the first block that cannot be given back; those before it were.
    pub fn free_cached(
        &mut self,
        frames: &[Frame],
        order: Order,
    ) -> Result<(), (usize, FreeError)> {
        self.give_many(frames, order, State::cached(order)).map_err(|index| {
            let error = match frames.get(index) {
                Some(&frame) => self.why_not_cached(frame, order),
                None => FreeError::OutOfRange,
            };
            (index, error)
        })
    }

    /// Fills `out` with blocks of `order` that get `state`.
    fn take_many(
        &mut self,
        order: Order,
        out: &mut [Frame],
        state: State,
        placement: Placement,
    ) -> usize {
        let wanted = u32::from(order.get());
        let mut taken = 0;
        while let Some(rest) = out.get_mut(taken..)
            && !rest.is_empty()
            && let Some(found) = self.smallest(wanted)
        {
            let more = if wanted >= WORD_ORDER {
                self.take(order, state, placement).map_or(0, |frame| {
                    rest[0] = frame;
                    1
                })
            } else if found == wanted {
                self.take_alike(wanted, rest, state, placement)
            } else {
                self.take_row(wanted, rest, state, placement)
            };
            if more == 0 {
                break;
            }
            taken += more;
        }
        taken
    }

    /// Takes as many free blocks of exactly `order`, at most 5, of which there are some, as one
    /// group has and `out` asks for, and says how many; fewer if states contradict bits.
    fn take_alike(
        &mut self,
        order: u32,
        out: &mut [Frame],
        state: State,
        placement: Placement,
    ) -> usize {
        let index = match placement {
            Placement::Low => self.small.first(order as usize),
            Placement::High => self.small.last(order as usize),
        };
        let Some(index) = index else { return 0 };
        let (base, start, states) =
            (self.group_start(index), self.start(), self.states.of_frames());
        let Some(group) = self.groups.get_mut(index) else { return 0 };
        let (mut words, mut taken, mut changed) = (group.words_with(order), 0, 0);
        while let Some(word) = placement.pick(words)
            && taken < out.len()
        {
            words &= !(1 << word);
            let offset = word * WORD_FRAMES;
            let (mut heads, mut frames) = (group.blocks_in_word(offset, order), 0);
            while let Some(bit) = placement.pick(heads)
                && let Some(slot) = out.get_mut(taken)
            {
                let at = base + offset + bit;
                if !claim(states.get(at.wrapping_sub(start)), State::PLAIN, state) {
                    words = 0;
                    break;
                }
                *slot = frame_at(at);
                taken += 1;
                heads &= !(1 << bit);
                frames |= ones(order) << bit;
            }
            changed ^= group.take_alike(offset, frames, order, heads);
        }
        self.available -= taken << order;
        self.publish_small(index, changed);
        taken
    }

    /// Takes as many blocks of `order`, at most 5, as `out` asks for out of the word at one end of
    /// the next free block, which is of a larger order, and says how many; fewer if states
    /// contradict bits.
    fn take_row(
        &mut self,
        order: u32,
        out: &mut [Frame],
        state: State,
        placement: Placement,
    ) -> usize {
        let Some(block) = self.find(order, placement) else { return 0 };
        let (from, size) = (block.order.min(WORD_ORDER), 1 << order);
        let blocks = 1 << (from - order);
        // The part of the block that lies in one word.
        let part = match placement {
            Placement::Low => block.at,
            Placement::High => block.at + (1 << block.order) - (1 << from),
        };
        let index = part.wrapping_sub(self.start());
        let Some(states) = self.states.of_frames().get(index..index.saturating_add(1 << from))
        else {
            return 0;
        };
        let asked = out.iter_mut().take(blocks);
        let heads = states.iter().step_by(size);
        let numbers = (part..).step_by(size);
        let taken = match placement {
            Placement::Low => hand_out(heads.zip(numbers).zip(asked), state),
            Placement::High => {
                let numbers = (0..blocks).rev().map(|block| part + (block << order));
                hand_out(heads.rev().zip(numbers).zip(asked), state)
            }
        };
        if taken == 0 {
            return 0;
        }
        let mut others = block.others;
        if block.order >= GROUP_ORDER {
            self.take_large(block, part, GROUP_ORDER);
            // Those were other groups.
            others = 0;
        }
        let left = blocks - taken;
        let first = match placement {
            Placement::Low => part,
            Placement::High => part + (left << order),
        };
        let frames = u64::MAX >> (WORD_FRAMES - (taken << order)) << (first % WORD_FRAMES);
        self.change_group(part, |group, offset| {
            group.take_row(offset, frames, order, from, left as u64, others)
        });
        self.available -= taken << order;
        taken
    }

    /// Gives back blocks of `order` whose state is `state`; the index of the first that cannot be.
    fn give_many(&mut self, frames: &[Frame], order: Order, state: State) -> Result<(), usize> {
        match order.get() {
            0 => self.give_small_ones(frames, 0, state),
            small if order.frames() < WORD_FRAMES => {
                self.give_small_ones(frames, u32::from(small), state)
            }
            _ => {
                let refused = |&frame: &Frame| self.give(frame, order, state).is_err();
                frames.iter().position(refused).map_or(Ok(()), Err)
            }
        }
    }

    /// As [`give_many`](Self::give_many), for an `order` of at most 5.
    #[inline(always)]
    fn give_small_ones(&mut self, frames: &[Frame], order: u32, state: State) -> Result<(), usize> {
        let (size, mut index) = (1 << order, 0);
        while let Some(frame) = frames.get(index) {
            let at = frame.number();
            let byte = self.states.byte(at, order);
            let of = self.group_of(at);
            let (Some(byte), Some(group)) = (byte, self.groups.get_mut(of)) else {
                return Err(index);
            };
            let sound = byte.load(Relaxed) == state.byte()
                && at % size == 0
                && self.cover.end().number() - at >= size
                && group.word_at(at % GROUP_FRAMES) & ones(order) << (at % WORD_FRAMES) == 0;
            if !sound {
                return Err(index);
            }
            byte.store(State::PLAIN.byte(), Relaxed);
            index += 1;
            let (mut given, mut frees) = (1, ones(order) << (at % WORD_FRAMES));
            // Most come alone; neighbours are counted together.
            while let Some(next) = frames.get(index).map(|frame| frame.number())
                && next ^ at < WORD_FRAMES
                && next % size == 0
                && (frees | group.word_at(at % GROUP_FRAMES)) & ones(order) << (next % WORD_FRAMES)
                    == 0
                && let Some(byte) = self.states.byte(next, order)
                && byte.load(Relaxed) == state.byte()
                && self.cover.end().number() - next >= size
            {
                byte.store(State::PLAIN.byte(), Relaxed);
                index += 1;
                given += 1;
                frees |= ones(order) << (next % WORD_FRAMES);
            }
            let changed = match given {
                1 => group.give_apart(at % GROUP_FRAMES, order),
                _ => group.give_bits(at % GROUP_FRAMES, frees),
            };
            self.available += given << order;
            self.publish_small(of, changed);
            if changed & WHOLE != 0 {
                self.give_large(at, GROUP_ORDER);
            }
        }
        Ok(())
    }
}

/// Gives frames, each with its state byte, number and place in what was asked for, `state`, up to
/// the first that is not plain; how many.
#[inline]
fn hand_out<'a>(
    frames: impl Iterator<Item = ((&'a AtomicU8, usize), &'a mut Frame)>,
    state: State,
) -> usize {
    let mut handed = 0;
    for ((byte, at), slot) in frames {
        if !claim(Some(byte), State::PLAIN, state) {
            break;
        }
        *slot = frame_at(at);
        handed += 1;
    }
    handed
}
