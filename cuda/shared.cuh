// A block's shared memory, and who a thread is.
#pragma once

#include "shape.cuh"

constexpr int THREADS = LENET_THREADS;
constexpr int WARPS = THREADS / 32;
constexpr int GROUP = LENET_GROUP;

// What a softmax found: the largest logit, the first output that has it, and the sum of exp(x - largest) over the others.
struct Largest {
    float logit, others;
    int output;
};

// For the places of layout.h.
template <class Shape> struct Shared {
    const Shape &shape;
    float *const memory = shared_memory();

    DEVICE explicit Shared(const Shape &shape) : shape(shape) {}

    DEVICE float *image() const { return memory + shape.layout().image; }
    DEVICE float *map1() const { return memory + shape.layout().map1; }
    DEVICE float *pooled1() const { return memory + shape.layout().pooled1; }
    DEVICE float *map2() const { return memory + shape.layout().map2; }
    DEVICE float *conv2() const { return memory + shape.layout().conv2; }
    DEVICE float *conv1() const { return memory + shape.layout().conv1; }
    DEVICE float *conv1_bias() const { return conv1() + CONV1 * CONV1_ROW; }
    DEVICE float *conv2_bias() const { return conv1_bias() + 8; }
    DEVICE float *fc2() const { return memory + shape.layout().overlay; }
    DEVICE float *columns() const { return memory + shape.layout().overlay; }   // (30, column)
    DEVICE float *conv1_sums() const { return columns() + 30 * column(); }      // (8, 256)
    DEVICE float *tile_sums() const { return memory + shape.layout().overlay; } // (8, 512)
    DEVICE float *fc3() const { return memory + shape.layout().fc3; }
    DEVICE float *fc2_bias() const { return memory + shape.layout().biases; }
    DEVICE float *fc3_bias() const { return fc2_bias() + FC2; }
    DEVICE float *fc1_output() const { return memory + shape.layout().vectors; }
    DEVICE float *fc2_output() const { return fc1_output() + FC1; }
    DEVICE float *fc2_gradient() const { return fc2_output() + FC2; }
    DEVICE float *logits() const { return fc2_gradient() + FC2; }
    DEVICE float *logits_gradient() const { return logits() + (shape.classes() + 3) / 4 * 4; }
    DEVICE float *sums() const { return memory + shape.layout().sums; } // (1024)
    DEVICE float *rates() const { return memory + shape.layout().rates; }
    DEVICE float *pixels() const { return memory + shape.layout().pixels; } // (256)
    DEVICE Largest *largest() const { return reinterpret_cast<Largest *>(sums() + 1020); }

    DEVICE int image_row() const { return static_cast<int>(shape.layout().image_row); }
    DEVICE int map1_channel() const { return static_cast<int>(shape.layout().map1_channel); }
    DEVICE int pooled1_channel() const { return static_cast<int>(shape.layout().pooled1_channel); }
    DEVICE int map2_channel() const { return static_cast<int>(shape.layout().map2_channel); }
    DEVICE int column() const { return static_cast<int>(shape.layout().column); }
};

struct Thread {
    int index; // in the block
    int warp, lane;
    int group, place; // of a lane in the tiles of a product, see `mma_tf32`
};

// Anew in every stage, see `opaque`.
DEVICE Thread this_thread() {
    const int index = static_cast<int>(opaque(thread_index()));
    return {index, index / 32, index % 32, index / 4 % 8, index % 4};
}

DEVICE float2 load2(const float *from) {
    return *reinterpret_cast<const float2 *>(from);
}
DEVICE float4 load4(const float *from) {
    return *reinterpret_cast<const float4 *>(from);
}
DEVICE void store2(float *to, float x, float y) {
    *reinterpret_cast<float2 *>(to) = make_float2(x, y);
}
