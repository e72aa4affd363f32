// The GPU's instructions, as cuda/primitives.cuh has them, on the machine that is not there.
#pragma once

#include "cuda.h"
#include "tensor_core.h"

#define SITE cuda_on_cpu::Site{file, line}
#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline float *shared_memory() { return static_cast<float *>(cuda_on_cpu::shared_memory()); }
inline void block_barrier(CALLER) { cuda_on_cpu::block_barrier(SITE); }
inline void warp_barrier(CALLER) { cuda_on_cpu::warp_barrier(SITE); }

template <typename T> T shuffle(T value, unsigned from_lane, cuda_on_cpu::Site site) {
    struct Part {
        T value;
        unsigned from;
        T received;
    } part{value, from_lane % cuda_on_cpu::LANES, value};
    cuda_on_cpu::warp_together(site, &part, [](void *const *parts) {
        for (unsigned lane = 0; lane < cuda_on_cpu::LANES; lane++) {
            Part &to = *static_cast<Part *>(parts[lane]);
            to.received = static_cast<Part *>(parts[to.from])->value;
        }
    });
    return part.received;
}
template <typename T> T shuffle_xor(T value, int bits, CALLER) {
    return shuffle(value, cuda_on_cpu::thread_index() ^ static_cast<unsigned>(bits), SITE);
}

// As the hardware spreads them over the lanes: group = lane / 4, place = lane % 4.
inline void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CALLER) {
    struct Part {
        float *d;
        const std::uint32_t *a, *b;
    } part{d, a, b};
    cuda_on_cpu::warp_together(SITE, &part, [](void *const *parts) {
        float product[16][8];
        std::uint32_t left[16][8], right[8][8];
        const auto each = [&](auto visit) {
            for (unsigned lane = 0; lane < cuda_on_cpu::LANES; lane++) {
                visit(*static_cast<Part *>(parts[lane]), lane / 4, lane % 4);
            }
        };
        each([&](const Part &part, unsigned group, unsigned place) {
            for (unsigned i = 0; i < 4; i++) {
                left[group + i % 2 * 8][place + i / 2 * 4] = part.a[i];
                product[group + i / 2 * 8][place * 2 + i % 2] = part.d[i];
            }
            for (unsigned i = 0; i < 2; i++) {
                right[place + i * 4][group] = part.b[i];
            }
        });
        cuda_on_cpu::multiply_add_tf32(product, left, right);
        each([&](const Part &part, unsigned group, unsigned place) {
            for (unsigned i = 0; i < 4; i++) {
                part.d[i] = product[group + i / 2 * 8][place * 2 + i % 2];
            }
        });
    });
}

template <int BYTES> void copy_async(void *to, const void *from, CALLER) {
    cuda_on_cpu::copy_async(SITE, to, from, BYTES);
}
inline void commit_async() { cuda_on_cpu::commit_async(); }
template <int GROUPS> void wait_async() { cuda_on_cpu::wait_async(GROUPS); }

inline unsigned atomic_add_acquire_release(unsigned *at, unsigned value, CALLER) {
    return cuda_on_cpu::atomic_update(
        SITE, at, [=](unsigned before) { return before + value; }, cuda_on_cpu::Ordering::acquire_release);
}
inline unsigned load_acquire(const unsigned *at, CALLER) {
    return cuda_on_cpu::atomic_load(SITE, at, cuda_on_cpu::Ordering::acquire);
}
inline unsigned load_relaxed(const unsigned *at, CALLER) {
    return cuda_on_cpu::atomic_load(SITE, at, cuda_on_cpu::Ordering::relaxed);
}
inline void store_release(unsigned *at, unsigned value, CALLER) {
    cuda_on_cpu::atomic_store(SITE, at, value, cuda_on_cpu::Ordering::release);
}

inline float fast_exp(float x) { return std::exp(x); }
inline float fast_divide(float a, float b) { return a / b; }
