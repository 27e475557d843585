//! What happens to an object when its slab comes and goes.

use core::convert::Infallible;
use core::error::Error;
use core::fmt;
use core::marker::PhantomData;
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

/// How an [`ObjectCache`](super::ObjectCache) makes its objects.
pub struct Constructed<T, E, F> {
    constructor: F,
    /// Whoever allocates may write a `T` that the next one reads, so the type must be exactly
    /// this one.
    values: Exactly<(T, E)>,
}

impl<T, E, F> Constructed<T, E, F> {
    /// Objects that `constructor` makes.
    pub(super) const fn new(constructor: F) -> Self {
        Self { constructor, values: PhantomData }
    }
}

impl<T, E, F> fmt::Debug for Constructed<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constructed").finish_non_exhaustive()
    }
}

/// Says that a type may stand neither for a shorter- nor for a longer-lived one.
///
/// What a user leaves in an object that stays constructed is what the next one finds:
///
/// ```
/// # use kmem::page::FrameSource;
/// # use kmem::slab::ObjectCache;
/// fn rename<S: FrameSource>(names: &ObjectCache<'_, &'static str, S>) {
///     let mut name = names.alloc().unwrap();
///     *name = "a name for good";
/// }
/// ```
///
/// So it has to live as long as the cache says, not only as long as this user's box:
///
/// ```compile_fail,E0597
/// # use kmem::page::FrameSource;
/// # use kmem::slab::ObjectCache;
/// fn rename<S: FrameSource>(names: &ObjectCache<'_, &'static str, S>) {
///     let local = String::from("a name for now");
///     let mut name = names.alloc().unwrap();
///     *name = &local;
/// }
/// ```
pub(super) type Exactly<T> = PhantomData<fn(T) -> T>;

impl<T, E, F: Fn() -> Result<T, E>> Lifecycle for Constructed<T, E, F> {
    type Error = E;

    const CONSTRUCTS: bool = true;

    unsafe fn construct(&self, object: NonNull<u8>) -> Result<(), E> {
        let value = (self.constructor)()?;
        // SAFETY: `ObjectCache` makes caches with T's size and alignment only; the rest is the
        // caller's promise.
        unsafe { object.cast::<T>().write(value) };
        Ok(())
    }

    unsafe fn destruct(&self, object: NonNull<u8>) {
        // SAFETY: the caller's promise: `construct` wrote a `T`, and users get it as a `T` only.
        unsafe { object.cast::<T>().drop_in_place() };
    }
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
