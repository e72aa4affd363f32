//! One tile back through both convolutions, which it went through in `tile`.

use super::convolution::{ConvolutionWeights, WINDOWS, layers, products_gradient};
use super::geometry::Geometry;
use super::tile::{ROWS1, Scratch, Tile};
use crate::architecture::{CONV1_CHANNELS, CONV2_CHANNELS, KERNEL};
use crate::engine::fused::kernels::correlation::{column_weights, convolution_weights};
use crate::engine::fused::kernels::winograd::{self, POINTS};
use crate::engine::fused::vectors::maps::Columns;
use pulp::Simd;

impl<V: Copy> Tile<'_, V> {
    /// From the features' gradient, `stride` apart; adds to the sums for the parameters' gradient. The
    /// transformed first pooled map becomes its own gradient: it is not needed again, and is in the cache.
    #[inline(always)]
    pub fn backward<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        scratch: &mut Scratch<V>,
        (features, stride): (&[V], usize),
        sums: &mut [f32],
    ) {
        let Scratch { row1, panel, gradient2, rows1, .. } = scratch;
        let [(weights1, bias1), (weights2, bias2)] = layers(sums, POINTS * KERNEL);
        self.pooling2(simd, g, (features, stride), gradient2);
        let mut bias = [simd.splat_f32s(0.0); CONV2_CHANNELS];
        add_outputs(simd, gradient2, g.plane2(), &mut bias);
        add_reduced(simd, &bias, bias2);
        self.convolution2(simd, g, weights, gradient2, panel, weights2);
        self.convolution1(simd, g, [row1, rows1], (weights1, bias1));
    }

    /// Back through the second pooling and activation.
    #[inline(always)]
    fn pooling2<S: Simd<f32s = V>>(
        &self,
        simd: S,
        g: &Geometry,
        (features, stride): (&[V], usize),
        gradient2: &mut [V],
    ) {
        for (at, windows) in self.maps2.iter().enumerate() {
            let (y, column) = (at / g.columns2, at % g.columns2);
            for channel in 0..CONV2_CHANNELS {
                let used = g.windows2(column);
                let mut pooled = [simd.splat_f32s(0.0); WINDOWS];
                let pooled = &mut pooled[..used.len()];
                for (x, pooled) in used.zip(&mut *pooled) {
                    let feature = (channel * (g.height2 / 2) + y) * (g.width2 / 2) + x;
                    *pooled = features[feature * stride];
                }
                let windows = [windows[0][channel], windows[1][channel]];
                let place = channel * g.plane2() + column * g.height2 + 2 * y;
                let (out, point_stride) = (&mut gradient2[place..], CONV2_CHANNELS * g.plane2());
                products_gradient(simd, g.rules(), windows, pooled, out, point_stride);
            }
        }
    }

    /// The second convolution, point by point: its weights, two outputs at a time, and then its input.
    #[inline(always)]
    fn convolution2<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        gradient2: &[V],
        panel: &mut [V],
        sums: &mut [f32],
    ) {
        let ([_, strides], plane2) = (g.strides(), g.plane2());
        let maps = self.transformed1.chunks_exact_mut(CONV1_CHANNELS * strides.channel);
        let gradients = gradient2.chunks_exact(CONV2_CHANNELS * plane2);
        let sums = sums.chunks_exact_mut(CONV2_CHANNELS * CONV1_CHANNELS * KERNEL);
        for (point, ((map, gradient2), sums)) in maps.zip(gradients).zip(sums).enumerate() {
            let (deltas, size) = ((gradient2, plane2), (g.height2, g.columns2_at(point)));
            let x = (&*map, strides);
            convolution_weights::<S, CONV1_CHANNELS>(simd, deltas, size, x, panel, sums);
            let (back, out) = (&weights.conv2_back[point], (map, strides));
            back.correlate_transposed(simd, deltas, size, panel, out);
        }
    }

    /// Row by row back from the transformed map's gradient, through the first pooling and activation, to the
    /// weights of the first convolution.
    #[inline(always)]
    fn convolution1<S: Simd<f32s = V>>(
        &self,
        simd: S,
        g: &Geometry,
        [row1, rows1]: [&mut [V]; 2],
        (sums, bias): (&mut [f32], &mut [f32]),
    ) {
        let ([strides0, strides1], band) = (g.strides(), ROWS1 * g.columns1);
        let mut bias_lanes = [simd.splat_f32s(0.0); CONV1_CHANNELS];
        for y in 0..g.height1 {
            row1.fill(simd.splat_f32s(0.0));
            for channel in 0..CONV1_CHANNELS {
                let row1 = &mut row1[channel * g.width1..][..g.width1];
                for column in 0..g.columns2 {
                    let mut m = [simd.splat_f32s(0.0); POINTS];
                    for (point, m) in m.iter_mut().enumerate() {
                        let map = (point * CONV1_CHANNELS + channel) * strides1.channel;
                        *m = self.transformed1[map + column * strides1.column + y];
                    }
                    let row = &mut row1[column * winograd::OUTPUTS..];
                    if g.windows2(column).len() == WINDOWS {
                        add(simd, row, winograd::inputs_gradient(simd, m));
                    } else {
                        add(simd, row, winograd::narrow_inputs_gradient(simd, m));
                    }
                }
                let windows = &self.maps1[y * g.columns1..];
                let tiles = row1.as_chunks::<WINDOWS>().0.iter().zip(windows).enumerate();
                for (column, (pooled, windows)) in tiles {
                    let windows = [windows[0][channel], windows[1][channel]];
                    let place = channel * band + column * ROWS1 + 2 * y % ROWS1;
                    let (out, point_stride) = (&mut rows1[place..], CONV1_CHANNELS * band);
                    products_gradient(simd, g.rules(), windows, pooled, out, point_stride);
                }
            }
            if 2 * y % ROWS1 + 2 < ROWS1 {
                continue;
            }
            add_outputs(simd, rows1, band, &mut bias_lanes);
            for point in 0..POINTS {
                let x = &self.transformed0[point * strides0.channel + 2 * y + 2 - ROWS1..];
                let x = Columns { values: x, stride: strides0.column };
                for output in (0..CONV1_CHANNELS).step_by(2) {
                    let map = |o: usize| point * CONV1_CHANNELS + o;
                    let delta = |o: usize| Columns {
                        values: &rows1[map(o) * band..][..band],
                        stride: ROWS1,
                    };
                    let deltas = [delta(output), delta(output + 1)];
                    let places = [map(output) * KERNEL, map(output + 1) * KERNEL];
                    column_weights(simd, deltas, (ROWS1, g.columns1), x, sums, places);
                }
            }
        }
        add_reduced(simd, &bias_lanes, bias);
    }
}

/// Adds `values` to the first elements of `row`.
#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, row: &mut [S::f32s], values: [S::f32s; N]) {
    for (place, value) in row[..N].iter_mut().zip(values) {
        *place = simd.add_f32s(*place, value);
    }
}

/// Adds to each output's bias the sum of its gradients, which the point 1 gives: the powers of 1 are all 1.
/// `transformed` has of each point and output `plane` vectors.
#[inline(always)]
fn add_outputs<S: Simd>(simd: S, transformed: &[S::f32s], plane: usize, bias: &mut [S::f32s]) {
    let maps = transformed.chunks_exact(plane).skip(winograd::ONE * bias.len());
    for (bias, map) in bias.iter_mut().zip(maps) {
        for &value in map {
            *bias = simd.add_f32s(*bias, value);
        }
    }
}

/// Adds each sum, its lanes added up, to its place.
#[inline(always)]
fn add_reduced<S: Simd>(simd: S, sums: &[S::f32s], out: &mut [f32]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out += simd.reduce_sum_f32s(sum);
    }
}
