//! Frames for a whole machine: zones, watermarks, reserves.

mod flags;

pub use flags::AllocFlags;
