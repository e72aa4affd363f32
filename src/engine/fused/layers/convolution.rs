//! A convolution on maps that `winograd` has transformed, [point][channel][tile of columns][row]: each
//! point is a convolution of its own with a kernel of one column. Two outputs of it, one below the
//! other, make two 2x2 windows of the map, side by side: everything from their products to the activated
//! windows happens in the nearest cache.

use crate::architecture::{Activation, CONV1_CHANNELS, CONV2_CHANNELS, KERNEL, Pooling};
use crate::engine::fused::kernels::activations::activate;
use crate::engine::fused::kernels::correlation::{Packed, PackedTransposed};
use crate::engine::fused::kernels::pooling::{Window, unpool};
use crate::engine::fused::kernels::winograd::{self, POINTS};
use crate::engine::fused::vectors::maps::Strides;
use crate::engine::fused::vectors::memory::take;
use pulp::Simd;
use std::ops::Range;

/// 2x2 windows that a tile's outputs in two rows make.
pub const WINDOWS: usize = winograd::OUTPUTS / 2;

const KERNELS1: usize = CONV1_CHANNELS;
const KERNELS2: usize = CONV2_CHANNELS * CONV1_CHANNELS;

/// Values of both convolutions of which so many belong to a kernel, and one to a bias.
const fn values(per_kernel: usize) -> usize {
    (KERNELS1 + KERNELS2) * per_kernel + CONV1_CHANNELS + CONV2_CHANNELS
}

/// Parameters of the two convolutions: the head of the flat vector.
pub const PARAMETERS: usize = values(KERNEL * KERNEL);

/// Sums that become the gradient of those; the weights' are of the rows that `winograd` transformed.
pub const SUMS: usize = values(POINTS * KERNEL);

/// Cuts weight and bias of both convolutions off.
pub fn layers<T>(mut values: &mut [T], per_kernel: usize) -> [(&mut [T], &mut [T]); 2] {
    [(KERNELS1, CONV1_CHANNELS), (KERNELS2, CONV2_CHANNELS)].map(|(kernels, outputs)| {
        (take(&mut values, kernels * per_kernel), take(&mut values, outputs))
    })
}

/// A convolution's parameters as the kernels read them.
pub struct Convolution<const OUTPUTS: usize, const CHANNELS: usize> {
    /// [output][channel][row]: rows of the kernel, transformed.
    pub rows: Vec<[f32; POINTS]>,
    /// Of each point, from channels to outputs.
    points: [Packed<OUTPUTS, CHANNELS>; POINTS],
    pub bias: [f32; OUTPUTS],
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Convolution<OUTPUTS, CHANNELS> {
    fn new() -> Self {
        Convolution {
            rows: vec![[0.0; POINTS]; OUTPUTS * CHANNELS * KERNEL],
            points: std::array::from_fn(|_| Packed::zeros()),
            bias: [0.0; OUTPUTS],
        }
    }

    /// Takes weights and bias off the flat parameters.
    fn fill<S: Simd>(&mut self, flat: &mut &[f32]) {
        let (weights, rest) = flat.split_at(self.rows.len() * KERNEL);
        let (bias, rest) = rest.split_at(OUTPUTS);
        *flat = rest;
        self.bias.copy_from_slice(bias);
        for (transformed, row) in self.rows.iter_mut().zip(weights.as_chunks().0) {
            *transformed = winograd::weights(row);
        }
        for (point, packed) in self.points.iter_mut().enumerate() {
            packed.fill::<S>(|output, channel| {
                column(&self.rows, point, output * CHANNELS + channel)
            });
        }
    }

    /// The products of two rows, from 2y, of neighbouring tiles of columns, of which the last may be narrow:
    /// (8 points, columns, outputs, 2 rows).
    #[inline(always)]
    pub fn products<S: Simd>(
        &self,
        simd: S,
        (x, strides): (&[S::f32s], Strides),
        (y, columns, narrow): (usize, Range<usize>, bool),
        panel: &mut [S::f32s],
        products: &mut [S::f32s],
    ) {
        let products = products.as_chunks_mut::<2>().0.as_chunks_mut::<OUTPUTS>().0;
        let products = products.chunks_exact_mut(columns.len());
        for (point, (weights, products)) in self.points.iter().zip(products).enumerate() {
            let first = point * CHANNELS * strides.channel + columns.start * strides.column + 2 * y;
            let without = usize::from(narrow && point >= winograd::NARROW_POINTS);
            let (products, none) = products.split_at_mut(columns.len() - without);
            weights.correlate(simd, (&x[first..], strides), panel, products);
            none.fill([[simd.splat_f32s(0.0); 2]; OUTPUTS]);
        }
    }

    /// The `N` 2x2 windows side by side that tile `column` of `columns` has in every output's map, activated: a
    /// narrow tile has one.
    #[inline(always)]
    pub fn windows<'a, S: Simd, const N: usize>(
        &self,
        simd: S,
        activation: Activation,
        products: &[S::f32s],
        (column, columns): (usize, usize),
        place: &'a mut Windows<S::f32s, OUTPUTS>,
    ) -> &'a [[Window<S::f32s>; OUTPUTS]] {
        let products = products.as_chunks::<2>().0.as_chunks::<OUTPUTS>().0;
        let windows = &mut place[..N];
        for output in 0..OUTPUTS {
            let mut rows = [[simd.splat_f32s(0.0); winograd::OUTPUTS]; 2];
            for (row, outputs) in rows.iter_mut().enumerate() {
                let mut m = [simd.splat_f32s(0.0); POINTS];
                for (point, m) in m.iter_mut().enumerate() {
                    *m = products[point * columns + column][output][row];
                }
                let bias = simd.splat_f32s(self.bias[output]);
                *outputs = winograd::biased_outputs(simd, m, bias, N < WINDOWS);
            }
            for (windows, window) in windows.iter_mut().zip(windows_of(rows)) {
                windows[output] = window;
            }
        }
        // All at once: that many are computed side by side.
        activate(simd, activation, windows.as_flattened_mut().as_flattened_mut());
        windows
    }
}

/// The windows side by side that a tile's outputs in two rows make, of each output.
pub type Windows<V, const OUTPUTS: usize> = [[Window<V>; OUTPUTS]; WINDOWS];

/// The windows that two rows of outputs make.
#[inline(always)]
pub fn windows_of<V>([first, second]: [[V; winograd::OUTPUTS]; 2]) -> [Window<V>; WINDOWS] {
    let ([a, b, c, d], [e, f, g, h]) = (first, second);
    [[a, b, e, f], [c, d, g, h]]
}

/// From the gradient of a tile's pooled windows, of a narrow one the first, to that of the products of its
/// two rows, which `out` takes side by side, the points `point_stride` apart.
#[inline(always)]
pub fn products_gradient<S: Simd>(
    simd: S,
    rules: (Activation, Pooling),
    windows: [Window<S::f32s>; WINDOWS],
    pooled: &[S::f32s],
    out: &mut [S::f32s],
    point_stride: usize,
) {
    let narrow = pooled.len() < WINDOWS;
    let [a, b, e, f] = unpool(simd, rules, windows[0], pooled[0]);
    let mut second = [simd.splat_f32s(0.0); 4];
    if !narrow {
        second = unpool(simd, rules, windows[1], pooled[1]);
    }
    let [c, d, g, h] = second;
    for point in 0..POINTS {
        out[point * point_stride..][..2].copy_from_slice(&[
            winograd::outputs_gradient(simd, point, [a, b, c, d], narrow),
            winograd::outputs_gradient(simd, point, [e, f, g, h], narrow),
        ]);
    }
}

/// The parameters of both.
pub struct ConvolutionWeights {
    pub conv1: Convolution<CONV1_CHANNELS, 1>,
    pub conv2: Convolution<CONV2_CHANNELS, CONV1_CHANNELS>,
    /// Of each point of the second, from outputs back to channels.
    pub conv2_back: [PackedTransposed<CONV2_CHANNELS, CONV1_CHANNELS>; POINTS],
}

impl Default for ConvolutionWeights {
    fn default() -> Self {
        ConvolutionWeights {
            conv1: Convolution::new(),
            conv2: Convolution::new(),
            conv2_back: std::array::from_fn(|_| PackedTransposed::zeros()),
        }
    }
}

impl ConvolutionWeights {
    /// Takes the weights from the head of the flat parameters.
    pub fn fill<S: Simd>(&mut self, mut flat: &[f32], training: bool) {
        self.conv1.fill::<S>(&mut flat);
        self.conv2.fill::<S>(&mut flat);
        if !training {
            return;
        }
        for (point, conv2_back) in self.conv2_back.iter_mut().enumerate() {
            conv2_back.fill::<S>(|output, channel| {
                column(&self.conv2.rows, point, output * CONV1_CHANNELS + channel)
            });
        }
    }
}

/// Of kernel `i` at one point, its rows: a column.
fn column(rows: &[[f32; POINTS]], point: usize, i: usize) -> [f32; KERNEL] {
    std::array::from_fn(|row| rows[i * KERNEL + row][point])
}

/// Adds to the gradient of the convolutions' parameters, from the sums over some images.
pub fn add_gradient_of_sums(sums: &mut [f32], gradient: &mut [f32]) {
    let sums = layers(sums, POINTS * KERNEL);
    for ((sums, sum), (weights, bias)) in sums.into_iter().zip(layers(gradient, KERNEL * KERNEL)) {
        let (rows, _) = weights.as_chunks_mut::<KERNEL>();
        let count = rows.len();
        for (i, row) in rows.iter_mut().enumerate() {
            let of_row = winograd::weights_gradient(&std::array::from_fn(|p| sums[p * count + i]));
            add_all(row, &of_row);
        }
        add_all(bias, sum);
    }
}

/// Inlined, so that a kernel's vectors are used for it.
#[inline(always)]
pub fn add_all(places: &mut [f32], values: &[f32]) {
    places.iter_mut().zip(values).for_each(|(place, value)| *place += value);
}

/// A row of a map into the row of the transformed map that `out` begins with: its columns and its
/// points lie `column_stride` and `point_stride` apart.
#[inline(always)]
pub fn transform<S: Simd>(
    simd: S,
    row: &[S::f32s],
    out: &mut [S::f32s],
    (column_stride, point_stride): (usize, usize),
) {
    let wide = row.windows(winograd::INPUTS).step_by(winograd::OUTPUTS);
    let rest = &row[wide.len() * winograd::OUTPUTS..];
    for (column, tile) in wide.enumerate() {
        let mut x = [simd.splat_f32s(0.0); winograd::INPUTS];
        x.copy_from_slice(tile);
        for (point, value) in winograd::inputs(simd, x).into_iter().enumerate() {
            out[point * point_stride + column * column_stride] = value;
        }
    }
    if let Some(&tile) = rest.as_array() {
        let column = row.len() / winograd::OUTPUTS - 1;
        for (point, value) in winograd::narrow_inputs(simd, tile).into_iter().enumerate() {
            out[point * point_stride + column * column_stride] = value;
        }
    }
}
