// One instruction of the GPU each: all of CUDA that the kernels use beyond its words for functions, `#pragma unroll`, `float2`,
// `float4` and C's mathematics. Everything else here is plain C++, which a test compiles for a CPU with its own version of this
// file.
//
// Nothing needs more than compute capability 8.0. Warps are whole and in step wherever a function speaks of a warp.
#pragma once

#include <cstdint>

#define DEVICE __device__ __forceinline__

DEVICE unsigned thread_index() {
    return threadIdx.x;
}
DEVICE unsigned block_index() {
    return blockIdx.x;
}
DEVICE unsigned block_count() {
    return gridDim.x;
}

// The block's dynamic shared memory.
DEVICE float *shared_memory() {
    extern __shared__ __align__(16) float memory[];
    return memory;
}

// Hides from the compiler where a value comes from: it kept addresses that depend on nothing but a thread's number in registers
// from step to step, and had none left for the work.
DEVICE unsigned opaque(unsigned value) {
    asm volatile("" : "+r"(value));
    return value;
}

DEVICE uint32_t bits_of(float value) {
    return __float_as_uint(value);
}
DEVICE float float_of(uint32_t bits) {
    return __uint_as_float(bits);
}

// ---- waiting

DEVICE void block_barrier() {
    __syncthreads();
}

DEVICE unsigned atomic_add_acquire_release(unsigned *at, unsigned value) {
    unsigned before;
    asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;" : "=r"(before) : "l"(at), "r"(value) : "memory");
    return before;
}
DEVICE unsigned load_acquire(const unsigned *at) {
    unsigned value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}
// Of a word that many threads may write at once, all the same.
DEVICE void store_relaxed(unsigned *at, unsigned value) {
    asm volatile("st.relaxed.gpu.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

// ---- copies from global to shared memory that go on while the thread does

template <int BYTES> DEVICE void copy_async(float *to, const float *from) {
    const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(from), "n"(BYTES) : "memory");
    }
}
// The copies since the last one are a group.
DEVICE void commit_async() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most the newest GROUPS groups of this thread are on their way.
template <int GROUPS> DEVICE void wait_async() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// ---- a warp together

template <typename T> DEVICE T shuffle_xor(T value, int lanes) {
    return __shfl_xor_sync(0xffffffffu, value, lanes);
}

// d (16, 8) += a (16, 8) b (8, 8) in TF32, which has the upper 19 bits of a float; sums in f32. With group = lane / 4 and
// place = lane % 4, a lane has
//   a[0] (group, place), a[1] (group + 8, place), a[2] (group, place + 4), a[3] (group + 8, place + 4),
//   b[0] (place, group), b[1] (place + 4, group),
//   d[0] (group, 2 place), d[1] (group, 2 place + 1), d[2] (group + 8, 2 place), d[3] (group + 8, 2 place + 1).
DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- mathematics

// Off by some units in the last place, and by |x| more.
DEVICE float fast_exp(float x) {
    return __expf(x);
}
// Off by 2 units in the last place; 0 for divisors beyond 2^126.
DEVICE float fast_divide(float a, float b) {
    return __fdividef(a, b);
}
