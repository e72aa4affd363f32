// One step of an optimizer with a gradient that is given.
#pragma once

#include "optimizers.cuh"

DEVICE void apply(const ApplyArguments &arguments) {
    const int parameters = static_cast<int>(arguments.parameters);
    for (int i = static_cast<int>(block_index()) * THREADS + static_cast<int>(thread_index()); i < parameters;
         i += static_cast<int>(block_count()) * THREADS) {
        const Weight now = load_weight(arguments.rule, arguments.now, parameters, i);
        const Weight after = stepped(arguments.rule, arguments.rates, now, arguments.gradient[i]);
        store_weight(arguments.rule, arguments.next, parameters, i, after);
        if (!finite(after)) {
            store_relaxed(&arguments.report->steps, 0);
            store_relaxed(&arguments.report->reason, LENET_RESULT_NOT_FINITE);
        }
    }
}
