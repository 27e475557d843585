//! What the benchmarks share: lanes that are raced against each other, the peers that run in
//! them, and the table, CSV and plot that come out.
//!
//! The machine is assumed to be noisy. So every allocator runs a short batch in turn, in an order
//! that rotates, round after round ([`mod@race`]); an allocator's time is the median over its
//! batches, and its ratio to the best peer is the **median of paired ratios**, one a round, of two
//! batches that ran within the same few microseconds.

pub mod machine;
pub mod memory;
pub mod options;
pub mod peers;
pub mod plot;
pub mod race;
pub mod random;
pub mod report;
pub mod stats;
pub mod work;

pub use options::Options;
pub use race::{Lane, Threads, Timing, race, race_pairs_of_threads, race_threads, timed};
pub use report::{Report, Row, Table};
