// The update rules of src/optimizer.rs, in its order of operations: the same weights and gradient give the same bits as its CPU
// engines do, and the same in a training step and in a step with a gradient that is given. (nvcc must not contract products and
// sums: --fmad=false.)
#pragma once

#include "shared.cuh"

// A parameter and its averages.
struct Weight {
    float parameter, average1, average2;
};

DEVICE int averages(const Rule &rule) {
    return rule.rule == LENET_ADAMW ? 2 : rule.rule == LENET_SGD_MOMENTUM ? 1 : 0;
}

// Of a set (1 + averages, parameters).
DEVICE Weight load_weight(const Rule &rule, const float *set, int parameters, int i) {
    Weight weight = {set[i], 0.0f, 0.0f};
    if (averages(rule) >= 1) {
        weight.average1 = set[parameters + i];
    }
    if (averages(rule) == 2) {
        weight.average2 = set[2 * parameters + i];
    }
    return weight;
}

DEVICE void store_weight(const Rule &rule, float *set, int parameters, int i, const Weight &weight) {
    set[i] = weight.parameter;
    if (averages(rule) >= 1) {
        set[parameters + i] = weight.average1;
    }
    if (averages(rule) == 2) {
        set[2 * parameters + i] = weight.average2;
    }
}

// Averages below the smallest normal number become zero.
DEVICE float flushed(float average) {
    return fabsf(average) < 1.17549435e-38f ? 0.0f : average;
}

DEVICE Weight stepped(const Rule &rule, const Rates &rates, const Weight &now, float gradient) {
    if (rule.rule == LENET_ADAMW) {
        constexpr float BETA1 = 0.9, BETA2 = 0.999, EPSILON = 1e-8, SHARE1 = 1.0 - 0.9, SHARE2 = 1.0 - 0.999;
        const float mean = flushed(now.average1 * BETA1 + gradient * SHARE1);
        const float square = flushed(now.average2 * BETA2 + gradient * gradient * SHARE2);
        const float direction = mean / (sqrtf(square) * rates.scale + EPSILON);
        return {now.parameter * rates.keep - direction * rates.rate, mean, square};
    }
    const float decayed = gradient + now.parameter * rule.weight_decay;
    if (rule.rule == LENET_SGD_MOMENTUM) {
        const float velocity = flushed(now.average1 * rule.momentum + decayed);
        return {now.parameter - velocity * rates.rate, velocity, 0.0f};
    }
    return {now.parameter - decayed * rates.rate, 0.0f, 0.0f};
}

DEVICE bool finite(float value) {
    return fabsf(value) <= 3.40282347e38f;
}

DEVICE bool finite(const Weight &weight) {
    return finite(weight.parameter) && finite(weight.average1) && finite(weight.average2);
}
