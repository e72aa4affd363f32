// The product of two small matrices as a warp does it, on tensor cores.
//
// NVIDIA says no more than that inputs are TF32 and sums are f32. What an H200 does was found by comparing bits, and is
// done here: all eight products and the sum so far are added at once, each cut off two bits behind the last one of an
// f32 of the largest one's exponent (that of a product: the sum of its factors', before any carry), and the sum is cut
// off too. Nothing is rounded to nearest. The test `as_an_h200` holds the bits.
#pragma once

#include <cstdint>

namespace cuda_on_cpu {

// d (16, 8) += a (16, 8) b (8, 8), all row-major.
void multiply_add_tf32(float d[16][8], const std::uint32_t a[16][8], const std::uint32_t b[8][8]);

// What a lane of the warp has of the three, and where it wants its part of the result.
struct Fragments {
    float *d;               // (4)
    const std::uint32_t *a; // (4)
    const std::uint32_t *b; // (2)
};

// The same, of 32 lanes with Fragments each, spread as mma.m16n8k8 has them.
void multiply_add_tf32(void *const fragments[32]);

} // namespace cuda_on_cpu
