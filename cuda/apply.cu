// The module of `lenet_apply`, see arguments.h.
#include "apply.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) lenet_apply(const __grid_constant__ ApplyArguments arguments) {
    apply(arguments);
}
