// quickstart.c in C++: the same made-up classes, with a dataset, progress, evaluation, and errors as
// exceptions.
#include <cstdlib>
#include <iostream>
#include <lenet.hpp>

int main()
{
    constexpr std::size_t n = 100, side = 28;
    std::vector<std::uint8_t> images(n * side * side), labels(n);
    for (std::size_t i = 0; i < n; i++) {
        labels[i] = static_cast<std::uint8_t>(i % 10);
        for (std::size_t p = 0; p < side * side; p++) // the bar: rows 2k + 4 and 2k + 5
            images[i * side * side + p] =
                static_cast<std::uint8_t>(p / side / 2 == labels[i] + 2u ? 255 : std::rand() % 64);
    }
    try {
        const lenet::Dataset data = lenet::Dataset::from_memory(images, labels, side, side);
        lenet::Model model(lenet::options(LENET_PRESET_MODERN));
        lenet_fit_options options = lenet::fit_options();
        options.epochs = 30;
        options.batch_size = n;
        model.fit(data, nullptr, options, [](const lenet_progress &at) {
            if (at.event == LENET_PROGRESS_EPOCH_END && at.epoch % 10 == 0)
                std::cout << "epoch " << at.epoch << ": loss " << at.loss << '\n';
            return true;
        });
        model.save("quickstart_cpp.safetensors");

        const lenet::Model loaded = lenet::Model::load("quickstart_cpp.safetensors");
        const lenet::Evaluation evaluation = loaded.evaluate(data);
        std::cout << evaluation.metrics.correct << " of " << evaluation.metrics.count << " right\n";
        std::cout << (loaded.predict(images).probabilities == model.predict(images).probabilities
                          ? "the loaded model predicts the same\n"
                          : "the loaded model predicts something else\n");
        labels[17] = 12;
        model.train_batch(images, labels);
    } catch (const lenet::Error &error) { // the last call's, on purpose
        std::cout << error.what() << '\n';
    }
}
