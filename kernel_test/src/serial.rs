//! The first serial port, on which the kernel prints everything.
//!
//! A line is printed under a lock with interrupts masked, so lines do not mix. A report of a stop
//! goes past the lock ([`emergency`]): whoever holds it will not run again.

use core::fmt::{self, Write};

use spin::Mutex;
use uart_16550::{Config, Uart16550, backend::PioBackend};
use x86_64::instructions::interrupts::without_interrupts;

/// Port of the first serial port of every PC.
const COM1_PORT: u16 = 0x3f8;

/// The first serial port.
struct Serial(Uart16550<PioBackend>);

static SERIAL: Mutex<Serial> = Mutex::new(Serial::first());

impl Serial {
    const fn first() -> Self {
        // SAFETY: the port is the first serial port of every PC, and only this module talks to it.
        // Two drivers of it can only mix their letters.
        match unsafe { Uart16550::new_port(COM1_PORT) } {
            Ok(uart) => Self(uart),
            Err(_) => panic!("the serial port's address is valid"),
        }
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send_bytes_exact(text.as_bytes());
        Ok(())
    }
}

/// Sets the port up. What is printed before comes out too, at whatever speed the BIOS left.
pub(crate) fn init() {
    // Without a serial port there is nobody to tell.
    let _ = without_interrupts(|| SERIAL.lock().0.init(Config::default()));
}

/// Prints, as one piece.
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    // `Serial` itself never fails; a `Display` that does has printed what it could.
    let _ = without_interrupts(|| SERIAL.lock().write_fmt(arguments));
}

/// Prints without waiting for the lock, for those who stop the kernel.
pub(crate) fn emergency(arguments: fmt::Arguments<'_>) {
    let _ = Serial::first().write_fmt(arguments);
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::serial::print(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($argument)*))) };
}
