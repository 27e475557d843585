//! All that kmem must be told about the machine.
//!
//! A [`Platform`] answers four questions: where a physical address can be read and written, which
//! CPU is running, how to keep its interrupts away for a moment, and how to keep a thread on it.
//! A kernel with one CPU implements four short functions; everything else has a default.

use crate::frame::PhysAddr;

/// Most CPUs that kmem keeps CPU-local state for.
pub const MAX_CPUS: usize = 256;

/// A CPU, numbered from 0. On the Linux host the CPUs are thread slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct CpuId(u16);

impl CpuId {
    /// The CPU that boots.
    pub const BOOT: Self = Self(0);

    /// The CPU with this number, or `None` from [`MAX_CPUS`] on.
    #[inline]
    pub const fn new(number: usize) -> Option<Self> {
        if number < MAX_CPUS { Some(Self(number as u16)) } else { None }
    }

    /// This CPU's number, below [`MAX_CPUS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What [`Platform::irq_save`] found, to be handed back to [`Platform::irq_restore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct IrqState(pub usize);

/// What keeps a thread on its CPU while it uses that CPU's own state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Between [`Platform::pin`] and [`Platform::unpin`] nothing else runs on the CPU but
    /// interrupt handlers, and the thread stays there: CPU-local state is entered by plain stores.
    Pinned,
    /// Threads migrate freely and `pin` does nothing: CPU-local state is entered by an atomic
    /// exchange.
    Migrating,
}

/// How virtual addresses follow from physical ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// All frames that kmem is ever given lie at one distance from their physical addresses. What
    /// belongs to an address is then found without a question to the platform.
    Linear,
    /// Frames lie wherever [`Platform::phys_to_virt`] says.
    Pieces,
}

/// The machine that kmem runs on.
///
/// # Safety
///
/// kmem's unsafe code relies on every one of these promises:
///
/// 1. [`phys_to_virt`](Self::phys_to_virt) maps every frame that is given to kmem to memory that is
///    readable, writable, at a fixed address, contiguous wherever the frames are, and not used by
///    anything else than what kmem gives it to. Physical address 0 never maps to a null pointer if
///    frame 0 is given to kmem.
/// 2. [`virt_to_phys`](Self::virt_to_phys) is its inverse. For an address that no such frame maps
///    to it answers `None`, or a physical address that was never given to kmem.
/// 3. [`cpu_id`](Self::cpu_id) differs between any two CPUs that run at the same time, and is
///    always below [`cpu_count`](Self::cpu_count), which never changes once kmem is used.
/// 4. Between [`irq_save`](Self::irq_save) and the matching [`irq_restore`](Self::irq_restore) no
///    interrupt handler that calls kmem runs on this CPU, and the running thread stays on it.
/// 5. Between [`pin`](Self::pin) and the matching [`unpin`](Self::unpin) the running thread stays
///    on its CPU, and no other thread that calls kmem runs on that CPU (interrupt handlers may).
///    This holds where [`PINNING`](Self::PINNING) is [`Pinning::Pinned`].
///    [`pin_here`](Self::pin_here) pins likewise and answers the CPU that the thread is on then;
///    [`unpin_from`](Self::unpin_from) unpins likewise.
/// 6. When [`synchronize`](Self::synchronize) returns `true`, every CPU, the caller's included, has
///    passed a full memory barrier since it was called.
/// 7. No function of the platform calls kmem, panics or unwinds.
/// 8. Where [`MAPPING`](Self::MAPPING) is [`Mapping::Linear`], the distance of a physical address
///    from where it is mapped is the same for all frames that are given to kmem, and does not
///    change once the first ones are.
pub unsafe trait Platform: Sync {
    /// Whether [`pin`](Self::pin) keeps its promise. The default suits kernels that do not
    /// preempt threads inside the kernel, and those whose `pin` switches preemption off.
    const PINNING: Pinning = Pinning::Pinned;

    /// Whether there is one direct map for all frames, as most kernels have it. The default
    /// promises nothing.
    const MAPPING: Mapping = Mapping::Pieces;

    /// Where the byte at `phys` can be read and written: the direct map.
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8;

    /// The physical address that `virt` maps to, if it lies in the direct map.
    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr>;

    /// Masks interrupts on this CPU and says how they stood before.
    fn irq_save(&self) -> IrqState;

    /// Puts interrupts back to how they stood at the matching [`irq_save`](Self::irq_save).
    ///
    /// # Safety
    ///
    /// `state` is what the matching `irq_save` on this CPU returned, and calls nest.
    unsafe fn irq_restore(&self, state: IrqState);

    /// The CPU that runs this code. The answer may be stale at once unless the thread is pinned.
    #[inline]
    fn cpu_id(&self) -> CpuId {
        CpuId::BOOT
    }

    /// How many CPUs there can be: every [`cpu_id`](Self::cpu_id) is below it.
    #[inline]
    fn cpu_count(&self) -> usize {
        1
    }

    /// Passes a moment while another CPU holds a lock, or takes memory back from CPUs. A platform
    /// whose CPUs are threads lets others run. One whose [`synchronize`](Self::synchronize) waits
    /// for every CPU to answer an interrupt answers here, too: the caller may mask interrupts while
    /// that CPU waits for it.
    #[inline]
    fn relax(&self) {
        core::hint::spin_loop();
    }

    /// Keeps the running thread on its CPU; does nothing where kernels do not preempt.
    #[inline]
    fn pin(&self) {}

    /// Undoes one [`pin`](Self::pin).
    #[inline]
    fn unpin(&self) {}

    /// [`pin`](Self::pin), and which CPU that is: one question for platforms that can answer both
    /// at once.
    #[inline]
    fn pin_here(&self) -> CpuId {
        self.pin();
        self.cpu_id()
    }

    /// [`unpin`](Self::unpin), from the CPU that [`pin_here`](Self::pin_here) named.
    #[inline]
    fn unpin_from(&self, cpu: CpuId) {
        let _ = cpu;
        self.unpin();
    }

    /// Makes every CPU pass a full memory barrier (by an interrupt to each, or Linux's
    /// `membarrier`) and answers `true` once all have; `false` where that cannot be done, which
    /// is the default for more than one CPU. kmem calls this when memory is short, and for calls
    /// that want what all CPUs keep: the page allocator's `drain`, `claim`, `add` and `remove`,
    /// a cache's `shrink`. It does so with none of its locks held and interrupts as the caller
    /// had them; for a [`Shrinker`](crate::page::Shrinker) the caller is [pinned](Self::pin).
    fn synchronize(&self) -> bool {
        self.cpu_count() <= 1
    }
}

/// A thread that stays on its CPU until this is dropped, also where a hook unwinds.
pub(crate) struct Pinned<'a, P: Platform> {
    platform: &'a P,
    cpu: CpuId,
}

impl<'a, P: Platform> Pinned<'a, P> {
    /// Keeps the running thread where it is.
    #[inline(always)]
    pub(crate) fn here(platform: &'a P) -> Self {
        Self { platform, cpu: platform.pin_here() }
    }

    /// The CPU that the thread stays on.
    #[inline(always)]
    pub(crate) fn cpu(&self) -> CpuId {
        self.cpu
    }
}

impl<P: Platform> Drop for Pinned<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        self.platform.unpin_from(self.cpu);
    }
}
