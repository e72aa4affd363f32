// The happens-before detector of races.h, by vector clocks (FastTrack, Flanagan and Freund 2009), for thousands of
// threads: those of a block share one clock vector after each barrier, and the readers of a word are kept as one
// thread, one warp or one block as long as there are no more.

#include "races.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace cuda_on_cpu::races {

namespace {

using Clock = std::uint32_t;
// In the source.
using Place = std::uint32_t;
// For each thread, the last of its clocks of which all accesses are known.
using Known = std::vector<Clock>;
using KnownPointer = std::shared_ptr<const Known>;

struct Thread {
    Clock clock; // its accesses bear it
    KnownPointer known;
    KnownPointer last_acquired;
};

// Threads [first, first + count), in one of which something was done when its clock was at most this.
struct Access {
    std::uint32_t first = 0;
    std::uint16_t count = 0; // 0: nobody
    std::uint8_t bytes = 0;  // of the word, a bit each
    Clock clock = 0;
    Place where = 0;
};

// What is remembered of four bytes.
struct Word {
    Access write;
    Access read;
    Access atomic; // the last atomic write
    std::uint32_t more_reads = 0; // of other blocks: a place in `more`, or 0
    Place read_only = 0;          // where it was read as a constant, or 0
    bool awaited = false;         // an asynchronous copy is on its way
};

constexpr std::size_t ARENA_BYTES = std::size_t(2) << 30;
constexpr std::size_t ALIGNMENT = 256;
constexpr std::size_t MOST_REPORTS = 10;

char *arena = nullptr;
std::size_t arena_used = 0;
std::unordered_map<void *, std::size_t> sizes;
std::map<std::size_t, std::vector<void *>> unused;
Word *words = nullptr;

bool running = false;
std::vector<Thread> threads;
unsigned threads_of_a_block = 0;
Thread *now = nullptr;
unsigned now_number = 0;
std::vector<std::vector<Access>> more;
std::unordered_map<const void *, KnownPointer> published; // by atomic operations on this word
std::set<std::pair<Place, Place>> reported;
std::vector<Site> sites;

void *reserve(std::size_t bytes) {
    void *memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fail("no memory for the race detector");
    }
    return memory;
}

bool knows(Access access) {
    const Clock *known = now->known->data();
    for (unsigned i = access.first; i < access.first + access.count; i++) {
        if (known[i] < access.clock && i != now_number) {
            return false;
        }
    }
    return true;
}

unsigned block_of(unsigned thread) {
    return thread / threads_of_a_block;
}

constexpr Place A_SITE = 0x80000000u; // else an address in the program, which is linked below that

Place place_of(Site site) {
    const auto same = [&](Site other) { return other.file == site.file && other.line == site.line; };
    auto known = std::find_if(sites.begin(), sites.end(), same);
    if (known == sites.end()) {
        known = sites.insert(known, site);
    }
    return A_SITE | static_cast<Place>(known - sites.begin());
}

Place place_of(const void *return_address) {
    return static_cast<Place>(reinterpret_cast<std::uintptr_t>(return_address) - 1);
}

std::string name_of_place(Place where) {
    if ((where & A_SITE) != 0) {
        const Site site = sites[where & ~A_SITE];
        const char *slash = std::strrchr(site.file, '/');
        return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
    }
    char command[200], text[400] = "";
    std::snprintf(command, sizeof command, "addr2line -s -i -e /proc/%d/exe %#x", getpid(), where);
    std::string all;
    if (std::FILE *out = popen(command, "r")) {
        while (std::fgets(text, sizeof text, out)) {
            text[std::strcspn(text, " \n")] = 0;
            const bool of_library = std::strstr(text, "invoke.h:") || std::strstr(text, "std_function.h:");
            all += of_library ? "" : (all.empty() ? "" : " in ") + std::string(text);
        }
        pclose(out);
    }
    return all;
}

std::string name_of_threads(Access access) {
    std::string name = "thread " + std::to_string(access.first % threads_of_a_block);
    if (access.count > 1) {
        name += ".." + std::to_string((access.first + access.count - 1) % threads_of_a_block);
    }
    return name + " of block " + std::to_string(block_of(access.first));
}

void report(const void *at, const char *what, Place where, const char *before, Access other) {
    if (!reported.insert({where, other.where}).second) {
        return;
    }
    std::fprintf(stderr,
                 "race on the word at %#zx: %s by thread %u of block %u at %s; not ordered after the %s by %s at %s\n",
                 static_cast<std::size_t>(static_cast<const char *>(at) - arena), what,
                 now_number % threads_of_a_block, block_of(now_number), name_of_place(where).c_str(), before,
                 name_of_threads(other).c_str(), name_of_place(other.where).c_str());
    if (reported.size() == MOST_REPORTS) {
        fail("%zu races", reported.size());
    }
}

// `one` and `other`, neither known to be before the other, as one: the smallest of warp and block that has both.
bool joined(Access &one, Access other) {
    const unsigned end = std::max(one.first + one.count, other.first + other.count);
    for (unsigned size : {LANES, threads_of_a_block}) {
        const unsigned first = one.first / size * size;
        if (first == other.first / size * size && end <= first + size) {
            one.first = first;
            one.count = static_cast<std::uint16_t>(size);
            one.clock = std::max(one.clock, other.clock);
            one.bytes |= other.bytes;
            return true;
        }
    }
    return false;
}

Access access_of_now(std::uint8_t bytes, Place where) {
    return Access{now_number, 1, bytes, now->clock, where};
}

void read_word(const char *at, Word &word, std::uint8_t bytes, Place where) {
    if (word.awaited) {
        report(at, "read", where, "asynchronous copy, which was not waited for,", word.write);
    } else if (word.write.count > 0 && (word.write.bytes & bytes) != 0 && !knows(word.write)) {
        report(at, "read", where, "write", word.write);
    } else if (word.atomic.count > 0 && !knows(word.atomic)) {
        report(at, "read", where, "atomic write", word.atomic);
    }
    const Access access = access_of_now(bytes, where);
    Access &read = word.read;
    if (read.first == now_number && read.clock == now->clock && read.count == 1) {
        read.bytes |= bytes;
    } else if (read.count == 0 || knows(read)) {
        read = access;
    } else if (!joined(read, access)) {
        if (word.more_reads == 0) {
            word.more_reads = static_cast<std::uint32_t>(more.size());
            more.emplace_back();
        }
        auto &reads = more[word.more_reads];
        for (Access &other : reads) {
            if (joined(other, access)) {
                return;
            }
        }
        reads.push_back(access);
    }
}

// What a write must know of, atomic or not.
void check_write(const char *at, Word &word, std::uint8_t bytes, const char *what, Place where) {
    const auto check = [&](Access other, const char *name) {
        if (other.count > 0 && (other.bytes & bytes) != 0 && !knows(other)) {
            report(at, what, where, name, other);
        }
    };
    if (word.awaited) {
        report(at, what, where, "asynchronous copy, which was not waited for,", word.write);
    } else {
        check(word.write, "write");
    }
    check(word.read, "read");
    if (word.more_reads != 0) {
        for (Access other : more[word.more_reads]) {
            check(other, "read");
        }
        more[word.more_reads].clear();
    }
    if (word.read_only != 0) {
        report(at, what, where, "read of it as a constant", Access{now_number, 1, 15, 0, word.read_only});
    }
    word.read = {};
}

void write_word(const char *at, Word &word, std::uint8_t bytes, Place where) {
    if (word.atomic.count > 0 && !knows(word.atomic)) {
        report(at, "write", where, "atomic write", word.atomic);
    }
    check_write(at, word, bytes, "write", where);
    word.write = access_of_now(bytes, where);
}

template <typename Visit> void each_word(const void *pointer, std::size_t bytes, Visit visit) {
    const auto *at = static_cast<const char *>(pointer);
    const auto offset = static_cast<std::size_t>(at - arena);
    if (now == nullptr || offset >= ARENA_BYTES) {
        return;
    }
    for (std::size_t i = offset / 4; i * 4 < offset + bytes; i++) {
        const std::size_t from = std::max(offset, i * 4) - i * 4, to = std::min(offset + bytes, i * 4 + 4) - i * 4;
        visit(arena + 4 * i, words[i], static_cast<std::uint8_t>((1 << to) - (1 << from)));
    }
}

void read(const void *pointer, std::size_t bytes, Place where) {
    each_word(pointer, bytes, [&](const char *at, Word &word, std::uint8_t mask) { read_word(at, word, mask, where); });
}

void write(const void *pointer, std::size_t bytes, Place where) {
    each_word(pointer, bytes,
              [&](const char *at, Word &word, std::uint8_t mask) { write_word(at, word, mask, where); });
}

KnownPointer both(const KnownPointer &one, const KnownPointer &other) {
    if (!one || one == other) {
        return other;
    }
    auto all = std::make_shared<Known>(*one);
    for (std::size_t i = 0; i < all->size(); i++) {
        (*all)[i] = std::max((*all)[i], (*other)[i]);
    }
    return all;
}

} // namespace

void begin(unsigned count, unsigned of_a_block) {
    threads_of_a_block = of_a_block;
    const auto nothing = std::make_shared<const Known>(count, 0);
    threads.assign(count, Thread{1, nothing, nullptr});
    std::memset(static_cast<void *>(words), 0, arena_used / 4 * sizeof(Word));
    more.assign(1, {});
    published.clear();
    running = true;
}

void end() {
    running = false;
    if (!reported.empty()) {
        fail("%zu races", reported.size());
    }
}

void enter(unsigned thread) {
    now = &threads[thread];
    now_number = thread;
}

void leave() {
    now = nullptr;
}

void together(unsigned first, unsigned count) {
    // Threads share what they know: few vectors are different.
    KnownPointer all = threads[first].known;
    Clock clock = 0;
    for (unsigned i = first; i < first + count; i++) {
        clock = std::max(clock, threads[i].clock);
        if (i > first && threads[i].known != threads[i - 1].known) {
            all = both(all, threads[i].known);
        }
    }
    auto known = std::make_shared<Known>(*all);
    std::fill_n(known->begin() + first, count, clock);
    for (unsigned i = first; i < first + count; i++) {
        threads[i].known = known;
        threads[i].clock = clock + 1;
    }
}

void release(const void *at, bool also_what_was_known_there) {
    auto mine = std::make_shared<Known>(*now->known);
    (*mine)[now_number] = now->clock;
    now->clock++;
    KnownPointer &there = published[at];
    there = also_what_was_known_there ? both(there, mine) : KnownPointer(mine);
}

void acquire(const void *at) {
    const auto there = published.find(at);
    if (there != published.end() && there->second != now->last_acquired) {
        now->known = both(now->known, there->second);
        now->last_acquired = there->second;
    }
}

void forget(const void *at) {
    published.erase(at);
}

void atomic_access(Site site, const void *pointer, bool writes) {
    const Place where = place_of(site);
    each_word(pointer, sizeof(std::uint32_t), [&](const char *at, Word &word, std::uint8_t mask) {
        if (writes) {
            check_write(at, word, mask, "atomic write", where);
            word.atomic = access_of_now(mask, where);
        } else if (word.write.count > 0 && !knows(word.write)) {
            report(at, "atomic read", where, "write", word.write);
        }
    });
}

void copy_begins(Site site, const void *to, const void *from, std::size_t bytes) {
    const Place where = place_of(site);
    read(from, bytes, where);
    write(to, bytes, where);
    each_word(to, bytes, [](const char *, Word &word, std::uint8_t) { word.awaited = true; });
}

void copy_ends(Site site, const void *to, const void *from, std::size_t bytes) {
    const Place where = place_of(site);
    read(from, bytes, where);
    each_word(to, bytes, [](const char *, Word &word, std::uint8_t) { word.awaited = false; });
    write(to, bytes, where);
}

void read_only_load(Site site, const void *from, std::size_t bytes) {
    const Place where = place_of(site);
    each_word(from, bytes, [&](const char *at, Word &word, std::uint8_t) {
        if (word.write.count > 0) {
            report(at, "read as a constant", where, "write in the same launch", word.write);
        }
        word.read_only = where;
    });
}

void *allocate(std::size_t bytes) {
    if (arena == nullptr) {
        arena = static_cast<char *>(reserve(ARENA_BYTES));
        words = static_cast<Word *>(reserve(ARENA_BYTES / 4 * sizeof(Word)));
    }
    // A gap behind each, or an access beyond the end would be one to the next.
    bytes = (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    auto &same_size = unused[bytes];
    void *memory;
    if (!same_size.empty()) {
        memory = same_size.back();
        same_size.pop_back();
    } else if (arena_used + bytes > ARENA_BYTES) {
        fail("no memory for %zu bytes", bytes);
    } else {
        memory = arena + arena_used;
        arena_used += bytes;
    }
    sizes[memory] = bytes;
    return memory;
}

void release_memory(void *memory) {
    unused[sizes[memory]].push_back(memory);
}

} // namespace cuda_on_cpu::races

// ---- what the compiler calls with -fsanitize=thread

using namespace cuda_on_cpu;

#define HERE races::place_of(__builtin_return_address(0))
#define ACCESS(bytes)                                                                                                  \
    void __tsan_read##bytes(void *at) { races::read(at, bytes, HERE); }                                                \
    void __tsan_write##bytes(void *at) { races::write(at, bytes, HERE); }                                              \
    void __tsan_unaligned_read##bytes(void *at) { races::read(at, bytes, HERE); }                                      \
    void __tsan_unaligned_write##bytes(void *at) { races::write(at, bytes, HERE); }                                    \
    void __tsan_volatile_read##bytes(void *at) { races::read(at, bytes, HERE); }                                       \
    void __tsan_volatile_write##bytes(void *at) { races::write(at, bytes, HERE); }

extern "C" {
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void *at, unsigned long bytes) { races::read(at, bytes, HERE); }
void __tsan_write_range(void *at, unsigned long bytes) { races::write(at, bytes, HERE); }
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
}
