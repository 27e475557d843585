//! QEMU's firmware configuration device: strings that the host passes into the machine.
//!
//! An item is selected by its key and read byte by byte. Item [`FILE_DIRECTORY`] names all others.
//! Source: QEMU, `docs/specs/fw_cfg.rst`.

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

/// Item: the letters `QEMU`.
const SIGNATURE: u16 = 0x00;
/// Item: the memory of the machine, in bytes.
const RAM_SIZE: u16 = 0x03;
/// Item: how many CPUs the machine has.
const CPUS: u16 = 0x05;
/// Item: how many files there are, and for each its size, key and name.
const FILE_DIRECTORY: u16 = 0x19;
/// Bytes of a file's name in the directory, padded with zeros.
const NAME_LEN_BYTES: usize = 56;

/// The item that was selected last, read from its current position on.
struct Item {
    data: PortReadOnly<u8>,
}

impl Item {
    fn select(key: u16) -> Self {
        let mut selector: PortWriteOnly<u16> = PortWriteOnly::new(0x510);
        // SAFETY: the selector register of the device, which only moves the device's own cursor.
        unsafe { selector.write(key) };
        Self { data: PortReadOnly::new(0x511) }
    }

    fn read<const LEN: usize>(&mut self) -> [u8; LEN] {
        // SAFETY: the data register of the device, which only moves the device's own cursor.
        core::array::from_fn(|_| unsafe { self.data.read() })
    }
}

/// The memory of this machine, in bytes, as its maker says.
pub(crate) fn memory_len_bytes() -> u64 {
    u64::from_le_bytes(Item::select(RAM_SIZE).read())
}

/// The CPUs of this machine, as its maker says.
pub(crate) fn cpu_count() -> usize {
    usize::from(u16::from_le_bytes(Item::select(CPUS).read()))
}

/// Reads the file `name` into `buffer`; `None` if there is no such device, as in a real PC, if the
/// host passed no such file, or if it is not text.
/// What does not fit into `buffer` is cut off.
pub(crate) fn read_text<'b>(name: &str, buffer: &'b mut [u8]) -> Option<&'b str> {
    if Item::select(SIGNATURE).read() != *b"QEMU" {
        return None;
    }
    let mut directory = Item::select(FILE_DIRECTORY);
    let count = u32::from_be_bytes(directory.read());
    for _ in 0..count {
        let len_bytes = u32::from_be_bytes(directory.read()) as usize;
        let key = u16::from_be_bytes(directory.read());
        let _reserved: [u8; 2] = directory.read();
        let padded: [u8; NAME_LEN_BYTES] = directory.read();
        if padded.split(|&byte| byte == 0).next() == Some(name.as_bytes()) {
            let len_bytes = len_bytes.min(buffer.len());
            let text = &mut buffer[..len_bytes];
            let mut file = Item::select(key);
            text.fill_with(|| file.read::<1>()[0]);
            return core::str::from_utf8(text).ok();
        }
    }
    None
}
