// A GPU that is not there: blocks of threads which wait for each other, on one thread of a CPU.
//
// Each thread of a grid is a fiber that runs until it must wait: in a barrier, for the other lanes of its warp, for a
// value in memory. The order in which threads run is chosen by the test, and results must not depend on it. What can
// never go on, or is not allowed, ends the process with a sentence that says who waits where. Memory holds NaN until it
// is written, and an asynchronous copy arrives as late, or as early, as it may.
//
// primitives.cuh gives all this the names that the kernels use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace cuda_on_cpu {

constexpr unsigned LANES = 32; // of a warp

// Where a kernel's source says that something is to be done.
struct Site {
    const char *file;
    int line;
};

enum class Order {
    forward, // from the first thread on, each warp and block as far as it can; copies arrive when they are waited for
    reverse, // from the last thread on, also as far as it can; copies arrive at once
    in_step, // first come, first served; copies arrive when they are waited for
    random,  // by the seed, copies too, and a thread may be held up before any atomic operation
};

struct Launch {
    unsigned blocks;
    unsigned threads; // of a block, a multiple of LANES
    std::size_t shared_bytes;
    Order order = Order::forward;
    std::uint64_t seed = 0;
};

// Runs `kernel` in every thread of the grid, all of them resident as in a cooperative launch; back when all have ended.
void launch(const Launch &launch, const std::function<void()> &kernel);

// Memory of the device, aligned to 256 bytes, filled with NaN. The race detector sees what happens in it.
void *allocate(std::size_t bytes);
void release(void *memory);
template <typename T> T *allocate(std::size_t count) {
    return static_cast<T *>(allocate(count * sizeof(T)));
}

// Ends the process: a kernel has done what no kernel may. Its status is 3.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

// ---- for primitives.cuh: what a thread asks and does

unsigned thread_index();
unsigned block_index();
unsigned thread_count();
unsigned block_count();
void *shared_memory();

// Until all threads of the block are in it, and all in the same one.
void block_barrier(Site site);

// Until all lanes of the warp have come, each with its `part`; the last one does `together` for them all.
using Together = void (*)(void *const parts[LANES]);
void warp_together(Site site, void *part, Together together);
// Nothing but to wait for each other, which also orders what they do with memory, as the shuffles do not.
void warp_barrier(Site site);

// A copy to shared memory that is not there until it is waited for. Until then its target holds NaN.
void copy_async(Site site, void *to, const void *from, std::size_t bytes);
void commit_async();
void wait_async(unsigned groups_still_on_their_way);

enum class Ordering { relaxed, acquire, release, acquire_release };

// A value that other threads may change. A thread that reads the same value twice in a row waits for another one.
std::uint32_t atomic_load(Site site, const std::uint32_t *from, Ordering ordering);
void atomic_store(Site site, std::uint32_t *to, std::uint32_t value, Ordering ordering);
// The value before.
std::uint32_t atomic_update(Site site, std::uint32_t *at, const std::function<std::uint32_t(std::uint32_t)> &update,
                            Ordering ordering);

// ---- for the tests of the tests

// Whether the statement with this number, one of those that a test takes out one by one, is still there.
bool kept(int number);
void take_out(int number);
// Whether any thread has come by.
bool reached(int number);

// Atomic operations order nothing any more.
void forget_orderings();

} // namespace cuda_on_cpu
