//! What holds for the errors of all layers.

use core::convert::Infallible;
use core::error::Error;
use core::fmt::{self, Display};
use std::string::{String, ToString};

use crate::arena;
use crate::buddy::{AllocError, FreeError, ResizeError, SpanError};
use crate::heap::{HeapFault, HeapFreeError, ReallocError};
use crate::page::InitError;
use crate::slab::{CacheFault, ConstructError};

/// What a reporter prints of an error.
fn report(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        said = said + ": " + &source.to_string();
        next = source.source();
    }
    said
}

#[track_caller]
fn assert_said_once(error: &dyn Error, wrapped: &dyn Display) {
    let said = report(error);
    assert_eq!(said.matches(&wrapped.to_string()).count(), 1, "{said}");
}

#[test]
fn reporters_say_once_what_an_error_wraps() {
    let (alloc, free, span) = (AllocError::OutOfMemory, FreeError::Hole, SpanError::Empty);
    assert_said_once(&InitError::Span(span), &span);
    assert_said_once(&ResizeError::NotAllocated(free), &free);
    let (arena_alloc, arena_free) =
        (arena::AllocError::ZeroLength, arena::FreeError::OutOfRange { start: 1 });
    assert_said_once(&arena::ResizeError::Alloc(arena_alloc), &arena_alloc);
    assert_said_once(&arena::ResizeError::Free(arena_free.clone()), &arena_free);
    assert_said_once(&ConstructError::<Infallible>::Alloc(alloc), &alloc);
    let heap_free = HeapFreeError::NotAllocated;
    assert_said_once(&ReallocError::Alloc(alloc), &alloc);
    assert_said_once(&ReallocError::Free(heap_free), &heap_free);
    let fault = HeapFault { cache: "heap-8", fault: CacheFault::Chain };
    assert_said_once(&fault, &fault.fault);
    #[cfg(feature = "mmap")]
    assert_said_once(&crate::host::HostFault::Heap(fault), &fault);
}

/// A constructor's error, with a source of its own.
#[derive(Debug)]
struct NoQueue(FreeError);

impl Display for NoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no queue")
    }
}

impl Error for NoQueue {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn a_constructors_error_keeps_its_source() {
    let error = ConstructError::Constructor(NoQueue(FreeError::Hole));
    assert_said_once(&error, &"no queue");
    assert_said_once(&error, &FreeError::Hole);
}
