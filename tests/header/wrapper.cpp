// Everything of lenet.hpp once: compiled and run by tests/header.rs.
#include <lenet.hpp>
#include <lenet.hpp>

#include <cstdlib>
#include <iostream>

static void require(bool condition, const char *what)
{
    if (!condition) {
        std::cerr << what << '\n';
        std::exit(EXIT_FAILURE);
    }
}

template <typename Exception, typename Call> static bool throws(Call call)
{
    try {
        call();
    } catch (const Exception &) {
        return true;
    }
    return false;
}

int main()
{
    using Bytes = std::vector<std::uint8_t>;
    const std::vector<float> images(2 * 784, 0.5f);
    const Bytes labels{1, 2};
    lenet::Model model(lenet::options(LENET_PRESET_MODERN));
    lenet::Model copy = model.clone();

    const auto [gradients, loss] = model.compute_gradients(images, labels);
    model.apply_gradients(gradients);
    require(copy.train_batch(images, labels) == loss, "the loss of the same batch");
    require(model.parameters() == copy.parameters(), "compute and apply is a step");
    copy.set_parameters(gradients);
    require(copy.parameters() == gradients, "parameters come back");
    require(model.logits(images).size() == 20 && model.layers().size() == 12, "sizes");
    require(model.predict(Bytes(784)).classes.size() == 1, "one image of bytes");

    const Bytes file = model.save();
    require(lenet::Model::load(file).save() == file, "a file in memory");
    model.save("wrapper.safetensors");
    require(lenet::Model::load("wrapper.safetensors").save() == file, "a file");
    lenet_options unpadded = lenet::options();
    unpadded.padding = 0;
    require(lenet::Model(unpadded).layers()[0].height == 24, "no padding");
    require(lenet::Model::load(file, unpadded).options().padding == 2, "the file knows its padding");
    require(lenet::Model::load("wrapper.safetensors", unpadded).save() == file, "a file, with options");

    const lenet::Dataset data = lenet::Dataset::from_memory(Bytes(2 * 784), labels, 28, 28);
    require(data.count() == 2 && data.size().first == 28 && data.read(1, 1).second[0] == 2, "data");
    require(model.fit(data), "a whole fit");
    const auto stop = [](const lenet_progress &) { return false; };
    require(!model.fit(data, &data, lenet::fit_options(), stop), "a cancelled fit");
    const auto fail = [](const lenet_progress &) -> bool { throw std::logic_error("mine"); };
    const auto fit = [&] { model.fit(data, nullptr, lenet::fit_options(), fail); };
    require(throws<std::logic_error>(fit), "an exception passes the library by");
    require(model.evaluate(data).metrics.count == 2, "evaluation after it");

    require(throws<std::invalid_argument>([&] { model.predict(Bytes(5)); }), "half an image");
    require(throws<std::invalid_argument>([&] { model.train_batch(images, Bytes(3)); }), "labels");
    require(throws<std::out_of_range>([&] { data.read(1, 2); }), "past the end");
    require(throws<lenet::Error>([&] { model.train_batch(images, Bytes{1, 10}); }), "label 10");
    require(throws<lenet::Error>([] { lenet::Model::load("no such file"); }), "no file");
    lenet::Model moved = std::move(model);
    moved.set_learning_rate(0.5);
    require(moved.options().learning_rate == 0.5, "the learning rate");
}
