//! Eight neighbours that are each available as a whole or not, such as the bytes of a word and the
//! words of a group: which maximal blocks they make.

/// The lowest bit of each byte.
pub(super) const LANES: u64 = 0x0101_0101_0101_0101;

/// Of what the eight make together: that all of them are available.
const ALL: u8 = 1 << 3;

/// The lowest bits of the eight bytes, side by side.
#[inline]
pub(super) const fn gather(lanes: u64) -> u32 {
    // The product brings them together in the highest byte.
    (lanes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

/// The lowest eight bits of `bits`, of which the highest is clear, as the lowest bits of the bytes.
#[inline]
pub(super) const fn scatter(bits: u64) -> u64 {
    // The product has the bits once for each byte, there shifted so that the byte's own is the
    // lowest.
    bits.wrapping_mul(0x0002_0408_1020_4081) & LANES
}

/// The lowest bit of each byte that is not zero.
#[inline]
pub(super) const fn some(bytes: u64) -> u64 {
    const LOW: u64 = LANES * 0x7f;
    // The sum carries into a byte's highest bit if any other is set.
    (((bytes & LOW) + LOW) | bytes) >> 7 & LANES
}

/// Where maximal blocks of exactly `2^order` of the eight begin, given which of them are available.
#[inline]
pub(super) fn exact(available: u32, order: u32) -> u32 {
    let (pairs, quads, all) = rows(available);
    match order {
        0 => available & !(pairs | pairs << 1),
        1 => pairs & !(quads | quads << 2),
        _ => quads & !(all | all << 4),
    }
}

/// Bit `k`, up to 2, says that there are maximal blocks of `2^k` of the eight; or there is [`ALL`]
/// alone.
#[inline]
pub(super) fn orders(available: u32) -> u8 {
    ORDERS[available as usize % ORDERS.len()]
}

/// Where two, four and eight in a row begin, aligned.
const fn rows(available: u32) -> (u32, u32, u32) {
    let pairs = available & available >> 1 & 0x55;
    let quads = pairs & pairs >> 2 & 0x11;
    (pairs, quads, quads & quads >> 4 & 0x01)
}

/// [`orders`], by which are available.
static ORDERS: [u8; 1 << 8] = {
    let mut table = [0; 1 << 8];
    let mut available = 0;
    while available < table.len() {
        let (pairs, quads, all) = rows(available as u32);
        let singles = available as u32 != pairs | pairs << 1;
        let lone_pairs = pairs != quads | quads << 2;
        let lone_quads = quads != all | all << 4;
        table[available] = singles as u8 | (lone_pairs as u8) << 1 | (lone_quads as u8) << 2;
        available += 1;
    }
    table[table.len() - 1] = ALL;
    table
};
