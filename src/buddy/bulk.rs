//! Many blocks at once, up to 64 frames with one word.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::group::{GROUP_FRAMES, GROUP_ORDER, WHOLE};
use super::word::{WORD_FRAMES, WORD_ORDER, aligned, ones, spread};
use super::{BlockOwner, Buddy, FreeError, Placement, State, States, claim, frame_at};
use crate::frame::{Frame, Order};

/// The order of a block that fills a word.
const WORD: Order = Order::new(WORD_ORDER as u8).unwrap();

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
        self.take_many(order, out, out.len(), State::head(owner, order), placement)
    }

    /// Fills `out` with blocks of `order` for a CPU's frame list: as
    /// [`alloc_many`](Self::alloc_many), but their state is [`State::cached`], and there may be
    /// fewer although there is memory: once a further block would cut into 64 frames that are free
    /// together, this stops if it has `least`, and else takes at most `least` more. So after a
    /// refill from what others had left of such frames the next ones find them whole, where
    /// otherwise each would take the rest of some, in many small blocks, and begin with others.
    /// From order 6 on `least` has no meaning.
    pub fn alloc_cached(
        &mut self,
        order: Order,
        out: &mut [Frame],
        least: usize,
        placement: Placement,
    ) -> usize {
        self.take_many(order, out, least, State::cached(order), placement)
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

    /// Fills `out` with blocks of `order` that get `state`, or takes `least` of them: see
    /// [`alloc_cached`](Self::alloc_cached).
    fn take_many(
        &mut self,
        order: Order,
        out: &mut [Frame],
        least: usize,
        state: State,
        placement: Placement,
    ) -> usize {
        let wanted = u32::from(order.get());
        let (mut taken, mut most) = (0, out.len());
        while let Some(found) = self.smallest(wanted) {
            if taken > 0 && wanted < WORD_ORDER && found >= WORD_ORDER {
                // The next cuts into a word.
                if taken >= least {
                    break;
                }
                most = most.min(taken.saturating_add(least));
            }
            let rest = out.get_mut(taken..most).unwrap_or_default();
            let more = if rest.is_empty() {
                0
            } else if wanted >= WORD_ORDER {
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
        let base = self.group_start(index);
        let Some(group) = self.groups.get_mut(index) else { return 0 };
        let (mut words, mut taken, mut changed) = (group.words_with(order), 0, 0);
        while let Some(place) = placement.pick(words)
            && let Some(rest) = out.get_mut(taken..)
            && !rest.is_empty()
        {
            words &= !(1 << place);
            let offset = place * WORD_FRAMES;
            let heads = group.blocks_in_word(offset, order);
            if heads == 0 {
                // The mask says otherwise, and is left for `verify` to see.
                break;
            }
            let word = Word::of(self.states, base + offset);
            let left = word.hand_out(heads, rest, state, placement);
            if left != 0 {
                // Either that is enough, or a state contradicts.
                words = 0;
            }
            let gone = heads & !left;
            taken += gone.count_ones() as usize;
            changed ^= group.take_alike(offset, spread(gone, order), order, left);
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
        let from = block.order.min(WORD_ORDER);
        // The part of the block that lies in one word.
        let part = match placement {
            Placement::Low => block.at,
            Placement::High => block.at + (1 << block.order) - (1 << from),
        };
        let heads = (ones(from) & aligned(order)) << (part % WORD_FRAMES);
        let word = Word::of(self.states, part);
        let left = match placement {
            Placement::Low if order == 0 => word.hand_out_row(heads, out, state),
            _ => word.hand_out(heads, out, state, placement),
        };
        let gone = heads & !left;
        if gone == 0 {
            return 0;
        }
        let mut others = block.others;
        if block.order >= GROUP_ORDER {
            self.take_large(block, part, GROUP_ORDER);
            // Those were other groups.
            others = 0;
        }
        let (taken, left) = (gone.count_ones() as usize, left.count_ones().into());
        self.change_group(part, |group, offset| {
            group.take_row(offset, spread(gone, order), order, from, left, others)
        });
        self.available -= taken << order;
        taken
    }

    /// Gives back blocks of `order` whose state is `state`; the index of the first that cannot be.
    fn give_many(&mut self, frames: &[Frame], order: Order, state: State) -> Result<(), usize> {
        let given = match order.get() {
            0 => self.give_small_ones(frames, 0, state),
            small if order.frames() < WORD_FRAMES => {
                self.give_small_ones(frames, u32::from(small), state)
            }
            _ => frames.iter().take_while(|&&frame| self.give(frame, order, state).is_ok()).count(),
        };
        if given == frames.len() { Ok(()) } else { Err(given) }
    }

    /// As [`give_many`](Self::give_many), for an `order` of at most 5; how many were given back.
    #[inline(always)]
    fn give_small_ones(&mut self, frames: &[Frame], order: u32, state: State) -> usize {
        let (states, first_group, end) = (self.states, self.first_group(), self.end());
        let mut given = 0;
        while let Some(frame) = frames.get(given) {
            let at = frame.number();
            let (index, before) = ((at >> GROUP_ORDER).wrapping_sub(first_group), given);
            let Some(group) = self.groups.get_mut(index) else { break };
            let available = group.word_at(at % GROUP_FRAMES);
            let sound = |at: usize| {
                let byte = states.byte(at, order)?;
                let is_sound = byte.load(Relaxed) == state.byte()
                    && (order == 0 || at.is_multiple_of(1 << order) && end - at >= 1 << order)
                    && available & ones(order) << (at % WORD_FRAMES) == 0;
                is_sound.then_some(byte)
            };
            // Most come alone; neighbours are counted together.
            let (mut next, mut bits) = (at, 0);
            while let Some(byte) = sound(next) {
                byte.store(State::PLAIN.byte(), Relaxed);
                bits |= ones(order) << (next % WORD_FRAMES);
                given += 1;
                match frames.get(given) {
                    Some(frame) if frame.number() ^ at < WORD_FRAMES => next = frame.number(),
                    _ => break,
                }
            }
            if given == before {
                break;
            }
            let changed = group.give_bits(at % GROUP_FRAMES, bits);
            self.publish_small(index, changed);
            if changed & WHOLE != 0 {
                self.give_large(at, GROUP_ORDER);
            }
        }
        self.available += given << order;
        given
    }
}

/// The frames of a word, for who hands some of them out.
#[derive(Clone, Copy)]
struct Word<'m> {
    /// The first of them, which may lie before the span.
    first: Frame,
    /// Index of its state.
    index: usize,
    states: &'m [AtomicU8],
}

impl<'m> Word<'m> {
    /// The word that frame `at` lies in.
    fn of(states: States<'m>, at: usize) -> Self {
        let first = at & !(WORD_FRAMES - 1);
        Self {
            first: frame_at(first),
            index: first.wrapping_sub(states.start()),
            states: states.of_frames(),
        }
    }

    /// Hands the blocks out that begin at the set bits `heads`, up to the first whose state is not
    /// plain. Gives them `state`, and says which are left.
    #[inline(never)]
    fn hand_out(self, heads: u64, out: &mut [Frame], state: State, placement: Placement) -> u64 {
        let mut left = heads;
        for slot in out {
            let Some(bit) = placement.pick(left) else { break };
            if !claim(self.states.get(self.index.wrapping_add(bit)), State::PLAIN, state) {
                break;
            }
            *slot = self.first.in_block(WORD, bit);
            left &= !(1 << bit);
        }
        left
    }

    /// The same of a row of frames, the lowest first: none needs to be searched for.
    #[inline(never)]
    fn hand_out_row(self, row: u64, out: &mut [Frame], state: State) -> u64 {
        let (from, mut left) = (row.trailing_zeros() as usize, row);
        let states = self.states.get(self.index.wrapping_add(from)..).unwrap_or_default();
        let bits = from..from + row.count_ones() as usize;
        for ((slot, state_byte), bit) in out.iter_mut().zip(states).zip(bits) {
            if !claim(Some(state_byte), State::PLAIN, state) {
                break;
            }
            *slot = self.first.in_block(WORD, bit);
            left &= left - 1;
        }
        left
    }
}
