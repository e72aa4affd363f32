// Logits of any number of images. As in training, 16 blocks handle 16 images; they wait for each other twice.
#pragma once

#include "barriers.cuh"
#include "convolutions.cuh"
#include "fully_connected.cuh"
#include "loader.cuh"
#include "workspace.cuh"

template <class Shape, Activation ACTIVATION, Pooling POOLING> DEVICE void logits(const LogitsArguments &arguments) {
    const Shape shape(arguments.network);
    const Shared<Shape> shared(shape);
    const LogitsWorkspace<Shape> work(shape, arguments.workspace);
    const Loader<Shape> loader(shape, arguments.images, nullptr);
    const float *parameters = arguments.parameters;
    const int groups = static_cast<int>(block_count()) / GROUP;
    const int group = static_cast<int>(block_index()) / GROUP, place = static_cast<int>(block_index()) % GROUP;
    unsigned *group_counter = Signals{static_cast<unsigned *>(arguments.workspace)}.group(group);
    const int64_t group_row = static_cast<int64_t>(group) * GROUP, row = group_row + place; // of the workspace
    const int images = static_cast<int>(arguments.images.count), rounds = (images + GROUP - 1) / GROUP;
    const auto image_of = [&](int round) { return min(round * GROUP + place, images - 1); };

    loader.prepare(shared);
    Asked asked;
    if (group < rounds) {
        loader.ask(asked, loader.index(image_of(group)));
        stage_conv1(shared, parameters);
        commit_async();
        stage_conv2(shared, parameters);
        stage_fc3(shape, shared, parameters);
        commit_async();
    }
    for (int round = group; round < rounds; round += groups) {
        block_barrier();
        loader.store(asked, shared);
        wait_async<1>();
        block_barrier();
        if (round == group && this_thread().warp == WARPS - 1) {
            stage_fc2(shape, shared, parameters);
        }
        commit_async();
        conv1_forward<ACTIVATION, POOLING, false>(shape, shared);
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
        if (round + groups < rounds) {
            loader.ask(asked, loader.index(image_of(round + groups)));
        }
        wait_async<0>();
        block_barrier();
        fc2_forward<ACTIVATION>(shape, shared);
        block_barrier();
        fc3_forward(shape, shared, fc3_weights(shape, shared, parameters), shared.logits());
        block_barrier();
        const int64_t image = static_cast<int64_t>(round) * GROUP + place;
        if (image < images) {
            for (int i = this_thread().index; i < shape.classes(); i += THREADS) {
                arguments.logits[image * shape.classes() + i] = shared.logits()[i];
            }
        }
    }
}
