//! The firmware's tables: which CPUs the machine has.
//!
//! The way leads from the root pointer, which is searched for where a BIOS leaves it, over the
//! root table (XSDT with addresses of 64 bits, or RSDT with addresses of 32) to the MADT, which
//! lists the CPUs' interrupt controllers. Every table's length, checksum and signature are checked
//! before its content is believed.
//!
//! Memory is reached through a function, so that a test can put tables of its own there.
//!
//! Source: *ACPI Specification*, release 6.5, sections 5.2.5 to 5.2.12.

use core::fmt;

/// Most CPUs that the kernel starts.
pub(crate) const MOST_CPUS: usize = 16;

/// Bytes in front of every table's content.
const HEADER_LEN_BYTES: usize = 36;
/// No table of the firmware is larger.
const MOST_BYTES: usize = 1 << 20;

/// The CPUs of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Processors {
    /// Physical address of the local interrupt controllers, at which each CPU finds its own.
    pub(crate) local_apic: u64,
    apic_ids: [u8; MOST_CPUS],
    len: usize,
}

impl Processors {
    /// What names each CPU's interrupt controller, in the order of the table.
    pub(crate) fn apic_ids(&self) -> &[u8] {
        &self.apic_ids[..self.len]
    }
}

/// Why the firmware's tables do not say which CPUs there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AcpiError {
    /// There is no root pointer.
    NoRoot,
    /// No table of this signature.
    NoTable([u8; 4]),
    /// A table at this address that cannot be read, or is of an impossible length.
    Unreadable(u64),
    /// The bytes of the table with this signature do not add up to zero.
    Checksum([u8; 4]),
    /// More CPUs than [`MOST_CPUS`].
    TooManyCpus,
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoot => f.write_str("no root pointer of ACPI"),
            Self::NoTable(name) => write!(f, "no ACPI table {}", name.escape_ascii()),
            Self::Unreadable(address) => write!(f, "no ACPI table can be read at {address:#x}"),
            Self::Checksum(name) => write!(f, "ACPI table {}: wrong sum", name.escape_ascii()),
            Self::TooManyCpus => write!(f, "expected at most {MOST_CPUS} CPUs, found more"),
        }
    }
}

/// So many bytes of physical memory from an address on, if they can be read.
pub(crate) trait Memory<'m>: Fn(u64, usize) -> Option<&'m [u8]> {}

impl<'m, M: Fn(u64, usize) -> Option<&'m [u8]>> Memory<'m> for M {}

/// Finds out which CPUs there are, those left out that the firmware has switched off.
pub(crate) fn processors<'m>(memory: &impl Memory<'m>) -> Result<Processors, AcpiError> {
    const LOCAL_APIC: u8 = 0;
    const LOCAL_APIC_ADDRESS: u8 = 5;
    const ENABLED: u32 = 1;

    let madt = madt(memory)?;
    let mut found = Processors {
        local_apic: u64::from(u32_at(madt, HEADER_LEN_BYTES).unwrap_or_default()),
        apic_ids: [0; MOST_CPUS],
        len: 0,
    };
    let mut rest = madt.get(HEADER_LEN_BYTES + 8..).unwrap_or_default();
    // An entry begins with its kind and its length, which counts these two bytes.
    while let &[kind, len, ..] = rest
        && let Some((entry, behind)) = rest.split_at_checked(usize::from(len.max(2)))
    {
        rest = behind;
        if kind == LOCAL_APIC && u32_at(entry, 4).unwrap_or_default() & ENABLED != 0 {
            let place = found.apic_ids.get_mut(found.len).ok_or(AcpiError::TooManyCpus)?;
            *place = entry[3];
            found.len += 1;
        } else if kind == LOCAL_APIC_ADDRESS {
            found.local_apic = u64_at(entry, 4).unwrap_or(found.local_apic);
        }
    }
    Ok(found)
}

/// The table of interrupt controllers, which the root table leads to.
fn madt<'m>(memory: &impl Memory<'m>) -> Result<&'m [u8], AcpiError> {
    const NAME: [u8; 4] = *b"APIC";
    let (address, address_len_bytes) = root(memory).ok_or(AcpiError::NoRoot)?;
    let tables = table(memory, address)?;
    for entry in tables[HEADER_LEN_BYTES..].chunks_exact(address_len_bytes) {
        let mut address = [0; 8];
        address[..address_len_bytes].copy_from_slice(entry);
        let address = u64::from_le_bytes(address);
        if memory(address, NAME.len()) == Some(&NAME) {
            return table(memory, address);
        }
    }
    Err(AcpiError::NoTable(NAME))
}

/// Address of the root table, and bytes of each address in it.
fn root<'m>(memory: &impl Memory<'m>) -> Option<(u64, usize)> {
    const LEN_BYTES: usize = 20;
    const EXTENDED_LEN_BYTES: usize = 36;
    // Where the BIOS notes the segment of its data.
    let segment = memory(0x40e, 2)?;
    let bios_data = u64::from(u16::from_le_bytes([segment[0], segment[1]])) << 4;
    for (start, len_bytes) in [(bios_data, 1024), (0xe_0000, 0x2_0000)] {
        for address in (start..start + len_bytes).step_by(16) {
            let Some(pointer) = memory(address, LEN_BYTES) else { continue };
            if !pointer.starts_with(b"RSD PTR ") || sum(pointer) != 0 {
                continue;
            }
            let extended = memory(address, EXTENDED_LEN_BYTES);
            return match extended.filter(|extended| pointer[15] >= 2 && sum(extended) == 0) {
                Some(extended) => Some((u64_at(extended, 24)?, 8)),
                None => Some((u64::from(u32_at(pointer, 16)?), 4)),
            };
        }
    }
    None
}

/// The whole table at `address`, at least its header.
fn table<'m>(memory: &impl Memory<'m>, address: u64) -> Result<&'m [u8], AcpiError> {
    let unreadable = AcpiError::Unreadable(address);
    let header = memory(address, HEADER_LEN_BYTES).ok_or(unreadable)?;
    let len_bytes = u32_at(header, 4).unwrap_or_default() as usize;
    if !(HEADER_LEN_BYTES..=MOST_BYTES).contains(&len_bytes) {
        return Err(unreadable);
    }
    let whole = memory(address, len_bytes).ok_or(unreadable)?;
    match sum(whole) {
        0 => Ok(whole),
        _ => Err(AcpiError::Checksum([whole[0], whole[1], whole[2], whole[3]])),
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
