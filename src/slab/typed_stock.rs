//! Values and objects set aside: a [`Stock`] of a typed cache.

use core::fmt;
use core::marker::PhantomData;

use super::lifecycle::{Bytes, ConstructError, Constructed, Exactly, Lifecycle};
use super::slab_box::{ObjectBox, SlabBox};
use super::stock::Stock;
use super::typed::{Cache, ObjectCache};
use crate::buddy::AllocError;
use crate::page::{AllocFlags, FrameSource};

/// Objects of a typed cache set aside for one holder, as a [`Stock`] is of bytes: taking one cannot
/// fail, takes no lock and no memory. What is left goes back to the cache when this is dropped.
pub struct TypedStock<'c, T, S: FrameSource, L: Lifecycle = Bytes> {
    stock: Stock<'c, S, L>,
    values: Exactly<T>,
}

impl<T, S: FrameSource, L: Lifecycle> fmt::Debug for TypedStock<'_, T, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedStock").field("objects", &self.len()).finish_non_exhaustive()
    }
}

/// Objects of an [`ObjectCache`] set aside.
pub type ObjectStock<'c, T, S, E, F> = TypedStock<'c, T, S, Constructed<T, E, F>>;

impl<T, S: FrameSource> Cache<'_, T, S> {
    /// Sets memory for `values` values aside.
    ///
    /// # Errors
    ///
    /// As [`RawCache::alloc`](super::RawCache::alloc), if there is not memory for all of them; none
    /// is set aside then.
    pub fn reserve(
        &self,
        values: usize,
        flags: AllocFlags,
    ) -> Result<TypedStock<'_, T, S>, AllocError> {
        let stock = self.as_raw().reserve(values, flags)?;
        Ok(TypedStock { stock, values: PhantomData })
    }
}

impl<T: Send, S: FrameSource, E, F: Fn() -> Result<T, E>> ObjectCache<'_, T, S, E, F> {
    /// Sets `objects` objects aside, constructed.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc), if not all of them can be had; none is set aside then.
    pub fn reserve(
        &self,
        objects: usize,
        flags: AllocFlags,
    ) -> Result<ObjectStock<'_, T, S, E, F>, ConstructError<E>> {
        let stock = self.as_raw().set_aside(objects, flags)?;
        Ok(TypedStock { stock, values: PhantomData })
    }
}

impl<'c, T, S: FrameSource> TypedStock<'c, T, S> {
    /// Puts `value` into memory that was set aside.
    ///
    /// # Errors
    ///
    /// The value, when the stock is used up.
    pub fn alloc(&mut self, value: T) -> Result<SlabBox<'c, T, S>, T> {
        match self.stock.alloc() {
            // SAFETY: the object is new, one of a cache of `T`s.
            Some(object) => Ok(unsafe { SlabBox::fill(object.cast(), value, self.stock.cache()) }),
            None => Err(value),
        }
    }
}

impl<'c, T: Send, S, E, F> ObjectStock<'c, T, S, E, F>
where
    S: FrameSource,
    F: Fn() -> Result<T, E>,
{
    /// An object, as its last user or the constructor left it; `None` when the stock is used up.
    pub fn alloc(&mut self) -> Option<ObjectBox<'c, T, S, E, F>> {
        let object = self.stock.alloc()?;
        // SAFETY: the object is new, one of a cache of `T`s, and constructed.
        Some(unsafe { SlabBox::own(object.cast(), self.stock.cache()) })
    }
}

impl<T, S: FrameSource, L: Lifecycle> TypedStock<'_, T, S, L> {
    /// How many are left.
    pub const fn len(&self) -> usize {
        self.stock.len()
    }

    /// Whether the stock is used up.
    pub const fn is_empty(&self) -> bool {
        self.stock.is_empty()
    }
}
