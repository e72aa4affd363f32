// Products of f32 matrices on tensor cores, which multiply TF32: each factor is the sum of a high part, its upper 19 bits, and a
// rest, which is exact; of the four products of parts the three larger ones are computed (3xTF32; Fasi et al. 2023, "Matrix
// multiplication in multiword arithmetic"). A product is off by some 2^-21 of itself.
//
// The high part is cut off, not rounded: the largest f32 does not become infinite. The rest of a number below 2^-116 loses bits
// beyond the last subnormal one. An infinite factor has the rest NaN, and NaN has the rest NaN: the result is NaN in both cases.
#pragma once

#include "shared.cuh"

DEVICE void split(float value, uint32_t &high, uint32_t &rest) {
    high = bits_of(value) & 0xffffe000u;
    rest = bits_of(value - float_of(high));
}

// Factors as `mma_tf32` wants them.
struct Left {
    uint32_t high[4], rest[4];

    DEVICE Left(float a, float b, float c, float d) {
        split(a, high[0], rest[0]);
        split(b, high[1], rest[1]);
        split(c, high[2], rest[2]);
        split(d, high[3], rest[3]);
    }
};

struct Right {
    uint32_t high[2], rest[2];

    DEVICE Right(float a, float b) {
        split(a, high[0], rest[0]);
        split(b, high[1], rest[1]);
    }
};

// A tile (16, 8). The small products have a sum of their own: tensor cores cut sums off, so they would lose much in the large one.
struct Tile {
    float large[4] = {}, small[4] = {};

    DEVICE void add(const Left &a, const Right &b) {
        mma_tf32(small, a.rest, b.high);
        mma_tf32(large, a.high, b.high);
        mma_tf32(small, a.high, b.rest);
    }
    DEVICE float operator[](int i) const { return large[i] + small[i]; }
};

// A tile of which only a few steps are summed up: one sum for all products, half of the registers.
struct ShortTile {
    float sums[4] = {};

    DEVICE void add(const Left &a, const Right &b) {
        mma_tf32(sums, a.rest, b.high);
        mma_tf32(sums, a.high, b.rest);
        mma_tf32(sums, a.high, b.high);
    }
    DEVICE float operator[](int i) const { return sums[i]; }
};
