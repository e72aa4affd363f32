// The convolutions forward, a block an image, all in shared memory. Shapes are those of 28x28 images, padding 2.
#pragma once

#include "functions.cuh"
#include "products.cuh"

// Weights and biases of both convolutions, in two groups of copies: conv1's and all biases, then conv2's.
template <class Shape> DEVICE void stage_conv1(const Shared<Shape> &shared, const float *parameters) {
    const int thread = this_thread().index;
    if (thread < CONV1 * TAPS) {
        copy_async<4>(shared.conv1() + thread / TAPS * CONV1_ROW + thread % TAPS, parameters + Shape::CONV1_WEIGHT + thread);
    }
    if (thread >= 160 && thread < 160 + CONV1) {
        copy_async<4>(shared.conv1_bias() + thread - 160, parameters + Shape::CONV1_BIAS + thread - 160);
    }
    if (thread >= 176 && thread < 176 + CONV2) {
        copy_async<4>(shared.conv2_bias() + thread - 176, parameters + Shape::CONV2_BIAS + thread - 176);
    }
}

template <class Shape> DEVICE void stage_conv2(const Shared<Shape> &shared, const float *parameters) {
    constexpr int PAIRS = CONV2_K / 2;
    const int thread = this_thread().index;
#pragma unroll
    for (int first = 0; first < CONV2 * PAIRS; first += THREADS) {
        const int i = first + thread;
        if (i < CONV2 * PAIRS) {
            copy_async<8>(shared.conv2() + i / PAIRS * CONV2_ROW + i % PAIRS * 2, parameters + Shape::CONV2_WEIGHT + 2 * i);
        }
    }
}

// (1, 32, 32) -> (6, 28, 28) -> pooled (6, 14, 14). A thread computes the four outputs of a pooling window for all channels.
// KEEP: the outputs before the pooling are needed on the way back.
template <Activation ACTIVATION, Pooling POOLING, bool KEEP, class Shape>
DEVICE void conv1_forward(const Shape &shape, const Shared<Shape> &shared) {
    const Thread self = this_thread();
    for (int window = self.index; window < shape.windows1(); window += THREADS) {
        const int y = window / shape.pooled_width1(), x = window % shape.pooled_width1();
        float patch[6][6];
#pragma unroll
        for (int row = 0; row < 6; row++) {
#pragma unroll
            for (int pair = 0; pair < 3; pair++) {
                const float2 two = load2(shared.image() + (2 * y + row) * shared.image_row() + 2 * x + 2 * pair);
                patch[row][2 * pair] = two.x;
                patch[row][2 * pair + 1] = two.y;
            }
        }
#pragma unroll 2
        for (int channel = 0; channel < CONV1; channel++) {
            float weights[CONV1_ROW];
#pragma unroll
            for (int i = 0; i < CONV1_ROW; i += 4) {
                const float4 four = load4(shared.conv1() + channel * CONV1_ROW + i);
                weights[i] = four.x;
                weights[i + 1] = four.y;
                weights[i + 2] = four.z;
                weights[i + 3] = four.w;
            }
            const float bias = shared.conv1_bias()[channel];
            float outputs[4] = {bias, bias, bias, bias};
#pragma unroll
            for (int ky = 0; ky < KERNEL; ky++) {
#pragma unroll
                for (int kx = 0; kx < KERNEL; kx++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        outputs[i] = fmaf(weights[ky * KERNEL + kx], patch[ky + i / 2][kx + i % 2], outputs[i]);
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float &output = outputs[i];
                output = activated<ACTIVATION>(output);
            }
            if (KEEP) {
                float *to = shared.map1() + channel * shared.map1_channel() + 2 * y * shape.width1() + 2 * x;
                store2(to, outputs[0], outputs[1]);
                store2(to + shape.width1(), outputs[2], outputs[3]);
            }
            shared.pooled1()[channel * shared.pooled1_channel() + window] = pooled<POOLING>(outputs);
        }
    }
}

// (6, 14, 14) -> (16, 10, 10), as a product: positions (100) x taps of all channels (150) x outputs (16). A warp has 16 positions.
//
// The order of the taps is free. A step of 8 takes four taps of two channels; the 25th taps are a step of their own.
template <Activation ACTIVATION, class Shape> DEVICE void conv2_forward(const Shape &shape, const Shared<Shape> &shared) {
    const Thread self = this_thread();
    const int last = shape.positions2() - 1, row = shape.pooled_width1(), channel = shared.pooled1_channel();
    const float *weights0 = shared.conv2() + self.group * CONV2_ROW; // outputs 0..7, then 8..15
    const float *weights1 = weights0 + 8 * CONV2_ROW;
    for (int first = 0; first * 16 <= last; first += WARPS) {
        const int tile = first + self.warp;
        if (tile * 16 > last) {
            break;
        }
        const int position0 = min(tile * 16 + self.group, last), position1 = min(tile * 16 + self.group + 8, last);
        const float *inputs0 = shared.pooled1() + position0 / shape.width2() * row + position0 % shape.width2();
        const float *inputs1 = shared.pooled1() + position1 / shape.width2() * row + position1 % shape.width2();
        Tile sums0, sums1;
#pragma unroll
        for (int four = 0; four < 6; four++) {
            const int tap = 4 * four + self.place;
            const int at = tap + (row - KERNEL) * (tap * 13 >> 6); // tap / 5 rows down
#pragma unroll
            for (int c = 0; c < CONV1; c += 2) {
                const float *in0 = inputs0 + at + c * channel, *in1 = inputs1 + at + c * channel;
                const Left a(in0[0], in1[0], in0[channel], in1[channel]);
                const Right b0(weights0[c * TAPS + tap], weights0[c * TAPS + TAPS + tap]);
                const Right b1(weights1[c * TAPS + tap], weights1[c * TAPS + TAPS + tap]);
                sums0.add(a, b0);
                sums1.add(a, b1);
            }
        }
        {
            const int at = 4 * row + 4, c0 = self.place, c1 = 4 + self.place % 2;
            const bool real = self.place < 2; // there are only six channels
            const Left a(inputs0[c0 * channel + at], inputs1[c0 * channel + at], inputs0[c1 * channel + at],
                         inputs1[c1 * channel + at]);
            const Right b0(weights0[c0 * TAPS + 24], real ? weights0[c1 * TAPS + 24] : 0.0f);
            const Right b1(weights1[c0 * TAPS + 24], real ? weights1[c1 * TAPS + 24] : 0.0f);
            sums0.add(a, b0);
            sums1.add(a, b1);
        }
        float *to = shared.map2() + 4 * shape.width2();
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int position = tile * 16 + self.group + i / 2 * 8, output = 2 * self.place + i % 2;
            if (position <= last) {
                to[output * shared.map2_channel() + position] = activated<ACTIVATION>(sums0[i] + shared.conv2_bias()[output]);
                to[(output + 8) * shared.map2_channel() + position] =
                    activated<ACTIVATION>(sums1[i] + shared.conv2_bias()[output + 8]);
            }
        }
    }
}

// Where a window of pooled2 begins in conv2's map.
template <class Shape> DEVICE float *window2(const Shape &shape, const Shared<Shape> &shared, int feature) {
    const int output = feature / shape.windows2(), window = feature % shape.windows2();
    const int y = window / shape.pooled_width2(), x = window % shape.pooled_width2();
    return shared.map2() + output * shared.map2_channel() + (4 + 2 * y) * shape.width2() + 2 * x;
}

// (16, 10, 10) -> (400)
template <Pooling POOLING, class Shape>
DEVICE void pool2_forward(const Shape &shape, const Shared<Shape> &shared, float *features) {
    const int thread = this_thread().index;
#pragma unroll(Shape::FIXED ? 2 : 1)
    for (int first = 0; first < shape.features(); first += THREADS) {
        const int feature = first + thread;
        if (feature >= shape.features()) {
            break;
        }
        const float *at = window2(shape, shared, feature);
        const float window[4] = {at[0], at[1], at[shape.width2()], at[shape.width2() + 1]};
        features[feature] = pooled<POOLING>(window);
    }
}
