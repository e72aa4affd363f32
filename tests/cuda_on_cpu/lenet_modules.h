// The modules of cuda/lenet.cu that are compiled into a driver, each with names of its own for its two kernels. MODULES, which the
// build defines, is MODULE(shape, activation, pooling) for each.
#pragma once

#include "arguments.h"

struct Module {
    const char *shape, *activation, *pooling;
    void (*train)(TrainArguments);
    void (*logits)(LogitsArguments);
};

#define MODULE(shape, activation, pooling)                                                                             \
    void train_##shape##_##activation##_##pooling(TrainArguments);                                                     \
    void logits_##shape##_##activation##_##pooling(LogitsArguments);
extern "C" {
MODULES
void lenet_apply(ApplyArguments);
}
#undef MODULE

#define MODULE(shape, activation, pooling)                                                                             \
    {#shape, #activation, #pooling, train_##shape##_##activation##_##pooling, logits_##shape##_##activation##_##pooling},
inline const Module MODULES_HERE[] = {MODULES};
#undef MODULE
