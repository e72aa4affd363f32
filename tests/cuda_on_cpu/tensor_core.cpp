#include "tensor_core.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace cuda_on_cpu {

namespace {

constexpr int ROWS = 16, DEPTH = 8, COLUMNS = 8;
constexpr int EXTRA_BITS = 2;
constexpr int BITS_BELOW = 23 + EXTRA_BITS; // the leading one

// A TF32 number has the 10 upper bits of a float's fraction. The others are not looked at.
std::uint32_t tf32(std::uint32_t bits) {
    return bits & 0xffffe000u;
}

float as_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

bool is_finite(std::uint32_t bits) {
    return (bits >> 23 & 255) != 255;
}

int exponent(std::uint32_t bits) {
    const int biased = static_cast<int>(bits >> 23 & 255);
    return (biased == 0 ? 1 : biased) - 127;
}

double power_of_two(int exponent) {
    const std::uint64_t bits = static_cast<std::uint64_t>(1023 + exponent) << 52;
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

float toward_zero(double value) {
    const double size = std::fabs(value);
    if (size >= power_of_two(128)) {
        return static_cast<float>(std::copysign(std::numeric_limits<double>::infinity(), value));
    }
    if (size < power_of_two(-126)) {
        return static_cast<float>(std::trunc(value * power_of_two(149)) * power_of_two(-149));
    }
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits &= ~((std::uint64_t(1) << 29) - 1);
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<float>(value);
}

// The factors of a product, each with its exponent. Of zero: one that is smaller than all others.
template <int ROWS, int SIZE> struct Factors {
    double value[ROWS][SIZE];
    std::int32_t exponents[ROWS][SIZE];
    bool finite = true;

    explicit Factors(const std::uint32_t (*from)[SIZE]) {
        constexpr int NONE = -1000;
        for (int row = 0; row < ROWS; row++) {
            for (int i = 0; i < SIZE; i++) {
                const std::uint32_t bits = tf32(from[row][i]);
                value[row][i] = is_finite(bits) ? static_cast<double>(as_float(bits)) : 0;
                exponents[row][i] = value[row][i] == 0 ? NONE : exponent(bits);
                finite &= is_finite(bits);
            }
        }
    }
};

// What an infinite number or NaN makes of a sum; nothing else.
bool not_finite(float &sum, const std::uint32_t row[DEPTH], const std::uint32_t b[DEPTH][COLUMNS], int column) {
    double all = static_cast<double>(sum);
    for (int k = 0; k < DEPTH; k++) {
        all += static_cast<double>(as_float(tf32(row[k]))) * static_cast<double>(as_float(tf32(b[k][column])));
    }
    if (std::isfinite(all)) {
        return false;
    }
    sum = std::isnan(all) ? as_float(0x7fffffffu) : static_cast<float>(all);
    return true;
}

} // namespace

void multiply_add_tf32(float d[ROWS][COLUMNS], const std::uint32_t a[ROWS][DEPTH],
                       const std::uint32_t b[DEPTH][COLUMNS]) {
    const Factors<ROWS, DEPTH> left(a);
    const Factors<DEPTH, COLUMNS> right(b);
    for (int m = 0; m < ROWS; m++) {
        std::uint32_t before[COLUMNS];
        std::memcpy(before, d[m], sizeof before);
        bool finite = left.finite && right.finite;
        std::int32_t largest[COLUMNS];
        for (int n = 0; n < COLUMNS; n++) {
            finite &= is_finite(before[n]);
            largest[n] = exponent(before[n]); // of zero -126, which cuts off nothing that an f32 could hold
        }
        for (int k = 0; k < DEPTH; k++) {
            for (int n = 0; n < COLUMNS; n++) {
                const std::int32_t of_product = left.exponents[m][k] + right.exponents[k][n];
                largest[n] = of_product > largest[n] ? of_product : largest[n];
            }
        }
        std::int32_t sum[COLUMNS]; // at most 8 * 2^27 + 2^26
        double scale[COLUMNS];
        for (int n = 0; n < COLUMNS; n++) {
            scale[n] = power_of_two(BITS_BELOW - largest[n]);
            const double start = is_finite(before[n]) ? static_cast<double>(as_float(before[n])) : 0;
            sum[n] = static_cast<std::int32_t>(start * scale[n]);
        }
        for (int k = 0; k < DEPTH; k++) {
            for (int n = 0; n < COLUMNS; n++) {
                sum[n] += static_cast<std::int32_t>(left.value[m][k] * right.value[k][n] * scale[n]);
            }
        }
        for (int n = 0; n < COLUMNS; n++) {
            if (finite || !not_finite(d[m][n], a[m], b, n)) {
                d[m][n] = toward_zero(static_cast<double>(sum[n]) * power_of_two(largest[n] - BITS_BELOW));
            }
        }
    }
}

void multiply_add_tf32(void *const fragments[32]) {
    float d[ROWS][COLUMNS];
    std::uint32_t a[ROWS][DEPTH], b[DEPTH][COLUMNS];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Fragments &mine = *static_cast<Fragments *>(fragments[lane]);
        const unsigned group = lane / 4, place = lane % 4;
        for (unsigned i = 0; i < 4; i++) {
            a[group + i % 2 * 8][place + i / 2 * 4] = mine.a[i];
            d[group + i / 2 * 8][place * 2 + i % 2] = mine.d[i];
        }
        for (unsigned i = 0; i < 2; i++) {
            b[place + i * 4][group] = mine.b[i];
        }
    }
    multiply_add_tf32(d, a, b);
    for (unsigned lane = 0; lane < 32; lane++) {
        const Fragments &mine = *static_cast<Fragments *>(fragments[lane]);
        for (unsigned i = 0; i < 4; i++) {
            mine.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        }
    }
}

} // namespace cuda_on_cpu
