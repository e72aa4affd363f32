/* How much memory a launch needs, and what lies where in it. One computation for host and kernels: a kernel of one shape has it at
 * compile time. All sizes are in floats.
 */
#pragma once

#include "arguments.h"

#if defined(__CUDACC__)
#define LENET_ANY_SIDE static __host__ __device__ constexpr
#elif defined(__cplusplus)
#define LENET_ANY_SIDE static constexpr
#else
#define LENET_ANY_SIDE static inline
#endif

enum {
    CONV1 = 6,     /* channels */
    CONV2 = 16,    /* channels */
    KERNEL = 5,    /* rows and columns */
    TAPS = 25,     /* of a kernel */
    CONV2_K = 150, /* taps of all channels */
    FC1 = 120,     /* outputs */
    FC2 = 84,      /* outputs */

    /* Parameters of both convolutions, which lie before all others; a block's share of their gradient. */
    CONVOLUTION_PARAMETERS = 2572,
    CONVOLUTION_SLOT = 2576,

    /* Rows of weights in shared memory, padded so that the lanes of a warp find theirs in different banks. */
    CONV1_ROW = 28,
    CONV2_ROW = 156,
    FC2_ROW = 124,
    /* Classes up to which the weights of fc3 are kept in shared memory. */
    FC3_SHARED_CLASSES = 32,

    LENET_BARRIER_WORDS = 32 * (2 + LENET_MOST_GROUPS)
};

LENET_ANY_SIDE uint32_t rounded_up(uint32_t n, uint32_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

/* Rows or columns of the maps, from those of the image. */
LENET_ANY_SIDE uint32_t conv1_side(uint32_t image, uint32_t padding) {
    return image + 2 * padding - 4;
}
LENET_ANY_SIDE uint32_t conv2_side(uint32_t image, uint32_t padding) {
    return conv1_side(image, padding) / 2 - 4;
}

/* Inputs of fc1. */
LENET_ANY_SIDE uint32_t feature_count(Network network) {
    return CONV2 * (conv2_side(network.height, network.padding) / 2) * (conv2_side(network.width, network.padding) / 2);
}

LENET_ANY_SIDE uint32_t parameter_count(Network network) {
    return CONVOLUTION_PARAMETERS + FC1 * (feature_count(network) + 1) + FC2 * (FC1 + 1) + network.classes * (FC2 + 1);
}

/* What lies in a block's shared memory: where each part begins, and the distance from row to row or channel to channel in it. */
typedef struct SharedLayout {
    uint32_t image;   /* (height + 2 padding, image_row): of the current image, as the network sees it */
    uint32_t map1;    /* (CONV1, map1_channel): conv1's output after the activation; on the way back its gradient */
    uint32_t pooled1; /* (CONV1, pooled1_channel) */
    uint32_t map2;    /* (CONV2, map2_channel): conv2's output, on the way back its gradient, between rows of zeros */
    uint32_t conv2;   /* (CONV2, CONV2_ROW): weights */
    uint32_t conv1;   /* (CONV1, CONV1_ROW): weights, conv1's biases, conv2's */
    uint32_t overlay; /* fc2's weights (FC2, FC2_ROW), until the way back comes to the convolutions; then columns and sums */
    uint32_t fc3;     /* (classes, FC2): weights, if they are few */
    uint32_t biases;  /* fc2's, fc3's */
    uint32_t vectors; /* of the current image: fc1's output, fc2's, the gradient of fc2's, logits, their gradient */
    uint32_t sums;    /* 1024 partial sums */
    uint32_t rates;   /* of the step: a struct Rates */
    uint32_t pixels;  /* (256): what the network sees of each byte */
    uint32_t end;
    uint32_t image_row, map1_channel, pooled1_channel, map2_channel, column;
} SharedLayout;

LENET_ANY_SIDE SharedLayout shared_layout(Network network) {
    const uint32_t height1 = conv1_side(network.height, network.padding), width1 = conv1_side(network.width, network.padding);
    const uint32_t height2 = conv2_side(network.height, network.padding), width2 = conv2_side(network.width, network.padding);
    const uint32_t few_classes = network.classes <= FC3_SHARED_CLASSES ? network.classes : 0;
    /* Rows of conv2's input gradient as a product, see convolutions_backward.cuh, in whole tiles. */
    const uint32_t rows = rounded_up((height2 + 4) * width2, 16);
    SharedLayout at = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    at.image_row = rounded_up(network.width + 2 * network.padding, 32) + 8;
    at.map1_channel = height1 * width1 | 4;
    at.pooled1_channel = height1 * width1 / 4 | 4;
    at.map2_channel = rounded_up(4 * width2 + rows - 8, 16) + 8;
    at.column = rows + 4;
    at.image = 0;
    at.map1 = at.image + (network.height + 2 * network.padding) * at.image_row;
    at.pooled1 = at.map1 + CONV1 * at.map1_channel;
    at.map2 = at.pooled1 + CONV1 * at.pooled1_channel;
    at.conv2 = at.map2 + CONV2 * at.map2_channel;
    at.conv1 = at.conv2 + CONV2 * CONV2_ROW;
    at.overlay = at.conv1 + 200;
    at.fc3 = at.overlay + FC2 * FC2_ROW;
    if (30 * at.column + 2048 > FC2 * FC2_ROW) {
        at.fc3 = at.overlay + 30 * at.column + 2048;
    }
    at.biases = at.fc3 + few_classes * FC2;
    at.vectors = at.biases + rounded_up(FC2 + network.classes, 4);
    at.sums = at.vectors + 288 + 2 * rounded_up(network.classes, 4);
    at.rates = at.sums + 1024;
    at.pixels = at.rates + 4;
    at.end = at.pixels + 256;
    return at;
}

/* Dynamic shared memory of lenet_train and lenet_logits: 103,088 bytes for 28x28 images, padding 2 and 10 classes. */
LENET_ANY_SIDE uint32_t shared_bytes(Network network) {
    return 4 * shared_layout(network).end;
}

/* For batches up to `batch` and launches of up to `groups` groups. */
LENET_ANY_SIDE uint64_t train_workspace_floats(Network network, uint32_t batch, uint32_t groups) {
    const uint64_t image = feature_count(network) + 2 * (FC1 + FC2) + rounded_up(network.classes, 16) + 2;
    const uint64_t block = feature_count(network) + CONVOLUTION_SLOT;
    return LENET_BARRIER_WORDS + rounded_up(batch, 16) * image + groups * LENET_GROUP * block;
}

LENET_ANY_SIDE uint64_t logits_workspace_floats(Network network, uint32_t groups) {
    return LENET_BARRIER_WORDS + (uint64_t)groups * LENET_GROUP * (feature_count(network) + FC1);
}
