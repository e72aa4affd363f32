// A module: the kernels of one activation, one pooling and one shape, which the build names. See arguments.h.
//
//   nvcc --ptx --gpu-architecture=compute_80 --fmad=false -DSHAPE=... -DACTIVATION=sigmoid|tanh|relu -DPOOLING=average|max
#include "logits.cuh"
#include "train.cuh"

namespace shapes {

using padded_28 = Shape<FixedSize<28, 28, 2, 10>>;
using plain_28 = Shape<FixedSize<28, 28, 0, 10>>;
using plain_32 = Shape<FixedSize<32, 32, 0, 10>>;
using any = Shape<AnySize>;

} // namespace shapes

using ModuleShape = shapes::SHAPE;
// Blocks of a multiprocessor, if it has shared memory for them: so a thread has 128 registers.
constexpr int BLOCKS_AT_ONCE = 2;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) lenet_train(const __grid_constant__ TrainArguments arguments) {
    train<ModuleShape, Activation::ACTIVATION, Pooling::POOLING>(arguments);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) lenet_logits(const __grid_constant__ LogitsArguments arguments) {
    logits<ModuleShape, Activation::ACTIVATION, Pooling::POOLING>(arguments);
}
