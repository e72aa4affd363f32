// Who knows of whose writes: a race is two accesses to a word, one of them a write, that no barrier and no
// release and acquire put in an order, whether or not this run happened to do them in the right one.
//
// The compiler calls races.cpp for each load and store, as it would call ThreadSanitizer's library (which knows threads
// of the system, not fibers). In a build without that instrumentation there is nothing to do here.
#pragma once

#include "machine.h"

namespace cuda_on_cpu::races {

#ifdef DETECT_RACES

void begin(unsigned threads, unsigned threads_of_a_block);
void end();
// These say which thread runs now: outside of kernels, none.
void enter(unsigned thread);
void leave();

// All that threads [first, first + count) did before is known to all of them.
void together(unsigned first, unsigned count);
void release(const void *at, bool also_what_was_known_there);
void acquire(const void *at);
// An atomic operation, which other atomic ones may meet at any time, and plain accesses may not.
void atomic_access(Site site, const void *at, bool writes);
// A plain value is there now, which says nothing of what was done before.
void forget(const void *at);

// Between these two, nobody may touch the target, or write the source.
void copy_begins(Site site, const void *to, const void *from, std::size_t bytes);
void copy_ends(Site site, const void *to, const void *from, std::size_t bytes);
// A load that may return what was there when the kernel began.
void read_only_load(Site site, const void *from, std::size_t bytes);

void *allocate(std::size_t bytes);
void release_memory(void *memory);

#else

inline void begin(unsigned, unsigned) {}
inline void end() {}
inline void enter(unsigned) {}
inline void leave() {}
inline void together(unsigned, unsigned) {}
inline void release(const void *, bool) {}
inline void acquire(const void *) {}
inline void forget(const void *) {}
inline void atomic_access(Site, const void *, bool) {}
inline void copy_begins(Site, const void *, const void *, std::size_t) {}
inline void copy_ends(Site, const void *, const void *, std::size_t) {}
inline void read_only_load(Site, const void *, std::size_t) {}

#endif

} // namespace cuda_on_cpu::races
