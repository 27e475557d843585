//! What happens to an object when its slab comes and goes.

use core::convert::Infallible;
use core::error::Error;
use core::fmt;
use core::ptr::NonNull;

use crate::buddy::AllocError;

/// Makes objects when a slab grows and unmakes them when it goes.
pub trait Lifecycle {
    /// Why an object could not be made.
    type Error;

    /// Whether free objects hold a value: their bytes are then never filled, cleared or checked.
    const CONSTRUCTS: bool;

    /// Makes an object.
    ///
    /// # Safety
    ///
    /// `object` is one of a cache with this lifecycle, holds no value, and is the caller's alone.
    unsafe fn construct(&self, object: NonNull<u8>) -> Result<(), Self::Error>;

    /// Unmakes an object.
    ///
    /// # Safety
    ///
    /// [`construct`](Self::construct) has made it, and nobody uses it any more.
    unsafe fn destruct(&self, object: NonNull<u8>);
}

/// Objects that are bytes, with undefined contents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes;

impl Lifecycle for Bytes {
    type Error = Infallible;

    const CONSTRUCTS: bool = false;

    #[inline]
    unsafe fn construct(&self, _object: NonNull<u8>) -> Result<(), Infallible> {
        Ok(())
    }

    #[inline]
    unsafe fn destruct(&self, _object: NonNull<u8>) {}
}

/// Why a cache of constructed objects could not serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConstructError<E> {
    /// There was no memory for a slab.
    Alloc(AllocError),
    /// The constructor failed; the slab was given back.
    Constructor(E),
}

impl<E> From<AllocError> for ConstructError<E> {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl ConstructError<Infallible> {
    /// The only error there can be.
    pub(super) fn into_alloc(self) -> AllocError {
        match self {
            Self::Alloc(error) => error,
            Self::Constructor(never) => match never {},
        }
    }
}

impl<E: fmt::Display> fmt::Display for ConstructError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(error) => error.fmt(f),
            Self::Constructor(error) => write!(f, "constructor: {error}"),
        }
    }
}

impl<E: Error> Error for ConstructError<E> {
    /// What the constructor's error has as its source: that error itself has been said.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Alloc(error) => error.source(),
            Self::Constructor(error) => error.source(),
        }
    }
}
