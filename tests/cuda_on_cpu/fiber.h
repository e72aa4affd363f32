// A function with a stack of its own, which can be left in the middle and gone on with.
//
// The threads of a GPU's blocks are such fibers, all in one thread of the system: who runs next is a choice of the
// scheduler alone, so every order can be had, and had again.
#pragma once

#include <cstddef>
#include <functional>

#if !defined(__x86_64__) || defined(PORTABLE_FIBERS)
#define FIBERS_BY_UCONTEXT
#include <ucontext.h>
#endif

namespace cuda_on_cpu {

class Fiber {
public:
    // The stack lies over a page that nobody may touch, so that one that is too small is a fault, not a riddle.
    explicit Fiber(std::size_t stack_bytes);
    ~Fiber();
    Fiber(const Fiber &) = delete;
    Fiber &operator=(const Fiber &) = delete;

    // What runs at the next `enter`, from its beginning. The fiber has ended, or has never begun.
    void start(std::function<void()> body);
    // From outside: runs it until it leaves or ends; whether it has ended.
    bool enter();
    // From inside: back to whoever entered.
    void leave();

private:
    static void begin();
    void tell_sanitizer_of_entry();

    char *mapping;
    std::size_t mapped;
    char *stack; // behind the page
    std::size_t stack_bytes;
    std::function<void()> body;
    bool ended = true;
#ifdef FIBERS_BY_UCONTEXT
    ucontext_t inside, outside;
#else
    void *inside, *outside; // stack pointers
#endif
    // What AddressSanitizer must know of stacks that are changed behind its back.
    void *fake_stack_inside = nullptr, *fake_stack_outside = nullptr;
    const void *stack_outside = nullptr;
    std::size_t stack_outside_bytes = 0;
};

} // namespace cuda_on_cpu
