// A launch's memory outside of the blocks. See layout.h for its size.
#pragma once

#include "shared.cuh"

// What a launch's blocks have found wrong: the number of that launch, or another one.
struct Failures {
    unsigned loss, result;

    DEVICE uint32_t reason(uint32_t launch) const {
        return loss == launch ? LENET_LOSS_NOT_FINITE : result == launch ? LENET_RESULT_NOT_FINITE : LENET_FINISHED;
    }
};

// Words that are zero when a workspace is new, each on a cache line of its own.
struct Signals {
    unsigned *words;

    DEVICE unsigned *grid() const { return words; }
    DEVICE unsigned *loss_not_finite() const { return words + 32; }
    DEVICE unsigned *result_not_finite() const { return words + 33; }
    DEVICE Failures failures() const { return {*loss_not_finite(), *result_not_finite()}; }
    DEVICE unsigned *group(int group) const { return words + 32 * (2 + group); }
};

// What is kept of every image of a batch for the gradients of the fully connected layers, and of every group and block.
// Rows of images: as many as the batch has, rounded up to whole groups.
template <class Shape> struct TrainWorkspace {
    const Shape &shape;
    const TrainArguments &arguments;

    DEVICE float *features() const { return at(0); }                                      // (rows, features): pooled2
    DEVICE float *fc1() const { return at(shape.features()); }                            // (rows, 120): output
    DEVICE float *fc2() const { return at(shape.features() + FC1); }                      // (rows, 84): output
    DEVICE float *fc1_gradient() const { return at(shape.features() + FC1 + FC2); }       // (rows, 120): before the activation
    DEVICE float *fc2_gradient() const { return at(shape.features() + 2 * FC1 + FC2); }   // (rows, 84): before the activation
    DEVICE float *fc3_gradient() const { return at(shape.features() + 2 * (FC1 + FC2)); } // (rows, class_row)
    DEVICE float *losses() const { return at(shape.features() + 2 * (FC1 + FC2) + shape.class_row()); } // (rows, 2): loss, correct
    DEVICE float *blocks() const { return at(shape.features() + 2 * (FC1 + FC2) + shape.class_row() + 2); }
    // (blocks, features): the gradient of fc1's inputs, of the images that the groups handle now.
    DEVICE float *features_gradient() const { return blocks(); }
    // (blocks, CONVOLUTION_SLOT): gradients of the convolutions' parameters, summed over the images of a block.
    DEVICE float *slots() const { return blocks() + static_cast<int64_t>(block_count()) * shape.features(); }

  private:
    DEVICE float *at(int per_row) const {
        const int64_t rows = rounded_up(opaque(arguments.batch), GROUP); // cheaper again than kept
        return static_cast<float *>(arguments.workspace) + LENET_BARRIER_WORDS + rows * per_row;
    }
};

// Of the images that the groups handle now.
template <class Shape> struct LogitsWorkspace {
    const Shape &shape;
    float *memory;

    DEVICE LogitsWorkspace(const Shape &shape, void *workspace)
        : shape(shape), memory(static_cast<float *>(workspace) + LENET_BARRIER_WORDS) {}

    DEVICE float *features() const { return memory; }                                                     // (blocks, features)
    DEVICE float *fc1() const { return memory + static_cast<int64_t>(block_count()) * shape.features(); } // (blocks, 120)
};
