//! How many sums a kernel keeps in a CPU's registers, and so how it cuts outputs into groups.
//!
//! Most keep 12: of 16 registers that leaves two for the inputs and one for a weight, and nothing
//! is spilled.

use pulp::Simd;
use std::ops::Range;

/// Whether these are the vectors of AVX-512. It has 32 registers, not 16, and its multiply-adds take a
/// weight from where it lies in memory, so that nothing is gained by using it twice. NEON has the
/// registers alone.
pub const fn avx512<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 && S::F32_LANES >= 16
}

/// Outputs that one pass accumulates, of two positions or for two tiles.
pub const OUTPUTS: usize = 6;

/// Outputs in groups of up to `OUTPUTS`, as even as they get: 16 are 5 + 5 + 6, not 6 + 6 + 4.
pub fn groups(outputs: usize) -> impl Iterator<Item = Range<usize>> {
    groups_of(OUTPUTS, outputs)
}

/// The same of up to `most`.
pub fn groups_of(most: usize, outputs: usize) -> impl Iterator<Item = Range<usize>> {
    let count = outputs.div_ceil(most);
    (0..count).map(move |g| g * outputs / count..(g + 1) * outputs / count)
}

/// Calls a kernel that is compiled for each size of a group.
macro_rules! for_group_of {
    ($size:expr, $kernel:ident::<$($parameter:ident),+>($($argument:expr),* $(,)?)) => {
        match $size {
            6 => $kernel::<$($parameter,)+ 6>($($argument),*),
            5 => $kernel::<$($parameter,)+ 5>($($argument),*),
            4 => $kernel::<$($parameter,)+ 4>($($argument),*),
            3 => $kernel::<$($parameter,)+ 3>($($argument),*),
            2 => $kernel::<$($parameter,)+ 2>($($argument),*),
            _ => $kernel::<$($parameter,)+ 1>($($argument),*),
        }
    };
}

pub(in crate::engine::fused) use for_group_of;
