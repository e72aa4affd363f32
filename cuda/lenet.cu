// A module: the kernels of one activation, one pooling and one shape, which the build names. See arguments.h.
//
//   nvcc --ptx --gpu-architecture=compute_80 --fmad=false --std=c++17 -DSHAPE=... -DACTIVATION=sigmoid|tanh|relu
//        -DPOOLING=average|max lenet.cu
//
// --fmad=false: products and sums are fused where the sources say so, and nowhere else, for the same bits everywhere.
//
// A thread has 128 registers, so that two blocks of 256 threads share a multiprocessor; a block has 103,088 bytes of dynamic shared
// memory for 28x28 images, padding 2, 10 classes. What ptxas 13.0 spills in lenet_train, none of it in an inner loop: 18 bytes for
// 28x28 with padding 2 and 92 for any shape on sm_90, 50 and 348 on sm_80; in lenet_logits nothing.
//
// lenet_train is 130 KB of code. When it was 156 KB, more than the 128 KB of an instruction cache, every stage was slower, a step
// of 256 images by a tenth.
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

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    lenet_train(const __grid_constant__ TrainArguments arguments) {
    train<ModuleShape, Activation::ACTIVATION, Pooling::POOLING>(arguments);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    lenet_logits(const __grid_constant__ LogitsArguments arguments) {
    logits<ModuleShape, Activation::ACTIVATION, Pooling::POOLING>(arguments);
}
