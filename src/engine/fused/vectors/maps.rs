//! How a map lies in memory, and how the lanes of a vector are added up into the gradient.

use crate::architecture::KERNEL;
use pulp::{Simd, bytemuck};

/// How far apart the channels of maps lie, and the columns; rows are neighbours in memory.
#[derive(Clone, Copy)]
pub struct Strides {
    pub channel: usize,
    pub column: usize,
}

/// Columns of rows that are neighbours in memory, one column `stride` behind the other.
#[derive(Clone, Copy)]
pub struct Columns<'a, V> {
    pub values: &'a [V],
    pub stride: usize,
}

impl<'a, V> Columns<'a, V> {
    #[inline(always)]
    pub fn column(&self, column: usize, rows: usize) -> &'a [V] {
        &self.values[column * self.stride..][..rows]
    }
}

/// Adds two gradients of a column, their lanes added up, to the sums at their places.
#[inline(always)]
pub fn add_gradients<S: Simd>(
    simd: S,
    gradients: [[S::f32s; KERNEL]; 2],
    sums: &mut [f32],
    places: [usize; 2],
) {
    let mut lanes = [simd.splat_f32s(0.0); (2 * KERNEL).next_multiple_of(4)];
    lanes[..2 * KERNEL].copy_from_slice(gradients.as_flattened());
    let mut added = [0.0; (2 * KERNEL).next_multiple_of(4)];
    for (added, &lanes) in added.as_chunks_mut().0.iter_mut().zip(lanes.as_chunks().0) {
        *added = add_lanes(simd, lanes);
    }
    for (place, gradient) in places.into_iter().zip(added.as_chunks::<KERNEL>().0) {
        let sums = &mut sums[place..][..KERNEL];
        sums.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
    }
}

/// The sum of each vector's lanes.
#[inline(always)]
fn add_lanes<S: Simd>(simd: S, vectors: [S::f32s; 4]) -> [f32; 4] {
    let mut sums = [0.0; 4];
    if S::F32_LANES < 4 {
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.reduce_sum_f32s(vector);
        }
        return sums;
    }
    // Every four lanes are now one of each vector.
    let [a, b, c, d] = simd.deinterleave_shfl_f32s(vectors);
    let lanes = [simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))];
    for four in bytemuck::cast_slice::<_, f32>(&lanes).as_chunks::<4>().0 {
        sums.iter_mut().zip(four).for_each(|(sum, lane)| *sum += lane);
    }
    sums
}
