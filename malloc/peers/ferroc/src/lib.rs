//! ferroc as a library to preload. It brings the C library's functions itself.

extern crate ferroc as _;
