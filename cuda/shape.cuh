// What is computed: the sizes of images and maps, where parameters lie. Of a fixed size everything is known to the compiler; of any
// size the same sources compute it.
#pragma once

#include "layout.h"
#include "primitives.cuh"

template <uint32_t HEIGHT, uint32_t WIDTH, uint32_t PADDING, uint32_t CLASSES> struct FixedSize {
    static constexpr bool FIXED = true;
    // Steps of 8 inputs that a warp of fc1 has, at most, between two looks at its work.
    static constexpr int FC1_STEPS = (feature_count({HEIGHT, WIDTH, PADDING, CLASSES}) + 63) / 64;
    // In a softmax: of a warp, and of each of its lanes.
    static constexpr int LANES_WITH_CLASSES = CLASSES <= 16 ? 16 : 32;
    static constexpr int CLASSES_OF_LANE = (CLASSES + 31) / 32;

    DEVICE explicit FixedSize(const Network &) {}
    DEVICE static constexpr Network network() { return {HEIGHT, WIDTH, PADDING, CLASSES}; }
    DEVICE static constexpr SharedLayout layout() { return shared_layout(network()); }
};

struct AnySize {
    static constexpr bool FIXED = false;
    static constexpr int FC1_STEPS = 8;
    static constexpr int LANES_WITH_CLASSES = 32;
    static constexpr int CLASSES_OF_LANE = 8;

    DEVICE explicit AnySize(const Network &network) : size(network), places(shared_layout(network)) {}
    DEVICE const Network &network() const { return size; }
    DEVICE const SharedLayout &layout() const { return places; }

  private:
    Network size;
    SharedLayout places;
};

// Numbers behind the names: 28x28 images, padding 2.
template <class Size> struct Shape : Size {
    using Size::Size;

    DEVICE int height() const { return static_cast<int>(this->network().height); } // 28
    DEVICE int width() const { return static_cast<int>(this->network().width); }   // 28
    DEVICE int padding() const { return static_cast<int>(this->network().padding); }
    DEVICE int classes() const { return static_cast<int>(this->network().classes); }
    DEVICE int pixels() const { return height() * width(); }

    // conv1's output, pooled1, conv2's output, pooled2.
    DEVICE int height1() const { return height() + 2 * padding() - 4; }        // 28
    DEVICE int width1() const { return width() + 2 * padding() - 4; }          // 28
    DEVICE int pooled_height1() const { return height1() / 2; }                // 14
    DEVICE int pooled_width1() const { return width1() / 2; }                  // 14
    DEVICE int windows1() const { return pooled_height1() * pooled_width1(); } // 196
    DEVICE int height2() const { return pooled_height1() - 4; }                // 10
    DEVICE int width2() const { return pooled_width1() - 4; }                  // 10
    DEVICE int positions2() const { return height2() * width2(); }             // 100
    DEVICE int pooled_width2() const { return width2() / 2; }                  // 5
    DEVICE int windows2() const { return positions2() / 4; }                   // 25
    DEVICE int features() const { return CONV2 * windows2(); }                 // 400

    // Where a tensor begins in a set of weights.
    static constexpr int CONV1_WEIGHT = 0;
    static constexpr int CONV1_BIAS = CONV1 * TAPS;
    static constexpr int CONV2_WEIGHT = CONV1_BIAS + CONV1;
    static constexpr int CONV2_BIAS = CONV2_WEIGHT + CONV2 * CONV2_K;
    static constexpr int FC1_WEIGHT = CONV2_BIAS + CONV2;
    DEVICE int fc1_bias() const { return FC1_WEIGHT + FC1 * features(); }
    DEVICE int fc2_weight() const { return fc1_bias() + FC1; }
    DEVICE int fc2_bias() const { return fc2_weight() + FC2 * FC1; }
    DEVICE int fc3_weight() const { return fc2_bias() + FC2; }
    DEVICE int fc3_bias() const { return fc3_weight() + classes() * FC2; }
    DEVICE int parameters() const { return fc3_bias() + classes(); }

    DEVICE bool fc3_in_shared() const { return classes() <= FC3_SHARED_CLASSES; }
    // Of a row of fc3's gradients in the workspace.
    DEVICE int class_row() const { return (classes() + 15) / 16 * 16; }
};
