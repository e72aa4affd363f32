#include "machine.h"
#include "fiber.h"
#include "races.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unistd.h>
#include <vector>

namespace cuda_on_cpu {

namespace {

constexpr std::size_t STACK_BYTES = 128 << 10;

enum class Wait { nothing, block_barrier, warp, value };

struct Copy {
    Site site;
    void *to;
    const void *from;
    std::size_t bytes;
    unsigned group;
    bool arrived;
};

struct Thread {
    unsigned number; // in the grid
    Fiber fiber{STACK_BYTES};
    bool ended = false;

    Wait wait = Wait::nothing;
    Site site{};
    // The last value that was read by `atomic_load`, when nothing else was done since: the beginning of a spin.
    const std::uint32_t *watched = nullptr;
    std::uint32_t seen = 0;

    std::vector<Copy> copies;
    unsigned open_group = 0;
};

struct Warp {
    unsigned arrived = 0;
    unsigned ended = 0;
    void *parts[LANES] = {};
    Site site{};
};

struct Block {
    unsigned arrived = 0;
    unsigned ended = 0;
    Site site{};
    void *shared = nullptr;
};

// The grid that runs.
struct Grid {
    Launch launch;
    std::vector<Block> blocks;
    std::vector<Warp> warps;
    std::deque<Thread *> ready;
    std::vector<Thread *> spinning;
    std::mt19937_64 random;
};

std::vector<std::unique_ptr<Thread>> threads; // kept from launch to launch: their stacks are
Grid *grid = nullptr;
Thread *now = nullptr;

int taken_out = -1;
std::set<int> all_reached;
bool orderings_count = true;

bool same(Site a, Site b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::string name(Site site) {
    const char *slash = std::strrchr(site.file, '/');
    return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

unsigned block_of(const Thread &thread) {
    return thread.number / grid->launch.threads;
}

std::string name(const Thread &thread) {
    return "thread " + std::to_string(thread.number % grid->launch.threads) + " of block " +
           std::to_string(block_of(thread));
}

Warp &warp_of(const Thread &thread) {
    return grid->warps[thread.number / LANES];
}

unsigned lane_of(const Thread &thread) {
    return thread.number % LANES;
}

// The threads [first, first + count), but not the one that runs: it goes on by itself.
void wake(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        const bool in_front = grid->launch.order == Order::forward;
        Thread *thread = threads[in_front ? first + count - 1 - i : first + i].get();
        if (thread == now) {
            continue;
        }
        thread->wait = Wait::nothing;
        if (in_front) {
            grid->ready.push_front(thread);
        } else {
            grid->ready.push_back(thread);
        }
    }
}

void suspend(Wait wait, Site site) {
    now->wait = wait;
    now->site = site;
    now->fiber.leave();
}

bool by_chance(unsigned one_in) {
    return grid->launch.order == Order::random && grid->random() % one_in == 0;
}

void arrive(Copy &copy) {
    if (!copy.arrived) {
        std::memcpy(copy.to, copy.from, copy.bytes);
        copy.arrived = true;
    }
}

// Others may come first, where the order is a matter of chance.
void maybe_hold_up(Site site) {
    now->watched = nullptr;
    if (by_chance(4)) {
        grid->ready.push_back(now);
        suspend(Wait::nothing, site);
    }
}

void wake_those_who_wait_for(const std::uint32_t *at) {
    auto &spinning = grid->spinning;
    for (std::size_t i = 0; i < spinning.size();) {
        Thread &thread = *spinning[i];
        if ((at == nullptr || thread.watched == at) && *thread.watched != thread.seen) {
            spinning.erase(spinning.begin() + static_cast<std::ptrdiff_t>(i));
            wake(thread.number, 1);
        } else {
            i++;
        }
    }
}

[[noreturn]] void fail_for_ever() {
    // Who waits for what, and the first of each kind.
    std::map<std::string, std::pair<unsigned, std::string>> kinds;
    for (unsigned i = 0; i < grid->launch.blocks * grid->launch.threads; i++) {
        const Thread &thread = *threads[i];
        if (thread.ended) {
            continue;
        }
        const char *what = thread.wait == Wait::block_barrier ? "in the block barrier at "
                           : thread.wait == Wait::warp        ? "for its warp at "
                                                              : "for another value at ";
        auto &[count, first] = kinds[what + name(thread.site)];
        if (count++ == 0) {
            first = name(thread);
        }
    }
    std::string all;
    for (const auto &[what, who] : kinds) {
        all += "\n  " + who.second + " waits " + what + ", with " + std::to_string(who.first - 1) + " others";
    }
    fail("the threads wait for each other for ever:%s", all.c_str());
}

Thread &next() {
    auto &ready = grid->ready;
    if (ready.empty()) {
        wake_those_who_wait_for(nullptr); // a value that changed without an atomic operation
    }
    if (ready.empty()) {
        fail_for_ever();
    }
    Thread *chosen;
    switch (grid->launch.order) {
    case Order::forward:
    case Order::in_step:
        chosen = ready.front();
        ready.pop_front();
        return *chosen;
    case Order::random:
        std::swap(ready[grid->random() % ready.size()], ready.back());
        [[fallthrough]];
    case Order::reverse:
        chosen = ready.back();
        ready.pop_back();
        return *chosen;
    }
    std::abort();
}

void end(Thread &thread) {
    thread.ended = true;
    Block &block = grid->blocks[block_of(thread)];
    Warp &warp = warp_of(thread);
    block.ended++;
    warp.ended++;
    if (block.arrived > 0) {
        fail("%s has returned; others wait for it in the block barrier at %s", name(thread).c_str(),
             name(block.site).c_str());
    }
    if (warp.arrived > 0) {
        fail("%s has returned; its warp waits for it at %s", name(thread).c_str(), name(warp.site).c_str());
    }
    if (!thread.copies.empty()) {
        fail("%s has returned without waiting for its asynchronous copies", name(thread).c_str());
    }
}

} // namespace

void fail(const char *format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::fflush(stdout);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
    std::fflush(stderr);
    _exit(3); // no destructors: fibers are in the middle of something
}

void launch(const Launch &launch, const std::function<void()> &kernel) {
    if (launch.threads == 0 || launch.threads % LANES != 0 || launch.blocks == 0) {
        fail("%u blocks of %u threads are not whole warps", launch.blocks, launch.threads);
    }
    const unsigned count = launch.blocks * launch.threads;
    Grid running{launch, {}, {}, {}, {}, std::mt19937_64(launch.seed)};
    running.blocks.resize(launch.blocks);
    running.warps.resize(count / LANES);
    grid = &running;
    for (Block &block : running.blocks) {
        block.shared = allocate(launch.shared_bytes);
    }
    while (threads.size() < count) {
        threads.push_back(std::make_unique<Thread>());
    }
    races::begin(count, launch.threads);
    for (unsigned i = 0; i < count; i++) {
        Thread &thread = *threads[i];
        thread.number = i;
        thread.ended = false;
        thread.watched = nullptr;
        thread.open_group = 0;
        thread.fiber.start(kernel);
    }
    wake(0, count);

    for (unsigned left = count; left > 0;) {
        Thread &thread = next();
        now = &thread;
        races::enter(thread.number);
        const bool ended = thread.fiber.enter();
        races::leave();
        if (ended) {
            end(thread);
            left--;
        }
        now = nullptr;
    }

    races::end();
    for (Block &block : running.blocks) {
        release(block.shared);
    }
    grid = nullptr;
}

void *allocate(std::size_t bytes) {
#ifdef DETECT_RACES
    void *memory = races::allocate(bytes);
#else
    // Aligned as cudaMalloc does, and exactly so many bytes: AddressSanitizer guards the first one behind them.
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) {
        fail("no memory for %zu bytes", bytes);
    }
#endif
    std::memset(memory, 0xff, bytes); // NaN, as float, half or double; as an integer a large one
    return memory;
}

void release(void *memory) {
#ifdef DETECT_RACES
    races::release_memory(memory);
#else
    std::free(memory);
#endif
}

unsigned thread_index() {
    return now->number % grid->launch.threads;
}

unsigned block_index() {
    return block_of(*now);
}

unsigned thread_count() {
    return grid->launch.threads;
}

unsigned block_count() {
    return grid->launch.blocks;
}

void *shared_memory() {
    return grid->blocks[block_of(*now)].shared;
}

void block_barrier(Site site) {
    now->watched = nullptr;
    Block &block = grid->blocks[block_of(*now)];
    if (block.ended > 0) {
        fail("%s is in the block barrier at %s; another thread of its block has returned", name(*now).c_str(),
             name(site).c_str());
    }
    if (block.arrived == 0) {
        block.site = site;
    } else if (!same(block.site, site)) {
        fail("%s is in the block barrier at %s, others of its block in the one at %s", name(*now).c_str(),
             name(site).c_str(), name(block.site).c_str());
    }
    if (++block.arrived < grid->launch.threads) {
        suspend(Wait::block_barrier, site);
        return;
    }
    block.arrived = 0;
    const unsigned first = now->number / grid->launch.threads * grid->launch.threads;
    races::together(first, grid->launch.threads);
    wake(first, grid->launch.threads);
}

void warp_together(Site site, void *part, Together together) {
    now->watched = nullptr;
    Warp &warp = warp_of(*now);
    if (warp.ended > 0) {
        fail("%s waits for its warp at %s; another lane has returned", name(*now).c_str(), name(site).c_str());
    }
    if (warp.arrived == 0) {
        warp.site = site;
    } else if (!same(warp.site, site)) {
        fail("%s waits for its warp at %s, other lanes at %s", name(*now).c_str(), name(site).c_str(),
             name(warp.site).c_str());
    }
    warp.parts[lane_of(*now)] = part;
    if (++warp.arrived < LANES) {
        suspend(Wait::warp, site);
        return;
    }
    warp.arrived = 0;
    together(warp.parts);
    wake(now->number / LANES * LANES, LANES);
}

void warp_barrier(Site site) {
    warp_together(site, nullptr, [](void *const *) { races::together(now->number / LANES * LANES, LANES); });
}

void copy_async(Site site, void *to, const void *from, std::size_t bytes) {
    now->watched = nullptr;
    const auto misaligned = [&](const void *pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0; };
    if (misaligned(to) || misaligned(from)) {
        fail("%s copies %zu bytes that are not aligned to that, at %s", name(*now).c_str(), bytes, name(site).c_str());
    }
    Copy copy{site, to, from, bytes, now->open_group, false};
    races::copy_begins(site, to, from, bytes);
    if (grid->launch.order == Order::reverse || by_chance(2)) {
        arrive(copy);
    } else {
        std::memset(to, 0xff, bytes);
    }
    now->copies.push_back(copy);
}

void commit_async() {
    now->watched = nullptr;
    now->open_group++;
}

void wait_async(unsigned groups_still_on_their_way) {
    now->watched = nullptr;
    auto &copies = now->copies;
    std::size_t done = 0;
    while (done < copies.size() && copies[done].group + groups_still_on_their_way < now->open_group) {
        arrive(copies[done]);
        races::copy_ends(copies[done].site, copies[done].to, copies[done].from, copies[done].bytes);
        done++;
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

std::uint32_t atomic_load(Site site, const std::uint32_t *from, Ordering ordering) {
    if (now->watched == from && *from == now->seen) {
        grid->spinning.push_back(now);
        suspend(Wait::value, site);
    } else if (by_chance(4)) {
        grid->ready.push_back(now);
        suspend(Wait::nothing, site);
    }
    now->watched = from;
    now->seen = *from;
    if (orderings_count && ordering == Ordering::acquire) {
        races::acquire(from);
    }
    races::atomic_access(site, from, false);
    return now->seen;
}

void atomic_store(Site site, std::uint32_t *to, std::uint32_t value, Ordering ordering) {
    maybe_hold_up(site);
    races::atomic_access(site, to, true);
    if (orderings_count && ordering == Ordering::release) {
        races::release(to, false);
    } else {
        races::forget(to);
    }
    *to = value;
    wake_those_who_wait_for(to);
}

std::uint32_t atomic_update(Site site, std::uint32_t *at, const std::function<std::uint32_t(std::uint32_t)> &update,
                            Ordering ordering) {
    maybe_hold_up(site);
    if (orderings_count && (ordering == Ordering::acquire || ordering == Ordering::acquire_release)) {
        races::acquire(at);
    }
    races::atomic_access(site, at, true);
    if (orderings_count && (ordering == Ordering::release || ordering == Ordering::acquire_release)) {
        races::release(at, true);
    }
    const std::uint32_t before = *at;
    *at = update(before);
    wake_those_who_wait_for(at);
    return before;
}

bool kept(int number) {
    if (now != nullptr) {
        all_reached.insert(number);
    }
    return number != taken_out;
}

void take_out(int number) {
    taken_out = number;
}

bool reached(int number) {
    return all_reached.count(number) > 0;
}

void forget_orderings() {
    orderings_count = false;
}

} // namespace cuda_on_cpu
