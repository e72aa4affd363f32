#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {

namespace {

constexpr std::size_t PAGE = 4096;

Fiber *entered = nullptr;

// Stacks that all end at the end of a page would share a few lines of the cache.
std::size_t next_color() {
    constexpr std::size_t LINE = 64;
    static std::size_t fibers = 0;
    return fibers++ * 5 * LINE % PAGE;
}

} // namespace

#ifndef FIBERS_BY_UCONTEXT
// Saves the registers that a function must keep and the stack pointer, takes another's: swapcontext without its two
// system calls, which would be most of the time of a test.
extern "C" void cuda_on_cpu_switch(void **save, void *load);
asm(R"(
    .text
    .globl cuda_on_cpu_switch
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
#endif

Fiber::Fiber(std::size_t bytes) {
    mapped = PAGE + (bytes + PAGE - 1) / PAGE * PAGE;
    void *map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, PAGE, PROT_NONE) != 0) {
        std::perror("the stack of a fiber");
        std::abort();
    }
    mapping = static_cast<char *>(map);
    stack = mapping + PAGE;
    stack_bytes = mapped - PAGE - next_color();
}

Fiber::~Fiber() {
    munmap(mapping, mapped);
}

void Fiber::start(std::function<void()> what) {
    body = std::move(what);
    ended = false;
#ifdef FIBERS_BY_UCONTEXT
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = stack_bytes;
    inside.uc_link = nullptr;
    makecontext(&inside, &Fiber::begin, 0);
#else
    // As `cuda_on_cpu_switch` leaves a stack: six registers, then where to go on. The stack pointer is 8 below a
    // multiple of 16 when a function begins, as after a call.
    auto **top = reinterpret_cast<void **>(stack + stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(&Fiber::begin);
    for (int i = 0; i < 6; i++) {
        *--top = nullptr;
    }
    inside = top;
#endif
}

void Fiber::tell_sanitizer_of_entry() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_inside, &stack_outside, &stack_outside_bytes);
#endif
}

void Fiber::begin() {
    Fiber &self = *entered;
    self.tell_sanitizer_of_entry();
    self.body();
    self.ended = true;
    self.leave();
    std::abort(); // an ended fiber is not entered again
}

bool Fiber::enter() {
    entered = this;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack_outside, stack, stack_bytes);
#endif
#ifdef FIBERS_BY_UCONTEXT
    swapcontext(&outside, &inside);
#else
    cuda_on_cpu_switch(&outside, inside);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_outside, nullptr, nullptr);
#endif
    return ended;
}

void Fiber::leave() {
#ifdef __SANITIZE_ADDRESS__
    // Null when it ends: its fake stack is given back.
    __sanitizer_start_switch_fiber(ended ? nullptr : &fake_stack_inside, stack_outside, stack_outside_bytes);
#endif
#ifdef FIBERS_BY_UCONTEXT
    swapcontext(&inside, &outside);
#else
    cuda_on_cpu_switch(&inside, outside);
#endif
    tell_sanitizer_of_entry();
}

} // namespace cuda_on_cpu
