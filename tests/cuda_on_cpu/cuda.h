// What nvcc knows without being told: CUDA's words for functions, its vectors, its mathematics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)

struct CudaIndex {
    unsigned x, y, z;
};
#define threadIdx (CudaIndex{cuda_on_cpu::thread_index(), 0, 0})
#define blockIdx (CudaIndex{cuda_on_cpu::block_index(), 0, 0})
#define blockDim (CudaIndex{cuda_on_cpu::thread_count(), 1, 1})
#define gridDim (CudaIndex{cuda_on_cpu::block_count(), 1, 1})

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

// CUDA's are of the global namespace, for every pair of numbers.
using std::max;
using std::min;

inline std::uint32_t __float_as_uint(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline int __float_as_int(float value) {
    return static_cast<int>(__float_as_uint(value));
}
inline float __uint_as_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline float __int_as_float(int bits) {
    return __uint_as_float(static_cast<std::uint32_t>(bits));
}
