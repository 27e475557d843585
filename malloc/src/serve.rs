//! What each call of the C face does: straight to the heap, or past the observers that were asked for.

use core::ffi::{CStr, c_void};
use core::num::NonZero;
use core::ptr::{self, NonNull};

use crate::blocks::{BOOKS, Block, Books};
use crate::engine::{self, Contents, Request};
use crate::mode::{self, Mode};
use crate::names::Name;
use crate::options::{Options, Touch};
use crate::{log, stop};
use kmem::check::{Detail, Rule, Violation};

/// Bytes behind a block that nobody may write to.
const RED_ZONE_BYTES: usize = 16;
const RED_ZONE: u8 = 0xfd;
/// What new blocks are filled with, on request.
const SCRIBBLE: u8 = 0xaa;
/// What blocks in quarantine are filled with.
const DEAD: u8 = 0xdf;

/// A C pointer.
type Pointer = *mut c_void;

fn pointer(block: Option<NonNull<u8>>) -> Pointer {
    match block {
        Some(block) => block.as_ptr().cast(),
        None => out_of_memory(),
    }
}

/// A null pointer, and `ENOMEM`.
#[cold]
pub(crate) fn out_of_memory() -> Pointer {
    set_errno(libc::ENOMEM);
    ptr::null_mut()
}

pub(crate) fn set_errno(code: libc::c_int) {
    // SAFETY: the C library's variable, one for each thread.
    unsafe { *libc::__errno_location() = code };
}

/// Runs `work` and leaves `errno` as it was.
fn keeping_errno<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the C library's variable, one for each thread.
    let errno = unsafe { *libc::__errno_location() };
    let result = work();
    set_errno(errno);
    result
}

/// Allocates `bytes` bytes of undefined contents.
#[inline(always)]
pub(crate) fn allocate_bytes(call: &'static str, bytes: usize) -> Pointer {
    // There are hits only where calls are not observed: see `mode`.
    match engine::allocate_hit(bytes) {
        Some(block) => block.as_ptr().cast(),
        None => allocate_bytes_slowly(bytes, call),
    }
}

/// Allocates `bytes` bytes of zeros.
#[inline(always)]
pub(crate) fn allocate_zeroed(call: &'static str, bytes: usize) -> Pointer {
    match engine::allocate_hit(bytes) {
        Some(block) => {
            // SAFETY: the block is new and has so many bytes.
            unsafe { block.write_bytes(0, bytes) };
            block.as_ptr().cast()
        }
        None => allocate(call, Request::of(bytes).zeroed()),
    }
}

/// What a hit has at hand stays where it is: in the register of the first argument.
#[cold]
#[inline(never)]
fn allocate_bytes_slowly(bytes: usize, call: &'static str) -> Pointer {
    match engine::allocate_second_hit(bytes) {
        Some(block) => block.as_ptr().cast(),
        None => allocate(call, Request::of(bytes)),
    }
}

/// Allocates.
#[inline]
pub(crate) fn allocate(call: &'static str, request: Request) -> Pointer {
    if mode::is_plain()
        && let Some(block) = engine::allocate(request)
    {
        return block.as_ptr().cast();
    }
    allocate_slowly(call, request)
}

#[cold]
#[inline(never)]
fn allocate_slowly(call: &'static str, request: Request) -> Pointer {
    match mode::mode() {
        Mode::Observed(options) => observed_allocate(options, call, request),
        _ => pointer(engine::allocate_slowly(request)),
    }
}

fn observed_allocate(options: &Options, call: &'static str, request: Request) -> Pointer {
    let Some(grown) = request.grown_by(red_zone_bytes(options)) else { return out_of_memory() };
    let block = match BOOKS.with(|books| books.may_grow(options, grown.bytes())) {
        Some(false) => None,
        _ => engine::allocate_slowly(grown),
    };
    let Some(block) = block else {
        note(options, call, request.bytes(), 0);
        return out_of_memory();
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
    let entry = Block { address, bytes: request.bytes(), thread: thread(), name: Name::NONE };
    BOOKS.with(|books| books.enter(entry));
    note(options, call, request.bytes(), address);
    block.as_ptr().cast()
}

/// Frees.
///
/// # Safety
///
/// If the block is allocated, nobody uses it any more.
#[inline(always)]
pub(crate) unsafe fn free(call: &'static str, block: Pointer) {
    // There are hits only where calls are not observed: see `mode`. The null pointer is none.
    // SAFETY: the caller's promise.
    if !unsafe { engine::free_hit(block.cast()) } {
        // SAFETY: the caller's promise.
        unsafe { free_slowly(block, call) };
    }
}

/// Frees a block of which the caller says the size: held against the books where there are any.
///
/// # Safety
///
/// As [`free`].
pub(crate) unsafe fn free_sized(call: &'static str, block: Pointer, bytes: usize) {
    if !mode::is_plain()
        && let Mode::Observed(_) = mode::mode()
        && let Some(Some(known)) = BOOKS.with(|books| books.blocks.get(block.addr()).copied())
        && known.bytes != bytes
    {
        let violation = Violation::new(Rule::SizeMismatch, known.address);
        let (expected, found) = (Detail::Bytes(known.bytes), Detail::Bytes(bytes));
        return stop::report(&violation.expected_found(expected, found));
    }
    // SAFETY: the caller's promise.
    unsafe { free(call, block) }
}

/// # Safety
///
/// As [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slowly(block: Pointer, call: &'static str) {
    // SAFETY: the caller's promise.
    if unsafe { engine::free_second_hit(block.cast()) } {
        return;
    }
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return };
    keeping_errno(|| match mode::mode() {
        // SAFETY: the caller's promise.
        Mode::Observed(options) => unsafe { observed_free(options, call, block) },
        mode => {
            if mode == Mode::Named {
                BOOKS.with(|books| books.blocks.remove(block.addr().get()));
            }
            // SAFETY: the caller's promise.
            stop::on_error(unsafe { engine::free_slowly(block) }, block);
        }
    });
}

/// # Safety
///
/// As [`free`].
unsafe fn observed_free(options: &Options, call: &'static str, block: NonNull<u8>) {
    let address = block.addr().get();
    let known = BOOKS.with(|books| {
        if books.holds(address) {
            return Err(Violation::new(Rule::NotAllocated, address));
        }
        Ok(books.leave(address))
    });
    let known = match known {
        Some(Err(violation)) => return stop::report(&violation),
        Some(Ok(known)) => known,
        None => None,
    };
    note(options, call, known.map_or(0, |known| known.bytes), address);
    let Some(known) = known else {
        // From before the environment was read, or wrong: the engine knows.
        // SAFETY: the caller's promise.
        return stop::on_error(unsafe { engine::free_slowly(block) }, block);
    };
    if options.red_zones.is_yes()
        // SAFETY: blocks in the books were allocated with a red zone behind their bytes.
        && let Err(violation) = unsafe { check_red_zone(block, known.bytes) }
    {
        return stop::report(&violation);
    }
    if options.zero_on_free.is_yes() {
        // SAFETY: the block has so many bytes, which nobody uses.
        unsafe { block.write_bytes(0, known.bytes) };
    }
    if options.quarantine_bytes == 0 {
        // SAFETY: the caller's promise.
        return stop::on_error(unsafe { engine::free_slowly(block) }, block);
    }
    // SAFETY: as above.
    unsafe { block.write_bytes(DEAD, known.bytes) };
    if BOOKS.with(|books| books.hold(address, known.bytes)) != Some(true) {
        // SAFETY: the caller's promise.
        return stop::on_error(unsafe { engine::free_slowly(block) }, block);
    }
    while let Some(Some((address, bytes))) =
        BOOKS.with(|books| books.unhold(options.quarantine_bytes))
    {
        let Some(address) = NonZero::new(address) else { return };
        let block = NonNull::with_exposed_provenance(address);
        // SAFETY: the block has been nobody's since it went into quarantine.
        unsafe { leave_quarantine(block, bytes) };
    }
}

/// # Safety
///
/// The block has `bytes` bytes and is nobody's.
unsafe fn leave_quarantine(block: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let content = unsafe { core::slice::from_raw_parts(block.as_ptr(), bytes) };
    if let Some(offset) = content.iter().position(|&byte| byte != DEAD) {
        let found = Detail::Byte { offset: offset as isize, value: content[offset] };
        let violation = Violation::new(Rule::WriteAfterFree, block.addr().get());
        stop::report(&violation.expected_found(Detail::Unknown, found));
        // Left alone if the program goes on: somebody uses it.
        return;
    }
    // SAFETY: the caller's promise.
    stop::on_error(unsafe { engine::free_slowly(block) }, block);
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

/// Makes a block another size.
///
/// # Safety
///
/// As [`free`], if this succeeds.
#[inline]
pub(crate) unsafe fn reallocate(call: &'static str, block: Pointer, bytes: usize) -> Pointer {
    let Some(old) = NonNull::new(block.cast::<u8>()) else {
        return allocate_bytes(call, bytes);
    };
    if bytes == 0 {
        // SAFETY: the caller's promise.
        unsafe { free(call, block) };
        return ptr::null_mut();
    }
    if mode::is_plain() {
        // SAFETY: the caller's promise.
        return match unsafe { engine::reallocate(old, Request::of(bytes)) } {
            Ok(new) => pointer(new),
            Err(violation) => {
                stop::report(&violation);
                ptr::null_mut()
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe { reallocate_slowly(call, old, bytes) }
}

/// # Safety
///
/// As [`reallocate`].
#[cold]
#[inline(never)]
unsafe fn reallocate_slowly(call: &'static str, old: NonNull<u8>, bytes: usize) -> Pointer {
    let Mode::Observed(options) = mode::mode() else {
        let named = BOOKS.with(|books| books.blocks.remove(old.addr().get())).flatten();
        // SAFETY: the caller's promise.
        let moved = match unsafe { engine::reallocate_by_engine(old, Request::of(bytes)) } {
            Ok(moved) => moved,
            Err(violation) => {
                stop::report(&violation);
                return ptr::null_mut();
            }
        };
        if let Some(named) = named {
            // A name stays with the block, wherever it moves.
            let address = moved.unwrap_or(old).addr().get();
            BOOKS.with(|books| books.blocks.insert(Block { address, ..named }));
        }
        return pointer(moved);
    };
    if options.touch() == Touch::Notes
        && let Some(Some(known)) = BOOKS.with(|books| books.leave(old.addr().get()))
    {
        // SAFETY: the caller's promise.
        return unsafe { reallocate_noted(options, call, old, known, bytes) };
    }
    // Blocks whose bytes are filled or guarded always move.
    let known = BOOKS.with(|books| books.blocks.get(old.addr().get()).copied()).flatten();
    let kept_bytes = match known {
        Some(known) => known.bytes,
        // SAFETY: the caller's promise.
        None => match unsafe { engine::usable_bytes(old) } {
            Ok(usable) => usable,
            Err(violation) => {
                stop::report(&violation);
                return ptr::null_mut();
            }
        },
    };
    let new = allocate(call, Request::of(bytes));
    if let Some(target) = NonNull::new(new.cast::<u8>()) {
        // SAFETY: both blocks have so many bytes and are different ones.
        unsafe { target.copy_from_nonoverlapping(old, kept_bytes.min(bytes)) };
        if let Some(known) = known
            && known.name != Name::NONE
        {
            BOOKS.with(|books| {
                if let Some(block) = books.blocks.get_mut(target.addr().get()) {
                    block.name = known.name;
                }
            });
        }
        // SAFETY: the caller's promise.
        unsafe { free("free", old.as_ptr().cast()) };
    }
    new
}

/// A block that has just left the books, where nothing is done to it but noting: it lies where it would lie otherwise.
///
/// # Safety
///
/// As [`reallocate`].
unsafe fn reallocate_noted(
    options: &Options,
    call: &'static str,
    old: NonNull<u8>,
    known: Block,
    bytes: usize,
) -> Pointer {
    let may_grow = BOOKS.with(|books| books.may_grow(options, bytes)) != Some(false);
    let moved = if may_grow {
        // SAFETY: the caller's promise.
        unsafe { engine::reallocate_by_engine(old, Request::of(bytes)) }
    } else {
        Ok(None)
    };
    let new = match moved {
        Ok(Some(new)) => new,
        failed => {
            BOOKS.with(|books| books.reenter(known));
            note(options, call, bytes, 0);
            stop::on_error(failed.map(|_| ()), old);
            return out_of_memory();
        }
    };
    let address = new.addr().get();
    BOOKS.with(|books| books.enter(Block { address, bytes, thread: thread(), name: known.name }));
    note(options, call, bytes, address);
    if new != old {
        note(options, "free", known.bytes, old.addr().get());
    }
    new.as_ptr().cast()
}

/// Bytes of a block that its owner may use.
///
/// # Safety
///
/// As [`engine::usable_bytes`].
#[inline(always)]
pub(crate) unsafe fn usable_bytes(block: Pointer) -> usize {
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return 0 };
    // Some programs ask this of every block that they allocate and free.
    if mode::is_plain()
        // SAFETY: the caller's promise.
        && let Some(bytes) = unsafe { engine::usable_hit(block) }
    {
        return bytes;
    }
    // SAFETY: the caller's promise.
    unsafe { usable_bytes_slowly(block) }
}

/// # Safety
///
/// As [`usable_bytes`].
#[cold]
#[inline(never)]
unsafe fn usable_bytes_slowly(block: NonNull<u8>) -> usize {
    if let Mode::Observed(_) = mode::mode()
        && let Some(Some(known)) = BOOKS.with(|books| books.blocks.get(block.addr().get()).copied())
    {
        return known.bytes;
    }
    // SAFETY: the caller's promise.
    match unsafe { engine::usable_bytes(block) } {
        Ok(bytes) => bytes,
        Err(violation) => {
            stop::report(&violation);
            0
        }
    }
}

/// Gives a block a name.
///
/// # Safety
///
/// As [`usable_bytes`].
pub(crate) unsafe fn name(block: Pointer, text: &CStr) {
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return };
    // SAFETY: the caller's promise.
    match unsafe { engine::usable_bytes(block) } {
        Ok(bytes) => {
            let address = block.addr().get();
            BOOKS.with(|books| books.name(address, bytes, thread(), text.to_bytes()));
            mode::note_names();
        }
        Err(violation) => stop::report(&violation),
    }
}

impl Books {
    /// Whether the limit leaves room for so many bytes more.
    fn may_grow(&self, options: &Options, bytes: usize) -> bool {
        self.live_bytes.saturating_add(bytes) <= options.limit_bytes
    }
}

fn red_zone_bytes(options: &Options) -> usize {
    if options.red_zones.is_yes() { RED_ZONE_BYTES } else { 0 }
}

fn note(options: &Options, call: &str, bytes: usize, address: usize) {
    if options.log.is_some() {
        keeping_errno(|| log::record(format_args!("{call} {bytes} {address:#x} {}", thread())));
    }
}

/// This thread, as the system numbers it.
fn thread() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { libc::gettid() as u32 }
}
