//! Calls that are observed: held against the books, filled, guarded, kept back and logged.
//!
//! A signal handler that interrupted what keeps the books is served from the reserve, and what it
//! frees is freed later (`serve`).

use core::num::NonZero;
use core::ptr::NonNull;

use crate::blocks::{BOOKS, Block};
use crate::engine::{self, Contents, Moved, Request};
use crate::mode::{self, Mode};
use crate::names::Name;
use crate::options::{Options, Touch};
use crate::{errno, log, reserve, stop};
use kmem::check::{Detail, Rule, Violation};

/// Bytes behind a block that nobody may write to.
const RED_ZONE_BYTES: usize = 16;
const RED_ZONE: u8 = 0xfd;
/// What new blocks are filled with, on request.
const SCRIBBLE: u8 = 0xaa;
/// What blocks in quarantine are filled with.
const DEAD: u8 = 0xdf;

/// Allocates.
pub(crate) fn allocate(
    options: &Options,
    call: &'static str,
    request: Request,
) -> Option<NonNull<u8>> {
    if BOOKS.is_held() {
        return reserve::allocate(request.grown_by(red_zone_bytes(options))?);
    }
    let block = allocate_within_limit(options, request, 0);
    note_new(options, call, request, block, Name::NONE)
}

/// A block with room for a red zone, its bytes set aside, in the place of one of `replaced` bytes.
fn allocate_within_limit(
    options: &Options,
    request: Request,
    replaced: usize,
) -> Option<NonNull<u8>> {
    let bytes = request.bytes();
    let grown = request.grown_by(red_zone_bytes(options))?;
    grown.layout()?;
    BOOKS.with(|books| books.set_aside(bytes, replaced, options.limit_bytes)).filter(|&is| is)?;
    let block = engine::allocate_slowly(grown).or_else(|| {
        empty_quarantine(0);
        engine::allocate_slowly(grown)
    });
    if block.is_none() {
        BOOKS.with(|books| books.put_back(bytes));
    }
    block
}

/// Fills, guards, enters and logs what [`allocate_within_limit`] answered.
fn note_new(
    options: &Options,
    call: &'static str,
    request: Request,
    block: Option<NonNull<u8>>,
    name: Name,
) -> Option<NonNull<u8>> {
    let Some(block) = block else {
        note(options, call, request.bytes(), 0);
        return None;
    };
    let address = block.addr().get();
    if options.scribble.is_yes() && request.contents() == Contents::Undefined {
        // SAFETY: the block is new and has so many bytes.
        unsafe { block.write_bytes(SCRIBBLE, request.bytes()) };
    }
    if options.red_zones.is_yes() {
        // SAFETY: the block was allocated with room for it.
        unsafe { block.add(request.bytes()).write_bytes(RED_ZONE, RED_ZONE_BYTES) };
    }
    let entry = Block { address, bytes: request.bytes(), thread: thread(), name };
    BOOKS.with(|books| books.enter(entry));
    note(options, call, request.bytes(), address);
    Some(block)
}

/// Frees.
///
/// # Safety
///
/// If the block is allocated, nobody uses it any more.
pub(crate) unsafe fn free(options: &Options, call: &'static str, block: NonNull<u8>) {
    let address = block.addr().get();
    let known = match BOOKS.with(|books| books.begin_free(address)) {
        Some(Err(violation)) => return stop::report(&violation),
        Some(Ok(known)) => known,
        None => None,
    };
    let Some(Block { bytes, .. }) = known else {
        // From before the environment was read, or noted as freed when it could not be, or wrong:
        // the engine knows.
        // SAFETY: the caller's promise.
        return unsafe { free_to_engine(block) };
    };
    note(options, call, bytes, address);
    if options.red_zones.is_yes()
        // SAFETY: blocks in the books were allocated with a red zone behind their bytes.
        && let Err(violation) = unsafe { check_red_zone(block, bytes) }
    {
        // If the program goes on, the block is held for good.
        return stop::report(&violation);
    }
    if options.zero_on_free.is_yes() {
        // SAFETY: the block has so many bytes, which nobody uses.
        unsafe { block.write_bytes(0, bytes) };
    }
    if options.quarantine_bytes > 0 {
        // SAFETY: as above.
        unsafe { block.write_bytes(DEAD, bytes) };
        if BOOKS.with(|books| books.keep_back(address, bytes)) == Some(true) {
            return empty_quarantine(options.quarantine_bytes);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { end_free(block) };
}

/// # Safety
///
/// As [`free`].
unsafe fn free_to_engine(block: NonNull<u8>) {
    // SAFETY: the caller's promise.
    stop::on_error(unsafe { engine::free_slowly(block) }, block);
}

/// Has a block that is held go back to the engine.
///
/// # Safety
///
/// As [`free`].
unsafe fn end_free(block: NonNull<u8>) {
    BOOKS.with(|books| books.end_free(block.addr().get()));
    // SAFETY: the caller's promise.
    unsafe { free_to_engine(block) };
}

/// Lets blocks leave the quarantine until no more than so many bytes are in it.
fn empty_quarantine(limit_bytes: usize) {
    while let Some(Some((address, bytes))) = BOOKS.with(|books| books.let_go(limit_bytes)) {
        let Some(block) = block_at(address) else { return };
        // SAFETY: blocks in quarantine are nobody's, and have so many bytes.
        match unsafe { check_dead(block, bytes) } {
            // SAFETY: as above.
            Ok(()) => unsafe { end_free(block) },
            // Held for good if the program goes on: somebody uses it.
            Err(violation) => stop::report(&violation),
        }
    }
}

/// Looks at the red zones of all live blocks and at all blocks in quarantine, and reports what was
/// written to; how many, or `None` in a signal handler on top of a call that is using the books.
pub(crate) fn check_all() -> Option<usize> {
    let Mode::Observed(options) = mode::mode() else { return Some(0) };
    BOOKS.with(|books| {
        // SAFETY: blocks in the books are allocated, with a red zone behind their bytes; those in
        // quarantine are nobody's. They stay while the books are held.
        let zones =
            books.blocks.iter().filter(|_| options.red_zones.is_yes()).map(|block| unsafe {
                block_at(block.address).map_or(Ok(()), |start| check_red_zone(start, block.bytes))
            });
        // SAFETY: as above.
        let dead = books.kept_back().map(|(address, bytes)| unsafe {
            block_at(address).map_or(Ok(()), |start| check_dead(start, bytes))
        });
        let wrong = zones.chain(dead).filter_map(Result::err);
        wrong.map(|violation| stop::report(&violation)).count()
    })
}

fn block_at(address: usize) -> Option<NonNull<u8>> {
    NonZero::new(address).map(NonNull::with_exposed_provenance)
}

/// # Safety
///
/// The block has `bytes` bytes and is nobody's.
unsafe fn check_dead(block: NonNull<u8>, bytes: usize) -> Result<(), Violation<'static>> {
    // SAFETY: the caller's promise.
    let content = unsafe { core::slice::from_raw_parts(block.as_ptr(), bytes) };
    let Some(offset) = content.iter().position(|&byte| byte != DEAD) else { return Ok(()) };
    let found = Detail::Byte { offset: offset as isize, value: content[offset] };
    let violation = Violation::new(Rule::WriteAfterFree, block.addr().get());
    Err(violation.expected_found(Detail::Unknown, found))
}

/// # Safety
///
/// The block has so many bytes and a red zone behind them.
unsafe fn check_red_zone(block: NonNull<u8>, bytes: usize) -> Result<(), Violation<'static>> {
    // SAFETY: the caller's promise.
    let zone = unsafe { core::slice::from_raw_parts(block.as_ptr().add(bytes), RED_ZONE_BYTES) };
    let Some(offset) = zone.iter().position(|&byte| byte != RED_ZONE) else { return Ok(()) };
    let found = Detail::Byte { offset: (bytes + offset) as isize, value: zone[offset] };
    let violation = Violation::new(Rule::RedZone, block.addr().get());
    Err(violation.expected_found(Detail::Bytes(bytes), found))
}

/// Whether a block that is in the books has so many bytes, and lies as it does where this alignment
/// was asked for: what was asked for is not in the books.
pub(crate) fn check_layout(
    address: usize,
    align: usize,
    bytes: usize,
) -> Result<(), Violation<'static>> {
    match BOOKS.with(|books| books.blocks.get(address).copied()) {
        Some(Some(known)) if known.bytes != bytes => {
            let violation = Violation::new(Rule::SizeMismatch, known.address);
            let (expected, found) = (Detail::Bytes(known.bytes), Detail::Bytes(bytes));
            Err(violation.expected_found(expected, found))
        }
        Some(Some(known)) if !align.is_power_of_two() || !address.is_multiple_of(align) => {
            Err(Violation::new(Rule::SizeMismatch, known.address))
        }
        _ => Ok(()),
    }
}

/// Makes a block another size.
///
/// # Safety
///
/// As [`free`], if this succeeds.
pub(crate) unsafe fn reallocate(
    options: &Options,
    call: &'static str,
    old: NonNull<u8>,
    request: Request,
) -> Moved {
    let address = old.addr().get();
    // Where nothing is done to blocks but noting they stay where they can.
    let stays = options.touch() == Touch::Notes;
    let known = BOOKS.with(|books| match books.holds(address) {
        true => Err(Violation::new(Rule::NotAllocated, address)),
        false if stays => Ok(books.leave(address)),
        false => Ok(books.blocks.get(address).copied()),
    });
    let Some(known) = known else {
        let Some(grown) = request.grown_by(red_zone_bytes(options)) else { return Ok(None) };
        // SAFETY: the caller's promise.
        return unsafe { engine::move_to_reserve(old, grown) };
    };
    let known = known?;
    if stays && let Some(known) = known {
        // SAFETY: the caller's promise.
        return unsafe { reallocate_noted(options, call, old, known, request) };
    }
    // Blocks whose bytes are filled or guarded always move.
    let (kept_bytes, replaced, name) = match known {
        Some(known) => (known.bytes, known.bytes, known.name),
        // SAFETY: the caller's promise.
        None => (unsafe { engine::usable_bytes(old) }?, 0, Name::NONE),
    };
    let new = allocate_within_limit(options, request, replaced);
    let new = note_new(options, call, request, new, name);
    if let Some(target) = new {
        // SAFETY: both blocks have so many bytes and are different ones.
        unsafe { target.copy_from_nonoverlapping(old, kept_bytes.min(request.bytes())) };
        // SAFETY: the caller's promise.
        unsafe { free(options, "free", old) };
    }
    Ok(new)
}

/// A block that has just left the books, where nothing is done to it but noting: it lies where it
/// would lie otherwise.
///
/// # Safety
///
/// As [`reallocate`].
unsafe fn reallocate_noted(
    options: &Options,
    call: &'static str,
    old: NonNull<u8>,
    known: Block,
    request: Request,
) -> Moved {
    let bytes = request.bytes();
    // Before another thread can have the address.
    note(options, "free", known.bytes, known.address);
    let has_room = BOOKS.with(|books| books.set_aside(bytes, 0, options.limit_bytes));
    let moved = match has_room {
        // SAFETY: the caller's promise.
        Some(true) => unsafe { engine::reallocate_by_engine(old, request) },
        _ => Ok(None),
    };
    let Ok(Some(new)) = moved else {
        BOOKS.with(|books| {
            if has_room == Some(true) {
                books.put_back(bytes);
            }
            if moved.is_ok() {
                books.reenter(known);
            }
        });
        note(options, call, bytes, 0);
        // Another thread has freed what is refused: it is not there any more.
        if moved.is_ok() {
            note(options, call, known.bytes, known.address);
        }
        return moved;
    };
    let address = new.addr().get();
    BOOKS.with(|books| books.enter(Block { address, bytes, thread: thread(), name: known.name }));
    note(options, call, bytes, address);
    moved
}

/// Bytes of a block that its owner may use.
///
/// # Safety
///
/// As [`engine::usable_bytes`].
pub(crate) unsafe fn usable_bytes(
    options: &Options,
    block: NonNull<u8>,
) -> Result<usize, Violation<'static>> {
    let address = block.addr().get();
    let known = BOOKS.with(|books| match books.holds(address) {
        true => Err(Violation::new(Rule::NotAllocated, address)),
        false => Ok(books.blocks.get(address).map(|known| known.bytes)),
    });
    match known {
        Some(Err(violation)) => Err(violation),
        Some(Ok(Some(bytes))) => Ok(bytes),
        // A signal handler: where the red zone lies cannot be known. It may lie at the end.
        None => {
            // SAFETY: the caller's promise.
            let usable = unsafe { engine::usable_bytes(block) }?;
            Ok(usable.saturating_sub(red_zone_bytes(options)))
        }
        // SAFETY: the caller's promise.
        Some(Ok(None)) => unsafe { engine::usable_bytes(block) },
    }
}

fn red_zone_bytes(options: &Options) -> usize {
    if options.red_zones.is_yes() { RED_ZONE_BYTES } else { 0 }
}

fn note(options: &Options, call: &str, bytes: usize, address: usize) {
    if options.log {
        errno::keeping(|| log::record(format_args!("{call} {bytes} {address:#x} {}", thread())));
    }
}

/// This thread, as the system numbers it.
pub(crate) fn thread() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { libc::gettid() as u32 }
}
