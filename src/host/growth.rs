//! What a process gets from the system when its frames run short: spans of addresses, opened in
//! steps.

use core::sync::atomic::Ordering::Relaxed;

use super::frames::{Growth, HostFrames};
use super::span::{self, GRAIN_BYTES, Span};
use super::{locks, system};
use crate::check::{Violation, set_platform_hook};
use crate::frame::FRAME_SIZE;
use crate::memory_map::{Region, RegionKind};
use crate::page::{Contents, CpuLists, FrameSource, InitOptions, ZoneLimits};
use crate::platform::Platform;

/// Least memory that is opened at a time, in bytes; beyond it, a quarter of what is open already.
const STEP_BYTES: usize = 4 << 20;

/// Most memory that is opened at a time where a request does not need more, in bytes.
const MAX_STEP_BYTES: usize = 256 << 20;

/// Metadata take less than one byte of so many, and are laid out at once for all that later spans
/// can be expected to be.
const METADATA_PART: usize = 768;

/// A span that lies where no metadata are laid out before is opened in so many steps at most.
const LATER_STEPS: usize = 16;

impl Growth {
    /// Adds memory in which `frames` frames can be found, if nothing else uses them; `None` if the
    /// system gives no more. Of a span that is too short for that, what is left is added first.
    pub(super) fn grow(&mut self, host: &HostFrames, frames: usize) -> Option<()> {
        let pages = &host.pages;
        // For a span that is yet to come: as much again, since blocks begin at multiples of their
        // length, and reserves. Where that does not do, the next step is made to measure.
        let needed = frames.checked_mul(2 * FRAME_SIZE)?.checked_add(GRAIN_BYTES)?;
        if self.span.start() == 0 {
            return self.begin(host, needed);
        }
        let left = self.span.left_bytes();
        if left > 0 {
            let rest = self.span.rest();
            let opened = pages.platform().frames(rest.start, rest.end)?.start();
            let here = span::bytes_for_block(opened, frames).unwrap_or(needed);
            let opened_bytes = host.opened_bytes.load(Relaxed);
            let mut step = (opened_bytes / 4).clamp(STEP_BYTES, MAX_STEP_BYTES);
            if !host.dirty.cover().contains(opened) {
                // The page allocator's spans can grow only so often.
                step = step.max(self.span.len_bytes() / LATER_STEPS);
            }
            let sizes = [here.max(step), here.min(needed)];
            return sizes.into_iter().find_map(|bytes| self.open(host, bytes.min(left)));
        }
        let with_metadata = needed.checked_add(needed / METADATA_PART + GRAIN_BYTES)?;
        let below = self.span.start();
        let mut span = Span::reserve(with_metadata, pages.platform().room_below(below), below)?;
        let rest = span.rest();
        if pages.platform().frames(rest.start, rest.end).is_none() {
            span.give_up();
            return None;
        }
        host.advise(&span);
        self.span = span;
        self.open(host, with_metadata)
    }

    /// Reserves the first span and sets the page allocator up over it.
    fn begin(&mut self, host: &HostFrames, needed: usize) -> Option<()> {
        let reach = span::reach_bytes();
        let least = needed.checked_add(reach / METADATA_PART)?;
        let mut span = Span::reserve(least, usize::MAX, 0)?;
        host.advise(&span);
        if Self::set_up(host, &mut span, reach, needed).is_none() {
            span.give_up();
            return None;
        }
        self.span = span;
        Some(())
    }

    /// Sets the page allocator up over the first span, with metadata for `reach` bytes.
    fn set_up(host: &HostFrames, span: &mut Span, reach: usize, needed: usize) -> Option<()> {
        let pages = &host.pages;
        let rest = span.rest();
        pages.platform().place_around(rest.start);
        // Later spans go below this one.
        let most = rest.len().saturating_add(pages.platform().room_below(rest.start));
        let reach = reach.clamp(rest.len(), most).min(rest.end);
        let provision = pages.platform().frames(rest.end - reach, rest.end)?;
        let metadata = reach / METADATA_PART;
        let first = metadata.checked_add(needed.max(STEP_BYTES))?.min(rest.len());
        let opened = span.open(first)?;
        let range = pages.platform().frames(opened.start, opened.end)?;
        let options = InitOptions {
            limits: ZoneLimits::NONE,
            contents: Contents::Zeroed,
            provision,
            // Threads come to the frames for slabs and runs, seldom and for many at once.
            cpu_lists: CpuLists::Omit,
            ..InitOptions::DEFAULT
        };
        let region = Region::from_frames(range, RegionKind::Usable);
        // First: from the next call on other threads take frames, and what they give back is dirty.
        host.dirty.begin(provision);
        // SAFETY: the range was just opened: zero, and nobody else's, for as long as the process
        // lives.
        unsafe { pages.init_with([region], options) }.ok()?;
        set_platform_hook(stop);
        locks::prepare_barriers();
        if let Some((first, records)) = pages.owners_at_hand() {
            let start = pages.platform().phys_to_virt(first.start());
            // SAFETY: the page allocator's records live as long as it does, and it lies beside the
            // directory. There is one window for all memory.
            unsafe { host.directory.begin(start, first, records) };
        }
        host.opened_bytes.fetch_add(opened.len(), Relaxed);
        Some(())
    }

    /// Opens the next `bytes` bytes of the span and adds them.
    fn open(&mut self, host: &HostFrames, bytes: usize) -> Option<()> {
        let opened = self.span.open(bytes)?;
        let range = host.pages.platform().frames(opened.start, opened.end)?;
        // SAFETY: the range was just opened: nobody else's, for as long as the process lives.
        unsafe { host.pages.add(range) }.ok()?;
        host.opened_bytes.fetch_add(opened.len(), Relaxed);
        Some(())
    }
}

/// What a program that frees wrongly gets if it has set no hook.
fn stop(violation: &Violation<'_>) {
    system::stop(format_args!("{violation}"));
}
