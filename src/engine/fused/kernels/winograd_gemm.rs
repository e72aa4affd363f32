//! What `winograd_columns` computes, as products of matrices (GEMM), for CPUs with 16 registers.
//!
//! Where a column is transformed in registers, a weight serves one multiply-add, and to load it takes as long
//! as what is saved. Here the transformed columns of several places are packed into a panel, and one sum after the
//! other is made for 12 pairs of output or channel and place, so that each value that is loaded serves two or
//! six. The packing costs a third of the time that fewer products save; a fifth of the plain kernels' time is gained.

use super::winograd_columns::{
    INPUTS, OF_BOTH, PRODUCTS, SUM_OF, inputs, outputs_gradient, reach, weights_gradient,
};
use crate::architecture::KERNEL;
use crate::engine::fused::vectors::maps::{Strides, add_gradients};
use pulp::Simd;

/// Outputs that are computed together, and columns.
pub const OUTPUTS: usize = 2;
pub const COLUMNS: usize = 3;

/// Places of two outputs, one below the other, whose input gradient is computed together.
const PLACES: usize = 2;

/// Vectors of the panel, of maps with so many channels and places.
pub fn vectors(channels: usize, places: usize) -> usize {
    PRODUCTS * channels * COLUMNS.max(places + OUTPUTS)
}

/// Calls a kernel that is compiled for each product.
macro_rules! for_each_product {
    ($kernel:ident::<$($parameter:ident),+>($($argument:expr),* $(,)?)) => {
        $kernel::<$($parameter,)+ 0>($($argument),*);
        $kernel::<$($parameter,)+ 1>($($argument),*);
        $kernel::<$($parameter,)+ 2>($($argument),*);
        $kernel::<$($parameter,)+ 3>($($argument),*);
        $kernel::<$($parameter,)+ 4>($($argument),*);
        $kernel::<$($parameter,)+ 5>($($argument),*);
        $kernel::<$($parameter,)+ 6>($($argument),*);
    };
}

/// `Packed::correlate` for `B` columns; weights are [two outputs][channel][product][output].
#[inline(always)]
pub fn correlate<S: Simd, const O: usize, const C: usize, const B: usize>(
    simd: S,
    weights: &[f32],
    (x, strides): (&[S::f32s], Strides),
    panel: &mut [S::f32s],
    out: &mut [[[S::f32s; 2]; O]],
) {
    // [channel][product][column]
    let panel = &mut panel.as_chunks_mut::<B>().0.as_chunks_mut::<PRODUCTS>().0[..C];
    for (channel, panel) in panel.iter_mut().enumerate() {
        for column in 0..B {
            let x = &x[channel * strides.channel + column * strides.column..];
            for (place, value) in panel.iter_mut().zip(inputs(simd, x)) {
                place[column] = value;
            }
        }
    }
    let weights = weights.as_chunks::<OUTPUTS>().0.as_chunks::<PRODUCTS>().0;
    for (i, weights) in weights.chunks_exact(C).enumerate() {
        let sums = correlate_outputs(simd, weights, panel);
        for (out, sums) in out.iter_mut().zip(sums) {
            out[i * OUTPUTS..][..OUTPUTS].copy_from_slice(&sums);
        }
    }
}

#[inline(always)]
fn correlate_outputs<S: Simd, const B: usize>(
    simd: S,
    weights: &[[[f32; OUTPUTS]; PRODUCTS]],
    x: &[[[S::f32s; B]; PRODUCTS]],
) -> [[[S::f32s; 2]; OUTPUTS]; B] {
    // First the two sums that both outputs are made of; then what belongs to one is added to it.
    let mut sums = [[[simd.splat_f32s(0.0); 2]; OUTPUTS]; B];
    for (weights, x) in weights.iter().zip(x) {
        for product in 0..OF_BOTH {
            add_products(simd, &weights[product], &x[product], SUM_OF[product], &mut sums);
        }
    }
    for [first, second] in sums.as_flattened_mut() {
        let (a, b) = (*first, *second);
        (*first, *second) = (simd.add_f32s(a, b), simd.sub_f32s(a, b));
    }
    for (weights, x) in weights.iter().zip(x) {
        for product in OF_BOTH..PRODUCTS {
            add_products(simd, &weights[product], &x[product], SUM_OF[product] - 2, &mut sums);
        }
    }
    sums
}

#[inline(always)]
fn add_products<S: Simd, const B: usize>(
    simd: S,
    weights: &[f32; OUTPUTS],
    x: &[S::f32s; B],
    sum: usize,
    sums: &mut [[[S::f32s; 2]; OUTPUTS]; B],
) {
    let mut splats = [simd.splat_f32s(0.0); OUTPUTS];
    for a in 0..OUTPUTS {
        splats[a] = simd.splat_f32s(weights[a]);
    }
    for b in 0..B {
        for a in 0..OUTPUTS {
            sums[b][a][sum] = simd.mul_add_e_f32s(splats[a], x[b], sums[b][a][sum]);
        }
    }
}

/// `PackedTransposed::correlate_transposed`; weights are [output][product][channel].
#[inline(always)]
pub fn correlate_transposed<S: Simd, const C: usize>(
    simd: S,
    weights: &[f32],
    (deltas, output_stride): (&[S::f32s], usize),
    (rows, columns): (usize, usize),
    panel: &mut [S::f32s],
    (out, strides): (&mut [S::f32s], Strides),
) {
    let places = columns * rows / 2;
    // [place][product][channel]
    let panel = &mut panel.as_chunks_mut::<C>().0.as_chunks_mut::<PRODUCTS>().0[..places];
    let weights = weights.as_chunks::<C>().0.as_chunks::<PRODUCTS>().0;
    let deltas = (deltas.as_chunks::<2>().0, output_stride / 2);
    for_each_product!(inputs_of_product::<S, C>(simd, weights, deltas, panel));
    for (column, panel) in panel.chunks_exact(rows / 2).enumerate() {
        for channel in 0..C {
            let out = &mut out[channel * strides.channel + column * strides.column..];
            let out = &mut out[..rows + KERNEL - 1];
            let mut begun = [simd.splat_f32s(0.0); KERNEL - 1];
            for (out, panel) in out.as_chunks_mut::<2>().0.iter_mut().zip(panel) {
                let mut products = [simd.splat_f32s(0.0); PRODUCTS];
                for product in 0..PRODUCTS {
                    products[product] = panel[product][channel];
                }
                *out = reach(simd, products, &mut begun);
            }
            out[rows..].copy_from_slice(&begun);
        }
    }
}

/// What every place's outputs give for the inputs of product `P`.
#[inline(always)]
fn inputs_of_product<S: Simd, const C: usize, const P: usize>(
    simd: S,
    weights: &[[[f32; C]; PRODUCTS]],
    deltas: (&[[S::f32s; 2]], usize),
    panel: &mut [[[S::f32s; C]; PRODUCTS]],
) {
    for (i, panel) in panel.chunks_mut(PLACES).enumerate() {
        let at = i * PLACES;
        if let [first, second] = panel {
            [first[P], second[P]] = inputs_of_places::<S, C, P, PLACES>(simd, weights, deltas, at);
        } else {
            [panel[0][P]] = inputs_of_places::<S, C, P, 1>(simd, weights, deltas, at);
        }
    }
}

#[inline(always)]
fn inputs_of_places<S: Simd, const C: usize, const P: usize, const B: usize>(
    simd: S,
    weights: &[[[f32; C]; PRODUCTS]],
    (deltas, output_stride): (&[[S::f32s; 2]], usize),
    first: usize,
) -> [[S::f32s; C]; B] {
    let mut sums = [[simd.splat_f32s(0.0); C]; B];
    for (weights, deltas) in weights.iter().zip(deltas.chunks_exact(output_stride)) {
        let mut of_sum = [simd.splat_f32s(0.0); B];
        for (value, &delta) in of_sum.iter_mut().zip(&deltas[first..][..B]) {
            *value = outputs_gradient(simd, delta)[SUM_OF[P]];
        }
        for c in 0..C {
            let weight = simd.splat_f32s(weights[P][c]);
            for b in 0..B {
                sums[b][c] = simd.mul_add_e_f32s(weight, of_sum[b], sums[b][c]);
            }
        }
    }
    sums
}

/// The gradient of all columns of a kernel at one point: adds to sums, (outputs, channels, rows), for maps of
/// `C` channels.
#[inline(always)]
pub fn convolution_weights<S: Simd, const C: usize>(
    simd: S,
    (deltas, output_stride): (&[S::f32s], usize),
    (rows, columns): (usize, usize),
    (x, strides): (&[S::f32s], Strides),
    panel: &mut [S::f32s],
    sums: &mut [f32],
) {
    let places = columns * rows / 2;
    // [place][product][channel] and, of two outputs' gradient, [output][product][channel]
    let panel = panel.as_chunks_mut::<C>().0.as_chunks_mut::<PRODUCTS>().0;
    let (panel, gradient) = panel.split_at_mut(places);
    let gradient = &mut gradient.as_chunks_mut::<OUTPUTS>().0[0];
    for (column, panel) in panel.chunks_exact_mut(rows / 2).enumerate() {
        for channel in 0..C {
            let x = &x[channel * strides.channel + column * strides.column..];
            let x = x[..rows + KERNEL - 1].windows(INPUTS).step_by(2);
            for (panel, x) in panel.iter_mut().zip(x) {
                for (place, value) in panel.iter_mut().zip(inputs(simd, x)) {
                    place[channel] = value;
                }
            }
        }
    }
    let deltas = deltas.chunks_exact(OUTPUTS * output_stride);
    for (deltas, sums) in deltas.zip(sums.chunks_exact_mut(OUTPUTS * C * KERNEL)) {
        let (first, second) = deltas.split_at(output_stride);
        let deltas = [first, second].map(|deltas| &deltas.as_chunks::<2>().0[..places]);
        for_each_product!(weights_of_product::<S, C>(simd, deltas, panel, gradient));
        for channel in 0..C {
            let mut of_channel = [[simd.splat_f32s(0.0); KERNEL]; OUTPUTS];
            for (column, gradient) in of_channel.iter_mut().zip(&*gradient) {
                let mut products = [simd.splat_f32s(0.0); PRODUCTS];
                for product in 0..PRODUCTS {
                    products[product] = gradient[product][channel];
                }
                *column = weights_gradient(simd, products);
            }
            add_gradients(simd, of_channel, sums, [channel * KERNEL, (C + channel) * KERNEL]);
        }
    }
}

/// The gradient of the weights of product `P`, for two outputs.
#[inline(always)]
fn weights_of_product<S: Simd, const C: usize, const P: usize>(
    simd: S,
    deltas: [&[[S::f32s; 2]]; OUTPUTS],
    x: &[[[S::f32s; C]; PRODUCTS]],
    gradient: &mut [[[S::f32s; C]; PRODUCTS]; OUTPUTS],
) {
    let mut sums = [[simd.splat_f32s(0.0); C]; OUTPUTS];
    for (x, (&first, &second)) in x.iter().zip(deltas[0].iter().zip(deltas[1])) {
        let of_sum = [first, second].map(|delta| outputs_gradient(simd, delta)[SUM_OF[P]]);
        for c in 0..C {
            for a in 0..OUTPUTS {
                sums[a][c] = simd.mul_add_e_f32s(of_sum[a], x[P][c], sums[a][c]);
            }
        }
    }
    for a in 0..OUTPUTS {
        gradient[a][P] = sums[a];
    }
}
