// The fully connected layers, forward and back to fc1's inputs. A group of 16 blocks handles 16 images: fc1 and the gradient of its
// inputs as products over the 16 images, a part of the columns a block; what lies between them, by the block of an image.
#pragma once

#include "functions.cuh"
#include "products.cuh"

// ---- fc1: (16, 400) -> (16, 120). A block has 8 outputs, 15 blocks have some. The warps share the inputs, 8 a step: step i of a
// warp is step warp + 8 i of all.

constexpr int FC1_BLOCKS = FC1 / 8;

// This thread's weights of a warp's first steps, and the bias of the output that it will finish: asked for before the group waits.
// These loads, and the others here, have no conditions: who has nothing to do reads what another one does. They are on their way
// together, and no register keeps an older value.
template <class Shape> struct Fc1Weights {
    float2 of_step[Shape::FC1_STEPS];
    float bias;
};

// Whether step i of this warp is one; its number, or the last one's. For most i the compiler knows.
template <class Shape> DEVICE bool fc1_is_step(const Shape &shape, int warp, int i) {
    const int steps = shape.features() / 8;
    return WARPS * i + WARPS <= steps || warp + WARPS * i < steps;
}
template <class Shape> DEVICE int fc1_step(const Shape &shape, int warp, int i) {
    const int steps = shape.features() / 8;
    return WARPS * i + WARPS <= steps ? warp + WARPS * i : min(warp + WARPS * i, steps - 1);
}

// Steps from..from + FC1_STEPS of this warp, of a row of features.
template <class Shape> DEVICE void fc1_load(const Shape &shape, int from, const float *row, float2 (&of_step)[Shape::FC1_STEPS]) {
    const Thread self = this_thread();
#pragma unroll
    for (int i = 0; i < Shape::FC1_STEPS; i++) {
        of_step[i] = load2(row + fc1_step(shape, self.warp, from + i) * 8 + 2 * self.place);
    }
}

// The row of fc1's weights that this thread multiplies with; of the block that has no outputs, of another one.
template <class Shape> DEVICE const float *fc1_row(const Shape &shape, const float *parameters) {
    const int block = min(static_cast<int>(block_index()) % GROUP, FC1_BLOCKS - 1);
    return parameters + Shape::FC1_WEIGHT + (8 * block + this_thread().group) * shape.features();
}

// Which of the tile (16, 8) element i of a lane is.
DEVICE int tile_row(int i, int lane) {
    return lane / 4 + i / 2 * 8;
}
DEVICE int tile_column(int i, int lane) {
    return lane % 4 * 2 + i % 2;
}

template <class Shape> DEVICE void fc1_load_weights(const Shape &shape, const float *parameters, Fc1Weights<Shape> &weights) {
    const Thread self = this_thread();
    const int block = min(static_cast<int>(block_index()) % GROUP, FC1_BLOCKS - 1);
    fc1_load(shape, 0, fc1_row(shape, parameters), weights.of_step);
    weights.bias = parameters[shape.fc1_bias() + 8 * block + tile_column(self.warp % 4, self.lane)];
}

// `features` and `outputs` are the group's 16 rows.
template <Activation ACTIVATION, class Shape> DEVICE void fc1_forward(const Shape &shape, const Shared<Shape> &shared,
                                                                      Fc1Weights<Shape> &weights, const float *parameters,
                                                                      const float *features, float *outputs) {
    const Thread self = this_thread();
    const int block = static_cast<int>(block_index()) % GROUP;
    if (block < FC1_BLOCKS) {
        Tile sums;
        const int steps = (shape.features() / 8 + 7) / 8;
        for (int from = 0; from < steps; from += Shape::FC1_STEPS) {
            float2 inputs0[Shape::FC1_STEPS], inputs1[Shape::FC1_STEPS];
            fc1_load(shape, from, features + self.group * shape.features(), inputs0);
            fc1_load(shape, from, features + (self.group + 8) * shape.features(), inputs1);
            if (from > 0) {
                fc1_load(shape, from, fc1_row(shape, parameters), weights.of_step);
            }
#pragma unroll
            for (int i = 0; i < Shape::FC1_STEPS; i++) {
                if (fc1_is_step(shape, self.warp, from + i)) {
                    const Left a(inputs0[i].x, inputs1[i].x, inputs0[i].y, inputs1[i].y);
                    const Right b(weights.of_step[i].x, weights.of_step[i].y);
                    sums.add(a, b);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            shared.sums()[self.warp * 128 + i * 32 + self.lane] = sums[i];
        }
    }
    block_barrier();
    if (block < FC1_BLOCKS && self.index < 128) {
        float sum = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) {
            sum += shared.sums()[warp * 128 + self.index];
        }
        const int row = tile_row(self.warp, self.lane), column = 8 * block + tile_column(self.warp, self.lane);
        outputs[row * FC1 + column] = activated<ACTIVATION>(sum + weights.bias);
    }
}

// ---- fc2 and fc3, by the block of an image

// By one warp, while the others compute.
template <class Shape> DEVICE void stage_fc2(const Shape &shape, const Shared<Shape> &shared, const float *parameters) {
    constexpr int FOURS = FC1 / 4;
#pragma unroll 4
    for (int i = this_thread().lane; i < FC2 * FOURS; i += 32) {
        copy_async<16>(shared.fc2() + i / FOURS * FC2_ROW + i % FOURS * 4, parameters + shape.fc2_weight() + 4 * i);
    }
}

template <class Shape> DEVICE void stage_fc3(const Shape &shape, const Shared<Shape> &shared, const float *parameters) {
    const int thread = this_thread().index;
    if (shape.fc3_in_shared()) {
#pragma unroll 1
        for (int i = thread; i < shape.classes() * FC2 / 4; i += THREADS) {
            copy_async<16>(shared.fc3() + 4 * i, parameters + shape.fc3_weight() + 4 * i);
        }
    }
    if (thread < FC2) {
        copy_async<4>(shared.fc2_bias() + thread, parameters + shape.fc2_bias() + thread);
    }
#pragma unroll 1
    for (int i = thread; i < shape.classes(); i += THREADS) {
        copy_async<4>(shared.fc3_bias() + i, parameters + shape.fc3_bias() + i);
    }
}

// (classes, 84)
template <class Shape> DEVICE const float *fc3_weights(const Shape &shape, const Shared<Shape> &shared, const float *parameters) {
    return shape.fc3_in_shared() ? shared.fc3() : parameters + shape.fc3_weight();
}

// (120) -> (84), two threads an output.
template <Activation ACTIVATION, class Shape> DEVICE void fc2_forward(const Shape &, const Shared<Shape> &shared) {
    const Thread self = this_thread();
    const int output = self.index / 2, half = self.index % 2;
    float sum = 0;
    if (output < FC2) {
        float even = 0, odd = 0;
#pragma unroll
        for (int i = 0; i < FC1 / 8; i++) {
            const float4 weight = load4(shared.fc2() + output * FC2_ROW + (2 * i + half) * 4);
            const float4 input = load4(shared.fc1_output() + (2 * i + half) * 4);
            even = fmaf(weight.x, input.x, even);
            odd = fmaf(weight.y, input.y, odd);
            even = fmaf(weight.z, input.z, even);
            odd = fmaf(weight.w, input.w, odd);
        }
        sum = even + odd;
    }
    sum += shuffle_xor(sum, 1);
    if (output < FC2 && half == 0) {
        shared.fc2_output()[output] = activated<ACTIVATION>(sum + shared.fc2_bias()[output]);
    }
}

// (84) -> (classes), 16 threads an output.
template <class Shape>
DEVICE void fc3_forward(const Shape &shape, const Shared<Shape> &shared, const float *weights, float *logits) {
    const Thread self = this_thread();
    const int part = self.index % 16;
    for (int first = 0; first < shape.classes(); first += THREADS / 16) {
        const int output = first + self.index / 16;
        float sum = 0;
        if (output < shape.classes()) {
            for (int k = part; k < FC2; k += 16) {
                sum = fmaf(weights[output * FC2 + k], shared.fc2_output()[k], sum);
            }
        }
#pragma unroll
        for (int lanes = 8; lanes > 0; lanes /= 2) {
            sum += shuffle_xor(sum, lanes);
        }
        if (output < shape.classes() && part == 0) {
            logits[output] = sum + shared.fc3_bias()[output];
        }
    }
}

// The gradient of softmax cross-entropy, (p - onehot(label)) * share. By one warp; what it found is the same in all lanes.
template <class Shape>
DEVICE Largest softmax_gradient(const Shape &shape, const Shared<Shape> &shared, int label, float share, float *gradient) {
    const Thread self = this_thread();
    float largest = -INFINITY;
    int first = shape.classes(); // none, if there is no number among them
#pragma unroll
    for (int i = 0; i < Shape::CLASSES_OF_LANE; i++) {
        const int output = self.lane + 32 * i;
        if (output < shape.classes() && shared.logits()[output] > largest) {
            largest = shared.logits()[output];
            first = output;
        }
    }
#pragma unroll
    for (int lanes = Shape::LANES_WITH_CLASSES / 2; lanes > 0; lanes /= 2) {
        const float other = shuffle_xor(largest, lanes);
        const int other_first = shuffle_xor(first, lanes);
        if (other > largest || (other == largest && other_first < first)) {
            largest = other;
            first = other_first;
        }
    }
    float power[Shape::CLASSES_OF_LANE], others = 0;
#pragma unroll
    for (int i = 0; i < Shape::CLASSES_OF_LANE; i++) {
        const int output = self.lane + 32 * i;
        power[i] = output < shape.classes() ? fast_exp(shared.logits()[output] - largest) : 0.0f;
        others += output == first ? 0.0f : power[i];
    }
#pragma unroll
    for (int lanes = Shape::LANES_WITH_CLASSES / 2; lanes > 0; lanes /= 2) {
        others += shuffle_xor(others, lanes);
    }
#pragma unroll
    for (int i = 0; i < Shape::CLASSES_OF_LANE; i++) {
        const int output = self.lane + 32 * i;
        if (output < shape.classes()) {
            const float of_output = (fast_divide(power[i], 1.0f + others) - (output == label ? 1.0f : 0.0f)) * share;
            shared.logits_gradient()[output] = of_output;
            gradient[output] = of_output;
        }
    }
    return {largest, others, first};
}

// A loss close to 0 is log1p of small numbers, and loses nothing.
DEVICE float cross_entropy(const Largest &largest, float logit_of_label) {
    return log1pf(largest.others) + (largest.logit - logit_of_label);
}

// (classes) -> (84): the gradient before fc2's activation.
template <Activation ACTIVATION, class Shape>
DEVICE void fc3_backward(const Shape &shape, const Shared<Shape> &shared, const float *weights, float *gradient) {
    const int k = this_thread().index;
    if (k < FC2) {
        float sum = 0;
#pragma unroll(Shape::FIXED ? 10 : 2)
        for (int output = 0; output < shape.classes(); output++) {
            sum = fmaf(weights[output * FC2 + k], shared.logits_gradient()[output], sum);
        }
        sum = activation_gradient<ACTIVATION>(sum, shared.fc2_output()[k]);
        shared.fc2_gradient()[k] = sum;
        gradient[k] = sum;
    }
}

// (84) -> (120): the gradient before fc1's activation. Two threads an output, each half of the inputs.
template <Activation ACTIVATION, class Shape>
DEVICE void fc2_backward(const Shape &, const Shared<Shape> &shared, float *gradient) {
    const int thread = this_thread().index;
    constexpr int HALF = FC2 / 2;
    if (thread < 2 * FC1) {
        const int half = thread / FC1, k = thread % FC1;
        const float *weights = shared.fc2() + half * HALF * FC2_ROW + k, *gradients = shared.fc2_gradient() + half * HALF;
        float even = 0, odd = 0;
#pragma unroll 14
        for (int i = 0; i < HALF; i += 2) {
            even = fmaf(weights[i * FC2_ROW], gradients[i], even);
            odd = fmaf(weights[i * FC2_ROW + FC2_ROW], gradients[i + 1], odd);
        }
        shared.sums()[thread] = even + odd;
    }
    block_barrier();
    if (thread < FC1) {
        const float sum = shared.sums()[thread] + shared.sums()[FC1 + thread];
        gradient[thread] = activation_gradient<ACTIVATION>(sum, shared.fc1_output()[thread]);
    }
}

// ---- the gradient of fc1's inputs: (16, 120) -> (16, 400). Tiles of 8 columns: two warps a tile, which share the 15 steps of 8 of
// the 120 outputs; four tiles a block at once; tile slot + 16 * block of the group, then 64 further.

constexpr int FC1_BACK_STEPS = 8; // of the first warp; the second has 7

// This thread's weights for a tile, asked for before the group waits.
struct Fc1BackWeights {
    float2 of_step[FC1_BACK_STEPS];
};

template <class Shape> DEVICE int fc1_back_tile(const Shape &, int first) {
    return first + static_cast<int>(block_index()) % GROUP + GROUP * (this_thread().warp / 2);
}

// Outputs of fc1, of step i of a warp: the first, or of the step that the second warp does not have, others.
DEVICE int fc1_back_output(int i, int half) {
    return (i < 7 || half == 0 ? 8 * i : 0) + half * 64;
}

template <class Shape> DEVICE void fc1_back_load(const Shape &shape, const float *parameters, int tile, Fc1BackWeights &weights) {
    const Thread self = this_thread();
    const int half = self.warp % 2, column = min(tile, shape.features() / 8 - 1) * 8 + self.group;
#pragma unroll
    for (int i = 0; i < FC1_BACK_STEPS; i++) {
        const int output = fc1_back_output(i, half) + 2 * self.place;
        const float *at = parameters + Shape::FC1_WEIGHT + output * shape.features() + column;
        weights.of_step[i] = {at[0], at[shape.features()]};
    }
}

template <class Shape> DEVICE void fc1_back_load_weights(const Shape &shape, const float *parameters, Fc1BackWeights &weights) {
    fc1_back_load(shape, parameters, fc1_back_tile(shape, 0), weights);
}

// `gradient` (16, 120) and `features_gradient` (16, 400) are the group's rows.
template <class Shape> DEVICE void fc1_backward(const Shape &shape, const Shared<Shape> &shared, Fc1BackWeights &weights,
                                                const float *parameters, const float *gradient, float *features_gradient) {
    const Thread self = this_thread();
    const int tiles = shape.features() / 8, block = static_cast<int>(block_index()) % GROUP;
    for (int first = 0; first < tiles; first += 4 * GROUP) {
        const int tile = fc1_back_tile(shape, first), half = self.warp % 2;
        if (first > 0) {
            block_barrier();
            fc1_back_load(shape, parameters, tile, weights);
        }
        if (tile < tiles) {
            const float *row0 = gradient + self.group * FC1 + 2 * self.place, *row1 = row0 + 8 * FC1;
            float2 inputs0[FC1_BACK_STEPS], inputs1[FC1_BACK_STEPS];
#pragma unroll
            for (int i = 0; i < FC1_BACK_STEPS; i++) {
                inputs0[i] = load2(row0 + fc1_back_output(i, half));
                inputs1[i] = load2(row1 + fc1_back_output(i, half));
            }
            Tile sums;
#pragma unroll
            for (int i = 0; i < FC1_BACK_STEPS; i++) {
                if (i < 7 || half == 0) {
                    const Left a(inputs0[i].x, inputs1[i].x, inputs0[i].y, inputs1[i].y);
                    const Right b(weights.of_step[i].x, weights.of_step[i].y);
                    sums.add(a, b);
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                shared.sums()[self.warp * 128 + i * 32 + self.lane] = sums[i];
            }
        }
        block_barrier();
#pragma unroll
        for (int round = 0; round < 2; round++) {
            const int i = round * THREADS + self.index, slot = i / 128, element = i % 128, of_slot = first + block + GROUP * slot;
            if (of_slot < tiles) {
                const float *halves = shared.sums() + slot * 256 + element;
                features_gradient[tile_row(element / 32, element % 32) * shape.features() + of_slot * 8 +
                                  tile_column(element / 32, element % 32)] = halves[0] + halves[128];
            }
        }
    }
}
