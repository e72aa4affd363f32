// Training in one launch: any number of steps, or the gradient of one batch.
//
// A block handles one image at a time, 16 blocks the 16 images of a group; a batch of more images than there are blocks goes
// through several rounds before its step ends. Within a group the blocks wait for each other four times a round, all blocks twice a
// step.
#pragma once

#include "barriers.cuh"
#include "convolutions_backward.cuh"
#include "fully_connected.cuh"
#include "gradients.cuh"
#include "loader.cuh"

// The images of a step.
struct Batch {
    int first, images, rounds; // rounds of one group of 16 images

    DEVICE Batch(const TrainArguments &arguments, int step) {
        first = step * static_cast<int>(arguments.batch);
        images = min(static_cast<int>(arguments.batch), static_cast<int>(arguments.images.count) - first);
        rounds = (images + GROUP - 1) / GROUP;
    }
    // The image of a round and place in its group. Beyond the batch it is the last one again, which then counts for nothing.
    DEVICE int image(int round, int place) const { return first + min(round * GROUP + place, images - 1); }
};

// The set of weights that a step reads, or that the step before it writes.
DEVICE const float *set_of(const TrainArguments &arguments, int step) {
    return step == 0 || arguments.rule.rule == LENET_GRADIENT_ONLY ? arguments.first
           : step % 2 == 1                                         ? arguments.ping
                                                                   : arguments.pong;
}

// The rows above and below conv2's map, which its input gradient sees.
template <class Shape> DEVICE void zero_map2(const Shared<Shape> &shared) {
    for (int i = this_thread().index; i < CONV2 * shared.map2_channel(); i += THREADS) {
        shared.map2()[i] = 0;
    }
}

// One round of a group: images forward, and back to the gradients of what they share.
template <Activation ACTIVATION, Pooling POOLING, class Shape>
DEVICE void train_round(const Shape &shape, const Shared<Shape> &shared, const TrainWorkspace<Shape> &work,
                        const Loader<Shape> &loader, unsigned *group_counter, const float *parameters, const Batch &batch,
                        int round, bool first_round, Asked &asked, int64_t next_image) {
    const int group = static_cast<int>(block_index()) / GROUP, place = static_cast<int>(block_index()) % GROUP;
    const int64_t group_row = static_cast<int64_t>(round) * GROUP, row = group_row + place; // of the batch
    if (!asked.there) {
        loader.ask(asked, loader.index(batch.image(round, place)));
    }
    block_barrier();
    loader.store(asked, shared);
    const int label = static_cast<int>(asked.label);
    asked.there = false;
    wait_async<1>();
    block_barrier();

    if (this_thread().warp == WARPS - 1) {
        stage_fc2(shape, shared, parameters);
    }
    commit_async();
    conv1_forward<ACTIVATION, POOLING, true>(shape, shared);
    wait_async<1>();
    block_barrier();
    conv2_forward<ACTIVATION>(shape, shared);
    block_barrier();
    pool2_forward<POOLING>(shape, shared, work.features() + row * shape.features());
    Fc1Weights<Shape> fc1;
    fc1_load_weights(shape, parameters, fc1);

    group_barrier(group_counter);
    fc1_forward<ACTIVATION>(shape, shared, fc1, parameters, work.features() + group_row * shape.features(),
                            work.fc1() + group_row * FC1);

    group_barrier(group_counter);
    if (this_thread().index < FC1) {
        shared.fc1_output()[this_thread().index] = work.fc1()[row * FC1 + this_thread().index];
    }
    const uint32_t next = next_image >= 0 ? loader.index(static_cast<int>(next_image)) : 0;
    wait_async<0>();
    block_barrier();
    fc2_forward<ACTIVATION>(shape, shared);
    block_barrier();
    if (this_thread().index < FC2) {
        work.fc2()[row * FC2 + this_thread().index] = shared.fc2_output()[this_thread().index];
    }
    const float *fc3 = fc3_weights(shape, shared, parameters);
    fc3_forward(shape, shared, fc3, shared.logits());
    block_barrier();
    if (this_thread().warp == 0) {
        const float share = row < batch.images ? 1.0f / static_cast<float>(batch.images) : 0.0f;
        const Largest largest = softmax_gradient(shape, shared, label, share, work.fc3_gradient() + row * shape.class_row());
        if (this_thread().lane == 0) {
            *shared.largest() = largest;
        }
    }
    block_barrier();
    if (this_thread().index == THREADS - 1) { // of a warp that has nothing else to do
        const Largest largest = *shared.largest();
        store2(work.losses() + 2 * row, cross_entropy(largest, shared.logits()[label]), largest.output == label ? 1.0f : 0.0f);
    }
    fc3_backward<ACTIVATION>(shape, shared, fc3, work.fc2_gradient() + row * FC2);
    block_barrier();
    fc2_backward<ACTIVATION>(shape, shared, work.fc1_gradient() + row * FC1);
    Fc1BackWeights fc1_back;
    fc1_back_load_weights(shape, parameters, fc1_back);

    group_barrier(group_counter);
    float *features_gradient = work.features_gradient() + static_cast<int64_t>(group) * GROUP * shape.features();
    fc1_backward(shape, shared, fc1_back, parameters, work.fc1_gradient() + group_row * FC1, features_gradient);

    group_barrier(group_counter);
    if (next_image >= 0) {
        loader.ask(asked, next);
    }
    pool2_backward<ACTIVATION, POOLING>(shape, shared, features_gradient + place * shape.features());
    block_barrier();
    conv2_backward_columns(shape, shared);
    float *slot = work.slots() + static_cast<int64_t>(block_index()) * CONVOLUTION_SLOT;
    conv2_weights_gradient(shape, shared, first_round, slot);
    block_barrier();
    pool1_backward<ACTIVATION, POOLING>(shape, shared);
    block_barrier();
    conv1_weights_gradient(shape, shared, first_round, slot);
}

template <class Shape, Activation ACTIVATION, Pooling POOLING> DEVICE void train(const TrainArguments &arguments) {
    const Shape shape(arguments.network);
    const Shared<Shape> shared(shape);
    const TrainWorkspace<Shape> work = {shape, arguments};
    const Signals signals = {static_cast<unsigned *>(arguments.workspace)};
    const Loader<Shape> loader(shape, arguments.images, arguments.labels);
    const int groups = static_cast<int>(block_count()) / GROUP;
    const int group = static_cast<int>(block_index()) / GROUP, place = static_cast<int>(block_index()) % GROUP;
    const int steps = static_cast<int>(arguments.steps);
    const bool updates = arguments.rule.rule != LENET_GRADIENT_ONLY;

    loader.prepare(shared);
    zero_map2(shared);
    Asked asked;
    int step = 0;
    for (; step < steps; step++) {
        const Batch batch(arguments, step);
        const float *parameters = set_of(arguments, step);
        const bool works = group < batch.rounds;
        if (updates && thread_index() == 0) {
            copy_async<16>(shared.rates(), reinterpret_cast<const float *>(arguments.rates + step));
        }
        if (works) {
            stage_conv1(shared, parameters);
        }
        commit_async();
        if (works) {
            stage_conv2(shared, parameters);
            stage_fc3(shape, shared, parameters);
        }
        commit_async();
        for (int round = group; round < batch.rounds; round += groups) {
            // What this block will see after this image: in the same batch or, if this group has one there, in the next.
            int64_t next_image = -1;
            if (round + groups < batch.rounds) {
                next_image = batch.image(round + groups, place);
            } else if (step + 1 < steps && group < Batch(arguments, step + 1).rounds) {
                next_image = Batch(arguments, step + 1).image(group, place);
            }
            train_round<ACTIVATION, POOLING>(shape, shared, work, loader, signals.group(group), parameters, batch, round,
                                             round == group, asked, next_image);
        }
        wait_async<0>();
        // Of the step before this one: early enough, since its weights have not been written over yet, and nobody waits for the
        // answer.
        const Failures before = signals.failures();

        grid_barrier(signals.grid());
        if (before.reason(arguments.launch) != LENET_FINISHED) {
            break;
        }
        Update update = {
            parameters,        nullptr, arguments.gradient, arguments.rule, reinterpret_cast<const Rates *>(shared.rates()),
            shape.parameters()};
        if (updates) {
            update.next = const_cast<float *>(set_of(arguments, step + 1)); // ping or pong
        }
        const StepEnd<Shape> end = {shape, work, batch.images, min(batch.rounds, groups) * GROUP};
        const Finite finite = finish_step(shared, end, update, arguments.results + step);
        if (!finite.loss) {
            store_relaxed(signals.loss_not_finite(), arguments.launch);
        }
        if (!finite.results) {
            store_relaxed(signals.result_not_finite(), arguments.launch);
        }

        grid_barrier(signals.grid());
    }
    if (block_index() == 0 && thread_index() == 0) {
        const uint32_t reason = signals.failures().reason(arguments.launch);
        *arguments.report = {static_cast<uint32_t>(reason == LENET_FINISHED ? step : step - 1), reason};
    }
}
