//! What each call of the C face does: straight to the heap, or past the observers that were asked
//! for.

use core::ffi::{CStr, c_void};
use core::ptr::{self, NonNull};

use crate::blocks::{BOOKS, Block};
use crate::engine::{self, Moved, Request};
use crate::errno;
use crate::mode::{self, Mode};
use crate::{observed, reserve, stop};
use kmem::check::Violation;

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
    errno::set(libc::ENOMEM);
    ptr::null_mut()
}

/// Allocates `bytes` bytes of undefined contents.
#[inline(always)]
pub(crate) fn allocate_bytes(call: &'static str, bytes: usize) -> Pointer {
    // There are hits only where calls are not observed: see `mode`.
    match engine::allocate_small_hit(bytes) {
        Some(block) => block.as_ptr().cast(),
        None => allocate_more_bytes(bytes, call),
    }
}

/// The same of any block that is at hand: apart, so that the way to small ones is short.
#[inline(never)]
fn allocate_more_bytes(bytes: usize, call: &'static str) -> Pointer {
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
        Mode::Observed(options) => pointer(observed::allocate(options, call, request)),
        _ => pointer(engine::allocate_slowly(request)),
    }
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
pub(crate) unsafe fn free_sized(call: &'static str, block: Pointer, align: usize, bytes: usize) {
    if !mode::is_plain()
        && let Mode::Observed(_) = mode::mode()
        && let Err(violation) = observed::check_layout(block.addr(), align, bytes)
    {
        return stop::report(&violation);
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
    // What waits to be freed is freed by the next call that goes the whole way: by this one, then.
    // SAFETY: the caller's promise.
    if !reserve::has_deferred() && unsafe { engine::free_second_hit(block.cast()) } {
        return;
    }
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return };
    errno::keeping(|| {
        if is_interrupted() {
            return reserve::defer(block);
        }
        while let Some(deferred) = reserve::take_deferred() {
            // SAFETY: whoever freed it made the promise.
            unsafe { free_now(deferred, "free") };
        }
        // SAFETY: the caller's promise.
        unsafe { free_now(block, call) };
    });
}

/// Whether this call comes from a signal handler on top of a call that holds a lock of the heap or
/// of the books.
fn is_interrupted() -> bool {
    engine::is_interrupted() || BOOKS.is_held()
}

/// # Safety
///
/// As [`free`].
unsafe fn free_now(block: NonNull<u8>, call: &'static str) {
    match mode::mode() {
        // SAFETY: the caller's promise.
        Mode::Observed(options) => unsafe { observed::free(options, call, block) },
        mode => {
            if mode == Mode::Named {
                BOOKS.with(|books| books.blocks.remove(block.addr().get()));
            }
            // SAFETY: the caller's promise.
            stop::on_error(unsafe { engine::free_slowly(block) }, block);
        }
    }
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
        unsafe { free("free", block) };
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
    let request = Request::of(bytes);
    let moved = match mode::mode() {
        // SAFETY: the caller's promise.
        Mode::Observed(options) => unsafe { observed::reallocate(options, call, old, request) },
        // SAFETY: the caller's promise.
        _ => unsafe { reallocate_named(old, request) },
    };
    match moved {
        Ok(moved) => pointer(moved),
        Err(violation) => {
            stop::report(&violation);
            ptr::null_mut()
        }
    }
}

/// A block that may have a name, which stays with it wherever it moves.
///
/// # Safety
///
/// As [`reallocate`].
unsafe fn reallocate_named(old: NonNull<u8>, request: Request) -> Moved {
    if BOOKS.is_held() {
        // SAFETY: the caller's promise.
        return unsafe { engine::move_to_reserve(old, request) };
    }
    let named = BOOKS.with(|books| books.blocks.remove(old.addr().get())).flatten();
    // SAFETY: the caller's promise.
    let moved = unsafe { engine::reallocate_by_engine(old, request) };
    if let Some(named) = named
        && let Ok(moved) = moved
    {
        let address = moved.unwrap_or(old).addr().get();
        BOOKS.with(|books| books.blocks.insert(Block { address, ..named }));
    }
    moved
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
    // SAFETY: the caller's promise.
    match unsafe { known_bytes(block) } {
        Ok(bytes) => bytes,
        Err(violation) => {
            stop::report(&violation);
            0
        }
    }
}

/// # Safety
///
/// As [`usable_bytes`].
unsafe fn known_bytes(block: NonNull<u8>) -> Result<usize, Violation<'static>> {
    match mode::mode() {
        // SAFETY: the caller's promise.
        Mode::Observed(options) => unsafe { observed::usable_bytes(options, block) },
        // SAFETY: the caller's promise.
        _ => unsafe { engine::usable_bytes(block) },
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
    match unsafe { known_bytes(block) } {
        Ok(bytes) => {
            // Where every block is in the books, one that is not is from before the environment was
            // read.
            let bytes = if let Mode::Observed(_) = mode::mode() { None } else { Some(bytes) };
            let address = block.addr().get();
            BOOKS.with(|books| books.name(address, bytes, observed::thread(), text.to_bytes()));
            mode::note_names();
        }
        Err(violation) => stop::report(&violation),
    }
}
