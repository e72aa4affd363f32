// What layout.h says of a network, for the host, which has no other source for it. One thread.
#include "layout.h"
#include "primitives.cuh"

typedef struct Sizes {
    uint64_t shared_bytes, train_floats, logits_floats;
} Sizes;

typedef struct SizesArguments {
    Network network;
    uint32_t batch, groups;
    Sizes *sizes;
} SizesArguments;

extern "C" __global__ void lenet_sizes(const __grid_constant__ SizesArguments arguments) {
    if (thread_index() == 0) {
        const Network network = arguments.network;
        arguments.sizes->shared_bytes = shared_bytes(network);
        arguments.sizes->train_floats = train_workspace_floats(network, arguments.batch, arguments.groups);
        arguments.sizes->logits_floats = logits_workspace_floats(network, arguments.groups);
    }
}
