//! What happens when a call was wrong: one line, and the end of the program unless the environment
//! says otherwise.

use core::ptr::NonNull;

use crate::log;
use crate::mode;
use crate::options::OnError;
use crate::text::{STDERR, say};
use kmem::check::{self, Violation};

/// Has the layers below report here, too.
pub(crate) fn install() {
    check::set_hook(Some(report));
}

/// Reports a wrong call. Returns if the program is to go on; the block is left alone then.
#[cold]
pub(crate) fn report(violation: &Violation<'_>) {
    say(STDERR, format_args!("{violation}"));
    if mode::options().on_error == OnError::Abort {
        log::flush();
        // SAFETY: it has no preconditions.
        unsafe { libc::abort() }
    }
}

/// Reports what was wrong with a call for `block`, if anything was.
pub(crate) fn on_error(result: Result<(), Violation<'static>>, block: NonNull<u8>) {
    if let Err(violation) = result {
        debug_assert_eq!(violation.address, block.addr().get());
        report(&violation);
    }
}
