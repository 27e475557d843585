//! Many blocks at once, up to 64 frames with one word.

use core::sync::atomic::Ordering::Relaxed;

use super::group::{GROUP_FRAMES, WORD_FRAMES};
use super::{BlockOwner, Buddy, FreeError, Placement, State, frame_at};
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
        let mut rest = out.iter_mut();
        while rest.len() > 0 {
            let asked = rest.len();
            if order.frames() < WORD_FRAMES {
                self.take_word(order, &mut rest, state, placement);
            } else if let Ok(frame) = self.take(order, state, placement)
                && let Some(slot) = rest.next()
            {
                *slot = frame;
            }
            if rest.len() == asked {
                break;
            }
        }
        let unfilled = rest.len();
        out.len() - unfilled
    }

    /// Takes as many blocks of `order`, at most 5, as one word of the next free block offers and
    /// `out` asks for; none if there is no free block or its states contradict its bits.
    fn take_word(
        &mut self,
        order: Order,
        out: &mut core::slice::IterMut<'_, Frame>,
        state: State,
        placement: Placement,
    ) {
        let wanted = u32::from(order.get());
        let Some(block) = self.find(wanted, placement) else { return };
        let inside = match placement {
            Placement::Low => block.at,
            Placement::High => block.at + (1 << block.order) - 1,
        };
        let word = inside & !(WORD_FRAMES - 1);
        let Some(group) = self.groups.get(self.group_of(word)) else { return };
        let mut heads = group.heads_in_word(inside % GROUP_FRAMES, block.order, wanted);
        let mut taken = 0;
        while heads != 0 && out.len() > 0 {
            let bit = match placement {
                Placement::Low => heads.trailing_zeros(),
                Placement::High => heads.ilog2(),
            };
            let at = word + bit as usize;
            match self.states.get(at.wrapping_sub(self.start())) {
                Some(byte) if byte.load(Relaxed) == State::PLAIN.byte() => {
                    byte.store(state.byte(), Relaxed);
                }
                _ => break,
            }
            if let Some(slot) = out.next() {
                *slot = frame_at(at);
            }
            heads &= !(1 << bit);
            taken |= 1 << bit;
        }
        if taken != 0 {
            self.take_bits(block, word, frames_of(taken, wanted));
        }
    }

    /// Gives back blocks of `order` whose state is `state`; the index of the first that cannot be.
    fn give_many(&mut self, frames: &[Frame], order: Order, state: State) -> Result<(), usize> {
        let mut index = 0;
        while let Some(&frame) = frames.get(index) {
            if order.frames() >= WORD_FRAMES {
                self.give(frame, order, state).map_err(|_| index)?;
                index += 1;
                continue;
            }
            let given = self.give_word(&frames[index..], order, state);
            if given == 0 {
                return Err(index);
            }
            index += given;
        }
        Ok(())
    }

    /// Gives back those of the blocks of `order`, at most 5, up to the first that lies in another
    /// word than `frames` begins with or that is no such block; says how many they were.
    #[inline]
    fn give_word(&mut self, frames: &[Frame], order: Order, state: State) -> usize {
        let (Some(first), size) = (frames.first(), order.frames()) else { return 0 };
        let word = first.number() & !(WORD_FRAMES - 1);
        let Some(group) = self.groups.get(self.group_of(word)) else { return 0 };
        let (mut available, start) = (group.word_at(word % GROUP_FRAMES), self.start());
        let (block, end) = ((1 << size) - 1, self.end());
        let (mut given, mut frees) = (0, 0);
        for frame in frames {
            let at = frame.number();
            let (bit, state_at) = (at % WORD_FRAMES, self.states.get(at.wrapping_sub(start)));
            let Some(byte) = state_at else { break };
            let sound = at ^ word < WORD_FRAMES
                && byte.load(Relaxed) == state.byte()
                && bit % size == 0
                && end - at >= size
                && available & block << bit == 0;
            if !sound {
                break;
            }
            byte.store(State::PLAIN.byte(), Relaxed);
            available |= block << bit;
            frees |= block << bit;
            given += 1;
        }
        if given != 0 {
            self.give_bits(word, frees);
        }
        given
    }
}

/// The frames of the blocks of `order`, at most 5, that begin at `heads` in a word.
fn frames_of(heads: u64, order: u32) -> u64 {
    // Each head's bit, taken from the bit behind its block, leaves ones in between; where blocks
    // touch, the bits in between cancel.
    if order == 0 { heads } else { (heads << (1 << order)).wrapping_sub(heads) }
}
