// The end of a step, by the whole grid: the gradients of the fully connected layers as products over the batch, the sums of all
// biases' gradients and of the blocks' shares of the convolutions', and the update of each parameter behind its gradient. Every sum
// has an order that depends on nothing but the batch and, of the convolutions, the number of groups.
#pragma once

#include "optimizers.cuh"
#include "products.cuh"
#include "workspace.cuh"

// What becomes of a gradient.
struct Update {
    const float *now;
    float *next;     // or NULL
    float *gradient; // or NULL
    Rule rule;
    const Rates *rates; // in shared memory
    int parameters;

    DEVICE Weight load(int i) const { return next != nullptr ? load_weight(rule, now, parameters, i) : Weight{0.0f, 0.0f, 0.0f}; }

    // Whether all that comes out is finite.
    DEVICE bool apply(int i, const Weight &weight, float of_parameter) const {
        if (gradient != nullptr) {
            gradient[i] = of_parameter;
        }
        if (next == nullptr) {
            return finite(of_parameter);
        }
        const Weight after = stepped(rule, *rates, weight, of_parameter);
        store_weight(rule, next, parameters, i, after);
        return finite(after);
    }
};

DEVICE int tiles(int n, int size) {
    return (n + size - 1) / size;
}

// Elements that a task computes at most.
constexpr int TILE = 2 * THREADS;

// A matrix in the workspace, a row an image.
struct Rows {
    const float *first;
    int row;     // floats from row to row
    int columns; // of which there are so many
};

// A tile (32, 16) of gradients^T inputs, from row `m` and column `n` of a weight (gradients.columns, inputs.columns) that begins at
// parameter `offset`. Or, without inputs, sums of 32 columns of `gradients`, from column `m`, for biases that begin at `offset`.
struct Task {
    Rows gradients, inputs;
    int rows; // to sum over: images, or blocks
    int offset, m, n;

    DEVICE bool is_product() const { return inputs.columns > 0; }

    // Which parameter element i of the tile is, or -1.
    DEVICE int parameter(int i) const {
        if (!is_product()) {
            return i < 32 && m + i < gradients.columns ? offset + m + i : -1;
        }
        const int tile = i / 128, in_tile = i / 32 % 4, lane = i % 32;
        const int row = m + tile / 2 * 16 + lane / 4 + in_tile / 2 * 8, column = n + tile % 2 * 8 + lane % 4 * 2 + in_tile % 2;
        return row < gradients.columns && column < inputs.columns ? offset + row * inputs.columns + column : -1;
    }
};

// Partial sums of the tile's 512 elements, by each warp: the warps share the images, eight a step. Of the images beyond the batch,
// in the last eight, the gradients are zero.
template <class Shape> DEVICE void multiply(const Shared<Shape> &shared, const Task &product) {
    const Thread self = this_thread();
    const Rows &gradients = product.gradients, &inputs = product.inputs;
    float *sums = shared.tile_sums() + self.warp * TILE + self.lane;
    // Of this thread's elements from the first of eight images.
    int left[2][2], right[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            left[i][j] = self.place * gradients.row + min(product.m + i * 16 + j * 8 + self.group, gradients.columns - 1);
        }
        right[i] = self.place * inputs.row + min(product.n + i * 8 + self.group, inputs.columns - 1);
    }
    const int steps = (product.rows + 7) / 8;
    if (self.warp >= steps) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            sums[i * 32] = 0;
        }
    }
#pragma unroll 1
    for (int first = self.warp; first < steps; first += 4 * WARPS) {
        constexpr int AT_ONCE = 4;
        float a[AT_ONCE][2][4], b[AT_ONCE][2][2];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            const int step = min(first + u * WARPS, steps - 1);
            const float *of_gradients = gradients.first + static_cast<int64_t>(step) * 8 * gradients.row;
            const float *of_inputs = inputs.first + static_cast<int64_t>(step) * 8 * inputs.row;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                a[u][i][0] = of_gradients[left[i][0]];
                a[u][i][1] = of_gradients[left[i][1]];
                a[u][i][2] = of_gradients[left[i][0] + 4 * gradients.row];
                a[u][i][3] = of_gradients[left[i][1] + 4 * gradients.row];
                b[u][i][0] = of_inputs[right[i]];
                b[u][i][1] = of_inputs[right[i] + 4 * inputs.row];
            }
        }
        ShortTile of_steps[2][2];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            if (first + u * WARPS < steps) {
                const Right b0(b[u][0][0], b[u][0][1]), b1(b[u][1][0], b[u][1][1]);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const Left of_a(a[u][i][0], a[u][i][1], a[u][i][2], a[u][i][3]);
                    of_steps[i][0].add(of_a, b0);
                    of_steps[i][1].add(of_a, b1);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float sum = of_steps[i / 8][i / 4 % 2][i % 4];
            sums[i * 32] = first == self.warp ? sum : sums[i * 32] + sum;
        }
    }
}

// Partial sums of the columns, by each warp: the warps share the rows.
template <class Shape> DEVICE void add_up(const Shared<Shape> &shared, const Task &sums) {
    const Thread self = this_thread();
    const float *column = sums.gradients.first + min(sums.m + self.lane, sums.gradients.columns - 1);
    float sum = 0;
#pragma unroll 16
    for (int row = self.warp; row < sums.rows; row += WARPS) {
        sum += column[static_cast<int64_t>(row) * sums.gradients.row];
    }
    shared.tile_sums()[self.warp * TILE + self.lane] = sum;
}

// The mean loss and the count of correct images, in f64: an f32 holds neither to its last place. Whether the loss is finite.
template <class Shape> DEVICE bool sum_losses(const Shared<Shape> &shared, const float *losses, int images, StepResult *result) {
    const Thread self = this_thread();
    double loss = 0, correct = 0;
#pragma unroll 1
    for (int i = self.index; i < images; i += THREADS) {
        const float2 of_image = load2(losses + 2 * static_cast<int64_t>(i));
        loss += static_cast<double>(of_image.x);
        correct += static_cast<double>(of_image.y);
    }
#pragma unroll 1
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        loss += shuffle_xor(loss, lanes);
        correct += shuffle_xor(correct, lanes);
    }
    double *sums = reinterpret_cast<double *>(shared.tile_sums());
    if (self.lane == 0) {
        sums[2 * self.warp] = loss;
        sums[2 * self.warp + 1] = correct;
    }
    block_barrier();
    bool loss_finite = true;
    if (self.index == 0) {
        loss = correct = 0;
#pragma unroll 1
        for (int warp = 0; warp < WARPS; warp++) {
            loss += sums[2 * warp];
            correct += sums[2 * warp + 1];
        }
        *result = {loss / images, static_cast<uint32_t>(correct), static_cast<uint32_t>(images)};
        loss_finite = fabs(loss) <= 1.7976931348623157e308;
    }
    block_barrier();
    return loss_finite;
}

// All that a step ends with, cut into tasks.
template <class Shape> struct StepEnd {
    const Shape &shape;
    const TrainWorkspace<Shape> &work;
    int images;
    int blocks; // that have a share of the convolutions' gradient

    DEVICE int fc1_tiles() const { return tiles(FC1, 32) * tiles(shape.features(), 16); }
    DEVICE int fc2_tiles() const { return tiles(FC2, 32) * tiles(FC1, 16); }
    DEVICE int fc3_tiles() const { return tiles(shape.classes(), 32) * tiles(FC2, 16); }
    DEVICE int products() const { return fc1_tiles() + fc2_tiles() + fc3_tiles(); }
    DEVICE int sums() const {
        return tiles(CONVOLUTION_PARAMETERS, 32) + tiles(FC1, 32) + tiles(FC2, 32) + tiles(shape.classes(), 32);
    }

    DEVICE Rows of_fc1() const { return {work.fc1_gradient(), FC1, FC1}; }
    DEVICE Rows of_fc2() const { return {work.fc2_gradient(), FC2, FC2}; }
    DEVICE Rows of_fc3() const { return {work.fc3_gradient(), shape.class_row(), shape.classes()}; }

    DEVICE Task product(Rows gradients, Rows inputs, int offset, int tile) const {
        const int columns = tiles(inputs.columns, 16);
        return {gradients, inputs, images, offset, tile / columns * 32, tile % columns * 16};
    }

    // The losses are the last one, and not here.
    DEVICE Task task(int i) const {
        if (i < fc1_tiles()) {
            return product(of_fc1(), {work.features(), shape.features(), shape.features()}, Shape::FC1_WEIGHT, i);
        }
        i -= fc1_tiles();
        if (i < fc2_tiles()) {
            return product(of_fc2(), {work.fc1(), FC1, FC1}, shape.fc2_weight(), i);
        }
        i -= fc2_tiles();
        if (i < fc3_tiles()) {
            return product(of_fc3(), {work.fc2(), FC2, FC2}, shape.fc3_weight(), i);
        }
        i -= fc3_tiles();
        const Rows none = {nullptr, 0, 0};
        if (i < tiles(CONVOLUTION_PARAMETERS, 32)) {
            return {{work.slots(), CONVOLUTION_SLOT, CONVOLUTION_PARAMETERS}, none, blocks, 0, i * 32, 0};
        }
        i -= tiles(CONVOLUTION_PARAMETERS, 32);
        if (i < tiles(FC1, 32)) {
            return {of_fc1(), none, images, shape.fc1_bias(), i * 32, 0};
        }
        i -= tiles(FC1, 32);
        if (i < tiles(FC2, 32)) {
            return {of_fc2(), none, images, shape.fc2_bias(), i * 32, 0};
        }
        return {of_fc3(), none, images, shape.fc3_bias(), (i - tiles(FC2, 32)) * 32, 0};
    }
};

struct Finite {
    bool loss = true, results = true;
};

// The blocks take turns in the tasks of a step's end. Whether what this thread computed is finite.
template <class Shape>
DEVICE Finite finish_step(const Shared<Shape> &shared, const StepEnd<Shape> &end, const Update &update, StepResult *result) {
    Finite finite;
    const int tasks = end.products() + end.sums() + 1;
#pragma unroll 1
    for (int i = static_cast<int>(block_index()); i < tasks; i += static_cast<int>(block_count())) {
        if (i == tasks - 1) {
            finite.loss &= sum_losses(shared, end.work.losses(), end.images, result);
            continue;
        }
        const Thread self = this_thread();
        const Task task = end.task(i);
        // The two parameters that this thread will finish.
        int parameter[2];
        Weight weight[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            parameter[j] = task.parameter(self.index + j * THREADS);
            weight[j] = update.load(max(parameter[j], 0));
        }
        if (task.is_product()) {
            multiply(shared, task);
        } else {
            add_up(shared, task);
        }
        block_barrier();
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (parameter[j] >= 0) {
                float gradient = 0;
#pragma unroll
                for (int warp = 0; warp < WARPS; warp++) {
                    gradient += shared.tile_sums()[warp * TILE + self.index + j * THREADS];
                }
                finite.results &= update.apply(parameter[j], weight[j], gradient);
            }
        }
        block_barrier();
    }
    return finite;
}
