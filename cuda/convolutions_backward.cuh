// The convolutions on the way back, a block an image. Shapes are those of 28x28 images, padding 2.
#pragma once

#include "convolutions.cuh"

// (400) -> (16, 10, 10): the gradient before conv2's activation, in the place of its value.
template <Activation ACTIVATION, Pooling POOLING, class Shape>
DEVICE void pool2_backward(const Shape &shape, const Shared<Shape> &shared, const float *features_gradient) {
    const int thread = this_thread().index;
#pragma unroll(Shape::FIXED ? 2 : 1)
    for (int first = 0; first < shape.features(); first += THREADS) {
        const int feature = first + thread;
        if (feature >= shape.features()) {
            break;
        }
        float *at = window2(shape, shared, feature);
        float window[4] = {at[0], at[1], at[shape.width2()], at[shape.width2() + 1]};
        window_gradient<ACTIVATION, POOLING>(features_gradient[feature], window);
        at[0] = window[0];
        at[1] = window[1];
        at[shape.width2()] = window[2];
        at[shape.width2() + 1] = window[3];
    }
}

// (16, 10, 10) -> columns (30, 140) of the gradient of pooled1, which is
//   gradient(c, y, x) = sum over kx of column (c, kx) at (y, x - kx),
//   column (c, kx) at (y, ox) = sum over ky and outputs of weight(output, c, ky, kx) * gradient2(output, y - ky, ox).
// So it is a product: rows (y, ox) (140) x (ky, output) (80) x columns (c, kx) (30). Half of the warps have 16 columns, each a part
// of the rows, 16 at once. Steps that see nothing but rows of zeros above or below the map are left out.
template <class Shape> DEVICE void conv2_backward_columns(const Shape &shape, const Shared<Shape> &shared) {
    const Thread self = this_thread();
    const int half = self.warp / 4, channel = shared.map2_channel(), width = shape.width2();
    constexpr int STEPS = 2 * KERNEL; // (ky, outputs 0..7 or 8..15)
    float weights[STEPS][2][2];
#pragma unroll
    for (int tile = 0; tile < 2; tile++) {
        const int column = min((2 * half + tile) * 8 + self.group, 29);
        const float *at = shared.conv2() + self.place * CONV2_ROW + column / KERNEL * TAPS + column % KERNEL;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const int outputs = step % 2 * 8, ky = step / 2;
            weights[step][tile][0] = at[outputs * CONV2_ROW + ky * KERNEL];
            weights[step][tile][1] = at[(outputs + 4) * CONV2_ROW + ky * KERNEL];
        }
    }
    const int rows = shape.pooled_height1() * width;
#pragma unroll(Shape::FIXED ? 3 : 1)
    for (int round = 0; round * 64 < rows; round++) {
        const int first = round * 64 + self.warp % 4 * 16;
        if (first >= rows) {
            break;
        }
        const int lowest = first / width - (shape.height2() - 1), highest = (first + 15) / width; // ky that see the map
        const int row = first + self.group;
        const float *inputs = shared.map2() + self.place * channel + 4 * width + row; // (y + 4 - ky) rows down the padded map
        Tile sums0, sums1;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const int outputs = step % 2 * 8, ky = step / 2;
            if (ky >= lowest && ky <= highest) {
                const float *at = inputs + outputs * channel - ky * width;
                const Left a(at[0], at[8], at[4 * channel], at[4 * channel + 8]);
                sums0.add(a, Right(weights[step][0][0], weights[step][0][1]));
                sums1.add(a, Right(weights[step][1][0], weights[step][1][1]));
            }
        }
#pragma unroll
        for (int tile = 0; tile < 2; tile++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int column = (2 * half + tile) * 8 + 2 * self.place + i % 2;
                if (column < 30) {
                    shared.columns()[column * shared.column() + row + i / 2 * 8] = tile == 0 ? sums0[i] : sums1[i];
                }
            }
        }
    }
}

// The gradient of conv2's weights and biases: outputs (16) x positions (100) x (c, tap) (150), and a column of ones for the biases.
// A warp has up to three tiles of 8 columns: warp, warp + 8 and, of the first three warps, warp + 16. `slot` sums over a block's
// images; `first` is its first one.
template <class Shape>
DEVICE void conv2_weights_gradient(const Shape &shape, const Shared<Shape> &shared, bool first, float *slot) {
    const Thread self = this_thread();
    const bool three = self.warp < 3;
    bool ones = false;
    int at[3]; // of a column, in pooled1
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const int column = (self.warp + 8 * i) * 8 + self.group, weight = min(column, CONV2_K - 1);
        const int c = weight / TAPS, tap = weight % TAPS;
        at[i] = c * shared.pooled1_channel() + tap / KERNEL * shape.pooled_width1() + tap % KERNEL;
        ones = column == CONV2_K;
    }
    // Elements 0 and 1 of a tile lie side by side in the slot, 2 and 3 are of the output 8 further. Column 150 is of the biases,
    // and the one behind it does not exist.
    float *weights = slot + Shape::CONV2_WEIGHT + self.group * CONV2_K + self.warp * 8 + 2 * self.place;
    float *biases = slot + Shape::CONV2_BIAS + self.group;
    const bool is_bias = self.warp == 2 && self.place == 3; // in the third tile
    float before[3][4] = {};
    if (!first) {
#pragma unroll
        for (int i = 0; i < 3; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (i == 2 && is_bias) {
                    before[i][2 * half] = biases[8 * half];
                } else if (i < 2 || three) {
                    const float2 two = load2(weights + i * 64 + half * 8 * CONV2_K);
                    before[i][2 * half] = two.x;
                    before[i][2 * half + 1] = two.y;
                }
            }
        }
    }
    Tile sums[3];
    const int channel = shared.map2_channel(), positions = shape.positions2();
    const float *gradients = shared.map2() + self.group * channel + 4 * shape.width2() + self.place;
#pragma unroll(Shape::FIXED ? 13 : 2)
    for (int step = 0; step < (positions + 7) / 8; step++) {
        // Beyond the last position the gradients are zero.
        const int position0 = step * 8 + self.place, position1 = min(position0 + 4, positions - 1);
        const float *inputs0 = shared.pooled1() + position0 + 4 * (position0 / shape.width2());
        const float *inputs1 = shared.pooled1() + position1 + 4 * (position1 / shape.width2());
        const float *of_step = gradients + step * 8;
        const Left a(of_step[0], of_step[8 * channel], of_step[4], of_step[8 * channel + 4]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            sums[i].add(a, Right(inputs0[at[i]], inputs1[at[i]]));
        }
        if (three) {
            sums[2].add(a, Right(ones ? 1.0f : inputs0[at[2]], ones ? 1.0f : inputs1[at[2]]));
        }
    }
#pragma unroll
    for (int i = 0; i < 3; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float x = before[i][2 * half] + sums[i][2 * half], y = before[i][2 * half + 1] + sums[i][2 * half + 1];
            if (i == 2 && is_bias) {
                biases[8 * half] = x;
            } else if (i < 2 || three) {
                store2(weights + i * 64 + half * 8 * CONV2_K, x, y);
            }
        }
    }
}

// Columns -> (6, 14, 14) -> (6, 28, 28): the gradient before conv1's activation, in the place of its value.
template <Activation ACTIVATION, Pooling POOLING, class Shape>
DEVICE void pool1_backward(const Shape &shape, const Shared<Shape> &shared) {
    const Thread self = this_thread();
    const int width = shape.width1(), column = shared.column();
    for (int window = self.index; window < shape.windows1(); window += THREADS) {
        const int y = window / shape.pooled_width1(), x = window % shape.pooled_width1();
#pragma unroll 2
        for (int channel = 0; channel < CONV1; channel++) {
            const float *columns = shared.columns() + channel * KERNEL * column + y * shape.width2() + x;
            float gradient = 0;
#pragma unroll
            for (int kx = 0; kx < KERNEL; kx++) {
                if (x - kx >= 0 && x - kx < shape.width2()) {
                    gradient += columns[kx * (column - 1)];
                }
            }
            float *at = shared.map1() + channel * shared.map1_channel() + 2 * y * width + 2 * x;
            const float2 top = load2(at), bottom = load2(at + width);
            float values[4] = {top.x, top.y, bottom.x, bottom.y};
            window_gradient<ACTIVATION, POOLING>(gradient, values);
            store2(at, values[0], values[1]);
            store2(at + width, values[2], values[3]);
        }
    }
}

// The gradient of conv1's weights and biases: taps (25, and a row of ones for the biases) x positions (784) x channels (6). The
// warps share the positions, two times four side by side a step.
template <class Shape>
DEVICE void conv1_weights_gradient(const Shape &shape, const Shared<Shape> &shared, bool first, float *slot) {
    const Thread self = this_thread();
    const float before = !first && self.index < CONV1 * TAPS + CONV1 ? slot[self.index] : 0.0f;
    const int row = shared.image_row(), fours = shape.width1() / 4; // in a row of the map
    const auto inputs_of = [&](int tap) { return shared.image() + self.place + tap / KERNEL * row + tap % KERNEL; };
    const float *inputs0 = inputs_of(self.group), *inputs1 = inputs_of(self.group + 8), *inputs2 = inputs_of(self.group + 16);
    const float *inputs3 = inputs_of(self.group == 0 ? 24 : 0); // one tap, the ones, and rows that nobody looks at
    const bool ones = self.group == 1;
    const float *gradients = shared.map1() + min(self.group, CONV1 - 1) * shared.map1_channel() + self.place;
    Tile sums0, sums1;
#pragma unroll(Shape::FIXED ? 4 : 1)
    for (int step = self.warp; step < shape.height1() * shape.width1() / 8; step += WARPS) {
        const int four0 = 2 * step, four1 = four0 + 1;
        const int at0 = four0 / fours * row + four0 % fours * 4, at1 = four1 / fours * row + four1 % fours * 4;
        const Right b(gradients[four0 * 4], gradients[four1 * 4]);
        sums0.add(Left(inputs0[at0], inputs1[at0], inputs0[at1], inputs1[at1]), b);
        sums1.add(Left(inputs2[at0], ones ? 1.0f : inputs3[at0], inputs2[at1], ones ? 1.0f : inputs3[at1]), b);
    }
    float *sums = shared.conv1_sums();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sums[self.warp * 256 + i * 32 + self.lane] = sums0[i];
        sums[self.warp * 256 + 128 + i * 32 + self.lane] = sums1[i];
    }
    block_barrier();
    if (self.index < CONV1 * TAPS + CONV1) {
        const bool weight = self.index < CONV1 * TAPS;
        const int channel = weight ? self.index / TAPS : self.index - CONV1 * TAPS;
        const int tap = weight ? self.index % TAPS : TAPS;
        // Where the tiles have it: element and lane.
        const int in_tile = tap % 16, element = in_tile / 8 * 2 + channel % 2, lane = in_tile % 8 * 4 + channel / 2;
        float sum = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) {
            sum += sums[warp * 256 + tap / 16 * 128 + element * 32 + lane];
        }
        slot[self.index] = before + sum;
    }
}
