// Everything of lenet.hpp once: compiled and run by tests/header.rs, which also sees that no function
// of lenet.h is missing.
#include <lenet.hpp>
#include <lenet.hpp>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#if __cplusplus >= 202002L
#include <span>
#endif

using Bytes = std::vector<std::uint8_t>;
using Floats = std::vector<float>;

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

/* What a call that is refused says. */
template <typename Call> static std::string refusal(Call call)
{
    try {
        call();
    } catch (const std::exception &error) {
        return error.what();
    }
    return "not refused";
}

// What programs wrote against lenet.hpp 1.0: vectors only.
static void as_in_1_0()
{
    const Floats images(2 * 784, 0.5f);
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
    require(model.predict<float>(images).classes.size() == 2, "the type of pixel given");
    require(model.logits({images.begin(), images.begin() + 784}).size() == 10, "a vector's iterators");
    require(model.logits({images.data(), images.data() + 784}).size() == 10, "two pointers");
    require(copy.train_batch(images, {labels.begin(), labels.end()}) > 0, "labels from iterators");
    require(copy.train_batch(images, {0, 3}) > 0, "labels in braces");

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
    const lenet::Model::Progress fail = [](const lenet_progress &) -> bool { throw std::logic_error("mine"); };
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

// ---- spans: whatever lies in a row, without a copy

// A container of somebody's own; its size has a sign, as Eigen's has.
struct Frame {
    Floats pixels = Floats(784, 0.25f);
    const float *data() const { return pixels.data(); }
    std::ptrdiff_t size() const { return static_cast<std::ptrdiff_t>(pixels.size()); }
};

template <typename From, typename To> constexpr bool becomes = std::is_convertible_v<From, To>;
using ConstFloats = lenet::Span<const float>;
using ConstBytes = lenet::Span<const std::uint8_t>;

static_assert(becomes<Floats &, ConstFloats> && becomes<const Floats &, ConstFloats> && becomes<Floats, ConstFloats>);
static_assert(becomes<Floats &, lenet::Span<float>> && becomes<lenet::Span<float>, ConstFloats>);
static_assert(!becomes<const Floats &, lenet::Span<float>>, "const stays const");
static_assert(!becomes<Floats, lenet::Span<float>>, "what is written into a temporary is lost");
static_assert(!becomes<Floats &, ConstBytes> && !becomes<Bytes &, ConstFloats>, "float or bytes, never both");
static_assert(!becomes<std::vector<double> &, ConstFloats> && !becomes<std::vector<char> &, ConstBytes>);
static_assert(!becomes<const char *, ConstBytes> && !becomes<const float *, ConstFloats> && !becomes<int, ConstBytes>);
static_assert(!becomes<std::string &, ConstBytes> && !becomes<std::vector<bool> &, ConstBytes>);

static void spans()
{
    const lenet::Model model(lenet::options(LENET_PRESET_MODERN));
    Floats vector(784, 0.25f);
    static float array[784];
    std::array<float, 784> std_array = {};
    for (std::size_t i = 0; i < 784; i++)
        array[i] = std_array[i] = 0.25f;
    const Floats expected = model.logits(vector);
    const float *pointer = vector.data();
    const std::size_t count = vector.size();
    require(model.logits(array) == expected, "a C array");
    require(model.logits(std_array) == expected, "std::array");
    require(model.logits(Frame()) == expected, "a container of one's own");
    require(model.logits({pointer, count}) == expected, "a pointer and a count in braces");
    require(model.logits(lenet::Span(pointer, count)) == expected, "a span of const");
    require(model.logits(lenet::Span<float>(vector)) == expected, "a span that could be written to");
#if __cplusplus >= 202002L
    require(model.logits(std::span(vector)) == expected, "std::span");
    require(model.logits(std::span<const float, 784>(std_array)) == expected, "std::span of a fixed size");
#endif

    lenet::Span<float> writable(vector);
    writable[3] = 0.75f;
    const ConstFloats readable = vector;
    require(readable.data() == pointer && readable.size() == count && vector[3] == 0.75f, "no copy");
    require(readable.begin() == pointer && readable.end() == pointer + count && readable[3] == 0.75f, "elements");
    require(ConstFloats(vector.end(), vector.end()).size() == 0 && ConstFloats().data() == nullptr, "nothing");

    // As floats, as bytes.
    const Bytes bytes(2 * 784, 51), labels{1, 2};
    Floats floats(2 * 784, 0.2f);
    require(model.predict(bytes).probabilities == model.predict(floats).probabilities, "predictions");
    require(model.logits(bytes) == model.logits(floats), "logits");
    require(model.features(bytes) == model.features(floats), "features");
    require(model.features(bytes).size() == 2 * 84, "84 features an image");
    require(model.compute_gradients(bytes, labels) == model.compute_gradients(floats, labels), "gradients");
    const std::array<float, 2> same = {2.0f, 2.0f};
    std::array<lenet::Model, 5> copies = {model.clone(), model.clone(), model.clone(), model.clone(), model.clone()};
    const float loss = copies[0].train_batch(bytes, labels);
    require(copies[1].train_batch(floats, labels) == loss, "a step");
    require(copies[2].train_batch(bytes, labels, same) == loss, "a step with equal weights");
    require(copies[3].train_batch(floats, labels, {0.5f, 0.5f}) == loss, "weights in braces");
    for (std::size_t i = 1; i < 4; i++)
        require(copies[i].parameters() == copies[0].parameters(), "the same step");
    require(copies[4].train_batch(bytes, labels, {1.0f, 0.0f}) != loss, "one image only");
    require(refusal([&] { copies[4].train_batch(bytes, labels, {1.0f}); }) == "weights has 1 elements, labels 2", "");
    require(refusal([&] { copies[4].train_batch(bytes, {1}); }) == "images has 2 images, labels 1 elements", "");
    require(refusal([&] { model.predict(Bytes(5)); }) == "images has 5 pixels; the model takes images of 784", "");
}

// ---- pictures

// What cv::Mat is to this: public fields, and a step that converts to a number, also to one to write to.
struct MatStep {
    std::size_t bytes;
    operator std::size_t() const { return bytes; }
    operator std::size_t &() { return bytes; }
};
struct Mat {
    int rows, cols;
    std::uint8_t *data;
    MatStep step;
};

static void pictures()
{
    lenet::Model model(lenet::options(LENET_PRESET_MODERN));
    // The left 28 of 40 columns.
    Bytes frame(28 * 3 * 40, 9), gray(784);
    for (std::size_t i = 0; i < 784; i++) {
        gray[i] = static_cast<std::uint8_t>(i * i / 3 % 256);
        for (std::size_t channel = 0; channel < 3; channel++)
            frame[i / 28 * 120 + i % 28 * 3 + channel] = gray[i];
    }
    Mat mat{28, 28, frame.data(), {120}};
    const lenet::Prediction expected = model.predict(gray);
    const lenet::Prediction seen =
        model.predict_image(lenet::image(mat.data, mat.rows, mat.cols, LENET_FORMAT_BGR8, mat.step));
    require(seen.classes == expected.classes && seen.probabilities == expected.probabilities, "a Mat");
    require(model.prepare_image(lenet::image(frame, 28, 28u, LENET_FORMAT_RGB8, 120)) == gray, "a vector, an int");
    const std::uint8_t *pixels = gray.data();
    require(model.prepare_image(lenet::image(pixels, 28L, std::uint16_t{28}, LENET_FORMAT_GRAY8)) == gray, "touching");

    const lenet_image view = lenet::image(frame.data() + 120, 2, 3, LENET_FORMAT_RGB8, 120);
    require(view.struct_size == sizeof view && view.format == LENET_FORMAT_RGB8 && view.height == 2, "fields");
    require(view.width == 3 && view.stride == 120 && view.pixels == frame.data() + 120, "and no copy");

    const auto sized = [&](int rows, std::int64_t columns, long stride) {
        return refusal([&] { lenet::image(pixels, rows, columns, LENET_FORMAT_GRAY8, stride); });
    };
    require(sized(-1, 28, 0) == "rows is -1, below 0", "rows");
    require(sized(28, -2, 0) == "columns is -2, below 0", "columns");
    require(sized(28, 4294967296, 0) == "columns is 4294967296, too large", "large columns");
    require(sized(28, 28, -28) == "stride is -28, below 0", "a picture that stands on its head");
    // What is a range has a size, which must do for the last row, but no longer.
    const auto rows = [&](int n, std::size_t stride) {
        return refusal([&] { lenet::image(gray, n, 28, LENET_FORMAT_GRAY8, stride); });
    };
    require(rows(28, 0) == "not refused" && rows(25, 31) == "not refused", "just enough");
    require(rows(29, 0) == "pixels has 784 bytes, too few for 29 rows of 28 bytes, 28 apart", "a row short");
    require(rows(25, 32) == "pixels has 784 bytes, too few for 25 rows of 28 bytes, 32 apart", "bytes short");
    std::uint8_t array[4] = {1, 2, 3, 4};
    require(lenet::image(array, 2, 2, LENET_FORMAT_GRAY8).pixels == array, "a C array");
    require(throws<std::invalid_argument>([&] { lenet::image(array, 2, 2, LENET_FORMAT_RGBA8); }), "of too few");
    for (const int format : {-1, 9}) // the library's to say
        require(throws<lenet::Error>([&] { model.predict_image(lenet::image(array, 2, 2, format)); }), "a format");
    require(throws<lenet::Error>([&] { model.predict_image(lenet::image(array, 0, 0, LENET_FORMAT_RGB8)); }), "none");

    std::ofstream("gray.pgm", std::ios::binary) << "P5 28 28 255\n" << std::string(gray.begin(), gray.end());
    require(model.predict_file("gray.pgm").probabilities == expected.probabilities, "a picture file");
}

// ---- data of one's own, names, trust, more classes

static void write_picture(const std::string &path, char grey)
{
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << "P5 28 28 255\n" << std::string(784, grey);
}

static void own_data()
{
    for (const std::string name : {"1", "2", "3", "4"}) {
        write_picture("pictures/cat/" + name + ".pgm", '\x10');
        write_picture("pictures/dog/" + name + ".pgm", '\x70');
    }
    const lenet_options options = lenet::options(LENET_PRESET_MODERN);
    const lenet::Dataset data = lenet::Dataset::open_folder("pictures", options);
    const std::vector<std::string> names{"cat", "dog"};
    require(data.count() == 8 && data.class_count() == 2 && data.class_names() == names, "classes");
    require(data.class_counts() == std::vector<std::uint64_t>{4, 4}, "counts");
    const auto [mean, deviation] = data.statistics();
    require(mean > 0.25 && mean < 0.251 && deviation > 0.188 && deviation < 0.189, "statistics");
    auto [train, rest] = data.split(0.75, 7);
    require(train.count() == 6 && rest.class_counts() == std::vector<std::uint64_t>{1, 1}, "a split");

    std::uint64_t read = 0;
    const auto count = [&](const lenet_progress &at) { return (read = at.step) <= at.steps; };
    require(lenet::Dataset::open_folder("pictures", options, count).count() == 8 && read == 8, "progress");
    require(lenet::Dataset::open_folder("pictures", options, lenet::Progress()).count() == 8, "none");
    const auto stopped = [&](lenet::Progress progress) { lenet::Dataset::open_folder("pictures", options, progress); };
    const auto fail = [](const lenet_progress &) -> bool { throw std::logic_error("mine"); };
    require(throws<std::logic_error>([&] { stopped(fail); }), "what progress throws");
    try {
        stopped([](const lenet_progress &) { return false; });
        require(false, "cancelled");
    } catch (const lenet::Error &error) {
        require(error.status() == LENET_ERROR_CANCELLED, "cancelled");
    }

    std::ofstream csv("digits.csv");
    csv << 7;
    for (int i = 0; i < 784; i++)
        csv << ',' << i % 256;
    csv.close();
    require(lenet::Dataset::open_csv("digits.csv", 28, 28).read(0, 1).second == Bytes{7}, "a table");
    std::ofstream("images", std::ios::binary) << std::string("\0\0\10\3\0\0\0\1\0\0\0\2\0\0\0\2\1\2\3\4", 20);
    std::ofstream("labels", std::ios::binary) << std::string("\0\0\10\1\0\0\0\1\5", 9);
    require(lenet::Dataset::open("images", "labels").read(0, 1).first == Bytes({1, 2, 3, 4}), "IDX");
    const std::uint8_t one = 1;
    require(lenet::Dataset::from_memory(Bytes(784), {&one, 1}, 28, 28).count() == 1, "memory");
    require(throws<std::invalid_argument>([] { lenet::Dataset::from_memory(Bytes(783), {1}, 28, 28); }), "783");

    lenet_options two = options;
    two.classes = 2;
    lenet::Model model(two);
    require(model.class_names() == std::vector<std::string>(2), "no names");
    model.set_class_names({"Katze", "Hund"});
    require(model.class_names()[1] == "Hund", "names");
    const std::array<std::string, 2> renamed = {"chat", "chien"};
    model.set_class_names(renamed);
    require(model.clone().class_names()[0] == "chat", "other names");
    require(throws<lenet::Error>([&] { model.set_class_names({"one"}); }), "one name of two");
    model.set_class_names({});
    require(model.class_names()[0].empty(), "names taken away");
    const std::string cut("a\0b", 3);
    require(refusal([&] { model.set_class_names({"a", cut}); }) == "names[1] has a NUL at 1", "a cut name");
    require(refusal([&] { lenet::Model::load(cut); }) == "path has a NUL at 1", "a cut path");

    model.fit(train, &rest, lenet::fit_options(), [&](const lenet_progress &at) {
        model.set_learning_rate(0.001 / at.epoch);
        return true;
    });
    require(model.options().learning_rate == 0.0001, "a learning rate set from inside of a fit");
    const lenet_calibration found = model.calibrate(rest, 0.5);
    require(found.temperature > 0 && model.calibration().temperature == found.temperature, "calibration");
    const lenet::Model three = model.clone_with_classes(3);
    require(three.options().classes == 3 && three.predict(Bytes(784)).probabilities.size() == 3, "a third class");
}

static void library()
{
    require(lenet::version() == LENET_VERSION && lenet::version_number() == LENET_VERSION_NUMBER, "versions");
    require(!lenet::build_info().empty() && lenet::device_count(LENET_DEVICE_CPU) == 1, "the CPU");
    require(throws<lenet::Error>([] { lenet::device_count(99); }), "no such device");
}

int main()
{
    as_in_1_0();
    spans();
    pictures();
    own_data();
    library();
}
