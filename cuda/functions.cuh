// Activations and poolings, and the way back through them. NaN goes through all of them, so that a step that diverged is seen.
#pragma once

#include "primitives.cuh"

enum class Activation { sigmoid, tanh, relu };
enum class Pooling { average, max };

template <Activation ACTIVATION> DEVICE float activated(float x) {
    if constexpr (ACTIVATION == Activation::sigmoid) {
        return fast_divide(1.0f, 1.0f + fast_exp(-x));
    } else if constexpr (ACTIVATION == Activation::tanh) {
        // Cephes' polynomial below 0.625, where the other form would cancel.
        const float square = x * x;
        float polynomial = -0.0057049887f;
        polynomial = fmaf(polynomial, square, 0.020639088f);
        polynomial = fmaf(polynomial, square, -0.053739715f);
        polynomial = fmaf(polynomial, square, 0.13331442f);
        polynomial = fmaf(polynomial, square, -0.3333328f);
        const float near = fmaf(polynomial * square, x, x);
        const float far = 1.0f - fast_divide(2.0f, fast_exp(2.0f * x) + 1.0f);
        return fabsf(x) < 0.625f ? near : far;
    } else {
        return x <= 0.0f ? 0.0f : x;
    }
}

// The gradient before the activation, from that behind it and the activation's value.
template <Activation ACTIVATION> DEVICE float activation_gradient(float gradient, float value) {
    if constexpr (ACTIVATION == Activation::sigmoid) {
        return gradient * fmaf(-value, value, value);
    } else if constexpr (ACTIVATION == Activation::tanh) {
        return gradient * fmaf(-value, value, 1.0f);
    } else {
        return value > 0.0f ? gradient : 0.0f;
    }
}

// NaN where there is no order.
DEVICE float first_max(float a, float b) {
    return a >= b ? a : a < b ? b : a + b;
}

// A window in row-major order.
template <Pooling POOLING> DEVICE float pooled(const float (&window)[4]) {
    if constexpr (POOLING == Pooling::average) {
        return 0.25f * (window[0] + window[1] + window[2] + window[3]);
    } else {
        return first_max(first_max(window[0], window[1]), first_max(window[2], window[3]));
    }
}

// Of a window of activations: the gradient before the activation, from the gradient of the pooled value. The first maximum in
// row-major order has it all.
template <Activation ACTIVATION, Pooling POOLING> DEVICE void window_gradient(float gradient, float (&window)[4]) {
    if constexpr (POOLING == Pooling::average) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float &value = window[i];
            value = activation_gradient<ACTIVATION>(0.25f * gradient, value);
        }
    } else {
        int first = 0;
        float largest = window[0];
#pragma unroll
        for (int i = 1; i < 4; i++) {
            if (window[i] > largest) {
                largest = window[i];
                first = i;
            }
        }
        const float of_first = activation_gradient<ACTIVATION>(gradient, largest);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            window[i] = i == first ? of_first : 0.0f;
        }
    }
}
