// The instructions of cuda/primitives.cuh, done by the machine. A kernel that is compiled beside this file takes it for that one.
#pragma once

#include "cuda.h"
#include "tensor_core.h"

#define DEVICE inline

// Of the call, as arguments that nobody writes.
#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SITE (cuda_on_cpu::Site{file, line})

DEVICE unsigned thread_index() {
    return cuda_on_cpu::thread_index();
}
DEVICE unsigned block_index() {
    return cuda_on_cpu::block_index();
}
DEVICE unsigned block_count() {
    return cuda_on_cpu::block_count();
}
DEVICE float *shared_memory() {
    return static_cast<float *>(cuda_on_cpu::shared_memory());
}
DEVICE unsigned opaque(unsigned value) {
    return value;
}

DEVICE std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
DEVICE float float_of(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// ---- waiting

DEVICE void block_barrier(CALLER) {
    cuda_on_cpu::block_barrier(SITE);
}
DEVICE void warp_barrier(CALLER) {
    cuda_on_cpu::warp_barrier(SITE);
}

DEVICE unsigned atomic_add_acquire_release(unsigned *at, unsigned value, CALLER) {
    const auto sum = [=](unsigned before) { return before + value; };
    return cuda_on_cpu::atomic_update(SITE, at, sum, cuda_on_cpu::Ordering::acquire_release);
}
DEVICE unsigned load_acquire(const unsigned *at, CALLER) {
    return cuda_on_cpu::atomic_load(SITE, at, cuda_on_cpu::Ordering::acquire);
}
DEVICE unsigned load_relaxed(const unsigned *at, CALLER) {
    return cuda_on_cpu::atomic_load(SITE, at, cuda_on_cpu::Ordering::relaxed);
}
DEVICE void store_release(unsigned *at, unsigned value, CALLER) {
    cuda_on_cpu::atomic_store(SITE, at, value, cuda_on_cpu::Ordering::release);
}
DEVICE void store_relaxed(unsigned *at, unsigned value, CALLER) {
    cuda_on_cpu::atomic_store(SITE, at, value, cuda_on_cpu::Ordering::relaxed);
}

// ---- asynchronous copies

template <int BYTES> DEVICE void copy_async(float *to, const float *from, CALLER) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
    cuda_on_cpu::copy_async(SITE, to, from, BYTES);
}
DEVICE void commit_async() {
    cuda_on_cpu::commit_async();
}
template <int GROUPS> DEVICE void wait_async() {
    cuda_on_cpu::wait_async(GROUPS);
}

// ---- a warp together

template <typename T> DEVICE T shuffle_xor(T value, int lanes, CALLER) {
    struct Part {
        T mine;
        unsigned from;
        T received;
    } part{value, (cuda_on_cpu::thread_index() ^ static_cast<unsigned>(lanes)) % cuda_on_cpu::LANES, value};
    cuda_on_cpu::warp_together(SITE, &part, [](void *const *parts) {
        for (unsigned lane = 0; lane < cuda_on_cpu::LANES; lane++) {
            Part &to = *static_cast<Part *>(parts[lane]);
            to.received = static_cast<Part *>(parts[to.from])->mine;
        }
    });
    return part.received;
}

DEVICE void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CALLER) {
    cuda_on_cpu::Fragments fragments{d, a, b};
    cuda_on_cpu::warp_together(SITE, &fragments, cuda_on_cpu::multiply_add_tf32);
}

// ---- mathematics

// The GPU has the power of two; the product is rounded.
DEVICE float fast_exp(float x) {
    return std::exp2(x * 1.44269504f);
}
DEVICE float fast_divide(float a, float b) {
    const float size = std::fabs(b);
    return size > 0x1p126f && !std::isinf(size) ? a * 0.0f : a * (1.0f / b);
}
