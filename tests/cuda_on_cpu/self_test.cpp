// Kernels whose results are known, and kernels that are wrong, to see that the machine computes the first and finds
// the second. `self_test NAME` runs one: silence and 0, or what is wrong and 3.

#include "primitives.cuh"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

using cuda_on_cpu::allocate;
using cuda_on_cpu::fail;
using cuda_on_cpu::launch;
using cuda_on_cpu::Order;

namespace {

constexpr unsigned THREADS = 64;

Order order = Order::forward;
std::uint64_t seed = 0;

void run(unsigned blocks, const std::function<void()> &kernel) {
    launch({blocks, THREADS, THREADS * sizeof(float), order, seed}, kernel);
}

void expect(bool right, const char *what) {
    if (!right) {
        fail("%s is wrong", what);
    }
}

// ---- right

// Each thread reads what its neighbour wrote, many times.
void block_barriers() {
    float *out = allocate<float>(THREADS);
    run(1, [=] {
        float *shared = shared_memory();
        const unsigned thread = thread_index();
        shared[thread] = static_cast<float>(thread);
        for (int i = 0; i < 5; i++) {
            block_barrier();
            const float next = shared[(thread + 1) % THREADS];
            block_barrier();
            shared[thread] = next;
        }
        out[thread] = shared[thread];
    });
    for (unsigned i = 0; i < THREADS; i++) {
        expect(out[i] == static_cast<float>((i + 5) % THREADS), "what went round");
    }
}

void shuffle_reduction() {
    float *out = allocate<float>(THREADS);
    run(1, [=] {
        auto sum = static_cast<float>(thread_index());
        for (int bits = 16; bits > 0; bits /= 2) {
            sum += shuffle_xor(sum, bits);
        }
        out[thread_index()] = sum;
    });
    for (unsigned i = 0; i < THREADS; i++) {
        expect(out[i] == (i < 32 ? 496.f : 1520.f), "the sum over a warp");
    }
}

void warp_barriers() {
    run(1, [] {
        float *mine = shared_memory() + thread_index() / 32 * 32;
        const unsigned lane = thread_index() % 32;
        mine[lane] = static_cast<float>(lane);
        warp_barrier();
        expect(mine[31 - lane] == static_cast<float>(31 - lane), "what another lane wrote");
    });
}

// A value from block to block, the last one arriving opens the barrier for all.
void grid_barriers() {
    constexpr unsigned BLOCKS = 5;
    unsigned *arrived = allocate<unsigned>(1);
    float *values = allocate<float>(2 * BLOCKS);
    *arrived = 0;
    run(BLOCKS, [=] {
        for (unsigned i = 0; i < 4; i++) {
            if (thread_index() == 7) {
                const float *before = values + (i % 2 == 0 ? BLOCKS : 0);
                values[i % 2 * BLOCKS + block_index()] =
                    i == 0 ? static_cast<float>(block_index()) : before[(block_index() + 1) % BLOCKS];
            }
            block_barrier();
            if (thread_index() == 0) {
                atomic_add_acquire_release(arrived, 1);
                while (load_acquire(arrived) < (i + 1) * BLOCKS) {
                }
            }
            block_barrier();
        }
    });
    for (unsigned i = 0; i < BLOCKS; i++) {
        expect(values[BLOCKS + i] == static_cast<float>((i + 3) % BLOCKS), "what went round the blocks");
    }
}

void asynchronous_copies() {
    float *from = allocate<float>(2 * THREADS);
    float *out = allocate<float>(THREADS);
    for (unsigned i = 0; i < 2 * THREADS; i++) {
        from[i] = static_cast<float>(i);
    }
    run(1, [=] {
        float *shared = shared_memory();
        const unsigned thread = thread_index();
        copy_async<4>(shared + thread, from + thread);
        commit_async();
        wait_async<0>();
        block_barrier();
        const float first = shared[THREADS - 1 - thread];
        block_barrier();
        if (thread < THREADS / 4) {
            copy_async<16>(shared + 4 * thread, from + THREADS + 4 * thread);
        }
        commit_async();
        commit_async();
        wait_async<1>();
        block_barrier();
        out[thread] = first + shared[thread];
    });
    for (unsigned i = 0; i < THREADS; i++) {
        expect(out[i] == static_cast<float>(THREADS - 1 - i + THREADS + i), "what was copied");
    }
}

// (16, 8) x (8, 8), plainly and by a warp's tensor core, as one TF32 product and as three.
void products() {
    std::vector<float> a(128), b(64);
    for (unsigned i = 0; i < 128; i++) {
        a[i] = std::sin(static_cast<float>(i)) * (1 + static_cast<float>(i % 3));
    }
    for (unsigned i = 0; i < 64; i++) {
        b[i] = std::cos(static_cast<float>(i * i));
    }
    float *out = allocate<float>(256);
    run(1, [&a, &b, out] {
        const unsigned lane = thread_index() % 32, group = lane / 4, place = lane % 4;
        std::uint32_t high_a[4], low_a[4], high_b[2], low_b[2];
        const auto split = [](float value, std::uint32_t &high, std::uint32_t &low) {
            high = bits_of(value) & 0xffffe000u;
            low = bits_of(value - float_of(high));
        };
        for (unsigned i = 0; i < 4; i++) {
            split(a[(group + i % 2 * 8) * 8 + place + i / 2 * 4], high_a[i], low_a[i]);
        }
        for (unsigned i = 0; i < 2; i++) {
            split(b[(place + i * 4) * 8 + group], high_b[i], low_b[i]);
        }
        float one[4] = {}, three[4] = {};
        mma_tf32(one, high_a, high_b);
        mma_tf32(three, low_a, high_b);
        mma_tf32(three, high_a, low_b);
        mma_tf32(three, high_a, high_b);
        if (thread_index() < 32) {
            for (unsigned i = 0; i < 4; i++) {
                const unsigned at = (group + i / 2 * 8) * 8 + place * 2 + i % 2;
                out[at] = one[i];
                out[128 + at] = three[i];
            }
        }
    });
    double worst_of_one = 0, worst_of_three = 0;
    for (unsigned m = 0; m < 16; m++) {
        for (unsigned n = 0; n < 8; n++) {
            double sum = 0;
            for (unsigned k = 0; k < 8; k++) {
                sum += static_cast<double>(a[m * 8 + k]) * static_cast<double>(b[k * 8 + n]);
            }
            worst_of_one = std::max(worst_of_one, std::abs(sum - static_cast<double>(out[m * 8 + n])));
            worst_of_three = std::max(worst_of_three, std::abs(sum - static_cast<double>(out[128 + m * 8 + n])));
        }
    }
    expect(worst_of_one > 1e-4 && worst_of_one < 1e-2, "a TF32 product");
    expect(worst_of_three < 1e-5, "a product of three TF32 products");
}

// Numbers of either sign with exponents in a range, with the fraction of a TF32 number or of a float.
class Draw {
public:
    std::uint64_t number() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
    float tf32(int lowest, int highest) { return value(lowest, highest, 0xffffe000u); }
    float f32(int lowest, int highest) { return value(lowest, highest, 0xffffffffu); }

private:
    float value(int lowest, int highest, std::uint32_t mask) {
        const auto biased = static_cast<std::uint32_t>(127 + lowest) + number() % static_cast<unsigned>(highest - lowest + 1);
        const std::uint64_t fraction = number() & 0x7fffff;
        const std::uint64_t sign = number() & 1;
        return float_of(static_cast<std::uint32_t>(sign << 31 | biased << 23 | fraction) & mask);
    }
    std::uint64_t state = 88172645463325252;
};

// The results of mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 for 1,000 products of each kind on an H200, as a
// hash: random numbers of one size, of several, with a large sum before, of very different sizes, of f32 whose lower
// bits are not looked at, near the smallest, near the largest with NaN and infinity, with zeros.
void as_an_h200() {
    constexpr int KINDS = 8;
    constexpr std::uint64_t MEASURED[KINDS] = {0x5794a3e14a47d890, 0x11069f0e34d99d64, 0x2999211744fbbec3,
                                               0xa256288755937389, 0xd31df69c169749f1, 0x66e0bc27d04952ff,
                                               0x35d0824960a0e6c0, 0x12ba50987344ab2c};
    Draw draw;
    const auto left = [&](int kind, int k) {
        switch (kind) {
        case 0: return draw.tf32(-1, 0);
        case 1: return draw.tf32(-6, 6);
        case 2: return draw.tf32(-2, 2);
        case 3: return draw.tf32(-12, 12);
        case 4: return draw.f32(-3, 3);
        case 5: return draw.tf32(-75, -55);
        case 6: return draw.tf32(55, 66);
        default: return k % 2 == 1 ? draw.tf32(-2, 2) : 0.f;
        }
    };
    const auto before = [&](int kind) {
        switch (kind) {
        case 0: return draw.f32(-1, 2);
        case 1: return draw.f32(-6, 12);
        case 2: return draw.f32(4, 16);
        case 3: return draw.f32(-24, 24);
        case 4: return 0.f;
        case 5: return draw.f32(-126, -120);
        case 6: {
            const float finite = draw.f32(100, 127);
            return draw.number() % 97 != 0 ? finite : (draw.number() & 1) != 0 ? INFINITY : NAN;
        }
        default: return draw.f32(-14, 6);
        }
    };
    const auto right = [&](int kind) {
        return kind == 6 ? draw.tf32(55, 63) : left(kind, 1);
    };
    for (int kind = 0; kind < KINDS; kind++) {
        std::uint64_t hash = 0xcbf29ce484222325; // FNV-1a, a word at a time
        for (int i = 0; i < 1000; i++) {
            std::uint32_t a[16][8], b[8][8];
            float d[16][8];
            for (int m = 0; m < 16; m++) {
                for (int k = 0; k < 8; k++) {
                    a[m][k] = bits_of(left(kind, k));
                    d[m][k] = before(kind);
                }
            }
            for (auto &row : b) {
                for (auto &value : row) {
                    value = bits_of(right(kind));
                }
            }
            cuda_on_cpu::multiply_add_tf32(d, a, b);
            for (const auto &row : d) {
                for (const float value : row) {
                    hash = (hash ^ bits_of(value)) * 0x100000001b3;
                }
            }
        }
        if (hash != MEASURED[kind]) {
            fail("products of kind %d are not an H200's", kind);
        }
    }
}

// ---- wrong

void no_barrier() {
    float *out = allocate<float>(THREADS);
    run(1, [=] {
        shared_memory()[thread_index()] = 1;
        out[thread_index()] = shared_memory()[(thread_index() + 1) % THREADS];
    });
}

// In every order but one the right value is read.
void a_race_that_the_order_hides() {
    float *value = allocate<float>(1);
    run(2, [=] {
        if (block_index() == 0) {
            *value = 1;
        } else if (thread_index() == 0) {
            volatile float seen = *value;
            (void)seen;
        }
    });
}

void relaxed_instead_of_acquire() {
    unsigned *flag = allocate<unsigned>(1);
    float *value = allocate<float>(1);
    *flag = 0;
    run(2, [=] {
        if (thread_index() == 0 && block_index() == 0) {
            *value = 1;
            store_release(flag, 1);
        } else if (thread_index() == 0) {
            while (load_relaxed(flag) == 0) {
            }
            expect(*value == 1, "the value behind the flag");
        }
    });
}

// Threads may write one word at once if they do it atomically; who reads it plainly must wait for them.
void plain_read_beside_atomic_writes() {
    unsigned *word = allocate<unsigned>(1);
    run(2, [=] {
        store_relaxed(word, 1);
        block_barrier();
        volatile unsigned seen = *word;
        (void)seen;
    });
}

void copy_that_is_not_waited_for() {
    float *from = allocate<float>(THREADS);
    float *out = allocate<float>(THREADS);
    std::fill_n(from, THREADS, 1.f);
    run(1, [=] {
        copy_async<4>(shared_memory() + thread_index(), from + thread_index());
        commit_async();
        block_barrier();
        out[thread_index()] = shared_memory()[thread_index()];
        wait_async<0>();
    });
    expect(out[0] == 1, "what was copied");
}

void copy_without_a_barrier() {
    float *from = allocate<float>(THREADS);
    float *out = allocate<float>(THREADS);
    std::fill_n(from, THREADS, 1.f);
    run(1, [=] {
        copy_async<4>(shared_memory() + thread_index(), from + thread_index());
        commit_async();
        wait_async<0>();
        out[thread_index()] = shared_memory()[(thread_index() + 1) % THREADS];
    });
    for (unsigned i = 0; i < THREADS; i++) {
        expect(out[i] == 1, "what was copied");
    }
}

void barrier_in_a_branch() {
    run(1, [] {
        if (thread_index() < 32) {
            block_barrier();
        } else {
            block_barrier();
        }
    });
}

void barrier_after_a_return() {
    run(1, [] {
        if (thread_index() == 3) {
            return;
        }
        block_barrier();
    });
}

void half_a_warp() {
    run(1, [] {
        if (thread_index() % 32 < 16) {
            shuffle_xor(1, 1);
        }
    });
}

// Half of the warps go one barrier further than the others: for ever.
void waiting_for_ever() {
    unsigned *flag = allocate<unsigned>(1);
    *flag = 0;
    run(2, [=] {
        if (thread_index() == 0 && block_index() == 0) {
            while (load_acquire(flag) == 0) {
            }
        }
        block_barrier();
    });
}

void beyond_shared_memory() {
    run(1, [] { shared_memory()[thread_index() + 1] = 0; });
}

void misaligned_copy() {
    float *from = allocate<float>(THREADS);
    run(1, [=] { copy_async<16>(shared_memory() + 4, from + 2); });
}

void misaligned_vector() {
    float *from = allocate<float>(THREADS);
    run(1, [=] {
        const float2 pair = *reinterpret_cast<const float2 *>(from + 1);
        shared_memory()[thread_index()] = pair.x;
    });
}

__attribute__((noinline)) int deeper(volatile int *above) {
    volatile int mine[64];
    mine[0] = *above + 1;
    return mine[0] == 0 ? 0 : deeper(mine) + mine[0];
}

void too_deep() {
    run(1, [] {
        volatile int depth = 0;
        shared_memory()[thread_index()] = static_cast<float>(deeper(&depth));
    });
}

const std::map<std::string, void (*)()> TESTS = {
    {"block_barriers", block_barriers},
    {"shuffle_reduction", shuffle_reduction},
    {"warp_barriers", warp_barriers},
    {"grid_barriers", grid_barriers},
    {"asynchronous_copies", asynchronous_copies},
    {"products", products},
    {"as_an_h200", as_an_h200},
    {"no_barrier", no_barrier},
    {"a_race_that_the_order_hides", a_race_that_the_order_hides},
    {"relaxed_instead_of_acquire", relaxed_instead_of_acquire},
    {"plain_read_beside_atomic_writes", plain_read_beside_atomic_writes},
    {"copy_that_is_not_waited_for", copy_that_is_not_waited_for},
    {"copy_without_a_barrier", copy_without_a_barrier},
    {"barrier_in_a_branch", barrier_in_a_branch},
    {"barrier_after_a_return", barrier_after_a_return},
    {"half_a_warp", half_a_warp},
    {"waiting_for_ever", waiting_for_ever},
    {"beyond_shared_memory", beyond_shared_memory},
    {"misaligned_copy", misaligned_copy},
    {"misaligned_vector", misaligned_vector},
    {"too_deep", too_deep},
};

} // namespace

// NAME, forward, reverse, in_step or random, seed
int main(int count, char **arguments) {
    const auto test = TESTS.find(count > 1 ? arguments[1] : "");
    if (test == TESTS.end()) {
        fail("no such test");
    }
    const std::string how = count > 2 ? arguments[2] : "forward";
    order = how == "forward" ? Order::forward : how == "reverse" ? Order::reverse : how == "in_step" ? Order::in_step : Order::random;
    seed = count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 0;
    test->second();
}
