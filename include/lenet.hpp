/* lenet.hpp: lenet.h for C++17, header only. What the functions do, lenet.h says; here handles free
 * themselves, a failed call throws lenet::Error, and sizes are checked against the model's, which throws
 * std::invalid_argument or std::out_of_range.
 *
 * Nothing that is passed is copied: arguments are lenet::Span, which any contiguous memory converts to.
 * A picture with a stride is a lenet::image, such as OpenCV's Mat:
 *
 *     model.predict_image(lenet::image(mat.data, mat.rows, mat.cols, LENET_FORMAT_BGR8, mat.step));
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef LENET_HPP
#define LENET_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lenet.h"

namespace lenet {

/** A call that failed: status() is its LENET_ERROR_ constant, what() the library's message. */
class Error : public std::runtime_error {
public:
    Error(lenet_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    lenet_status status() const noexcept { return status_; }

private:
    lenet_status status_;
};

/** Throws unless status is LENET_OK. */
inline void check(lenet_status status)
{
    if (status != LENET_OK)
        throw Error(status, std::string(lenet_status_name(status)) + ": " + lenet_last_error());
}

/** Elements in a row that someone else owns: std::span, for C++17 too. Made of {pointer, count}, and of what
 * std::data() and std::size() know: std::vector, std::array, std::span, a C array, a list in braces, a
 * container of your own; also of two pointers or a vector's iterators. Of temporaries only if T is const.
 * It lives no longer than they do, so it is a type for parameters. */
template <typename T> class Span {
    using Value = std::remove_const_t<T>;
    template <typename Range> using Element = std::remove_pointer_t<decltype(std::data(std::declval<Range &>()))>;

    /* Of pointers to arrays: const may be added, but nothing else converted. */
    template <typename Range>
    using IfRange = std::enable_if_t<std::is_convertible_v<Element<Range> (*)[], T (*)[]> &&
                                     (std::is_const_v<T> || std::is_lvalue_reference_v<Range>)>;

    /* C++17 cannot ask an iterator whether what it passes lies in a row. */
    template <typename I>
    using IfIterator = std::enable_if_t<std::is_convertible_v<I, T *> ||
                                        std::is_same_v<I, typename std::vector<Value>::iterator> ||
                                        (std::is_same_v<I, typename std::vector<Value>::const_iterator> &&
                                         std::is_const_v<T>)>;

public:
    constexpr Span() noexcept = default;
    constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

    template <typename Range, typename = IfRange<Range>>
    constexpr Span(Range &&range) : data_(std::data(range)), size_(static_cast<std::size_t>(std::size(range)))
    {
    }

    template <typename Iterator, typename = IfIterator<Iterator>>
    constexpr Span(Iterator first, Iterator last)
        : Span(first == last ? nullptr : &*first, static_cast<std::size_t>(last - first))
    {
    }

    template <typename U = T, typename = std::enable_if_t<std::is_const_v<U>>>
    constexpr Span(std::initializer_list<std::remove_const_t<U>> list) noexcept : Span(list.begin(), list.size())
    {
    }

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/** Called while something takes long; returns whether to go on. */
using Progress = std::function<bool(const lenet_progress &)>;

namespace detail {

/* Of a number from 0 to max, of any integer type, so that a caller's int needs no cast. */
template <typename To, typename From> To whole(const char *name, From value)
{
    static_assert(std::is_integral_v<From>, "a size is a whole number");
    if constexpr (std::is_signed_v<From>)
        if (value < 0)
            throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", below 0");
    const auto positive = static_cast<std::make_unsigned_t<From>>(value);
    if (positive > std::numeric_limits<To>::max())
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", too large");
    return static_cast<To>(positive);
}

/* A string for C, where it would end at a NUL inside of it. */
inline const char *c_string(const std::string &name, const std::string &text)
{
    if (text.find('\0') != std::string::npos)
        throw std::invalid_argument(name + " has a NUL at " + std::to_string(text.find('\0')));
    return text.c_str();
}

/* As many bytes as the rows of a picture take. A size or format that makes no sense the library refuses. */
inline void require_rows(std::size_t size, const lenet_image &image)
{
    std::size_t channels = 1;
    if (image.format == LENET_FORMAT_RGB8 || image.format == LENET_FORMAT_BGR8)
        channels = 3;
    else if (image.format == LENET_FORMAT_RGBA8 || image.format == LENET_FORMAT_BGRA8)
        channels = 4;
    const std::size_t row = channels * image.width;
    const std::size_t distance = image.stride != 0 ? image.stride : row;
    if (image.height == 0 || image.width == 0)
        return;
    if (size < row || (size - row) / distance < image.height - 1)
        throw std::invalid_argument("pixels has " + std::to_string(size) + " bytes, too few for " +
                                    std::to_string(image.height) + " rows of " + std::to_string(row) + " bytes, " +
                                    std::to_string(distance) + " apart");
}

/* Keeps exceptions out of the library: none may pass through it. */
struct ProgressCall {
    Progress progress;
    std::exception_ptr exception = nullptr;

    static std::int32_t call(const lenet_progress *at, void *user_data)
    {
        ProgressCall *self = static_cast<ProgressCall *>(user_data);
        try {
            return self->progress(*at) ? 0 : 1;
        } catch (...) {
            self->exception = std::current_exception();
            return 1;
        }
    }

    lenet_progress_fn function() const { return progress ? &ProgressCall::call : nullptr; }

    /* What progress threw, if it did. */
    void rethrow() const
    {
        if (exception)
            std::rethrow_exception(exception);
    }
};

/* The functions for images of a type of pixel. */
template <typename Pixel> struct Functions;

template <> struct Functions<float> {
    static constexpr auto train_batch = &lenet_train_batch;
    static constexpr auto train_batch_weighted = &lenet_train_batch_weighted;
    static constexpr auto predict = &lenet_predict;
    static constexpr auto logits = &lenet_logits;
    static constexpr auto features = &lenet_features;
    static constexpr auto compute_gradients = &lenet_compute_gradients;
};

template <> struct Functions<std::uint8_t> {
    static constexpr auto train_batch = &lenet_train_batch_u8;
    static constexpr auto train_batch_weighted = &lenet_train_batch_weighted_u8;
    static constexpr auto predict = &lenet_predict_u8;
    static constexpr auto logits = &lenet_logits_u8;
    static constexpr auto features = &lenet_features_u8;
    static constexpr auto compute_gradients = &lenet_compute_gradients_u8;
};

} // namespace detail

/** The version of the library that runs; lenet.h's own is LENET_VERSION. */
inline std::string version() { return lenet_version(); }

/** The same as a number, to be compared with LENET_VERSION_NUMBER. */
inline std::uint32_t version_number() noexcept { return lenet_version_number(); }

/** Which engine computes, and with which instructions. */
inline std::string build_info() { return lenet_build_info(); }

/** How many devices of a kind (LENET_DEVICE_) there are. */
inline std::uint32_t device_count(std::int32_t device)
{
    std::uint32_t count = 0;
    check(lenet_device_count(device, &count));
    return count;
}

/** The options of a preset, to be changed and passed to Model. */
inline lenet_options options(std::int32_t preset = LENET_PRESET_CLASSIC)
{
    lenet_options options;
    check(lenet_options_init(&options, sizeof options, preset));
    return options;
}

/** The fit options of a preset. */
inline lenet_fit_options fit_options(std::int32_t preset = LENET_PRESET_CLASSIC)
{
    lenet_fit_options options;
    check(lenet_fit_options_init(&options, sizeof options, preset));
    return options;
}

/** A picture in memory that the caller keeps. pixels: a pointer to std::uint8_t, or anything that converts to
 * Span<const std::uint8_t>, whose size is then checked. rows, columns: integers of any type. stride: bytes
 * from a row to the next, an integer of any type or what converts to std::size_t, such as cv::MatStep; 0:
 * rows touch. Negative numbers are std::invalid_argument. */
template <typename Pixels, typename Rows, typename Columns, typename Stride = std::size_t>
lenet_image image(const Pixels &pixels, Rows rows, Columns columns, std::int32_t format, const Stride &stride = 0)
{
    lenet_image image = {};
    image.struct_size = sizeof image;
    image.format = format;
    image.height = detail::whole<std::uint32_t>("rows", rows);
    image.width = detail::whole<std::uint32_t>("columns", columns);
    if constexpr (std::is_integral_v<Stride>)
        image.stride = detail::whole<std::size_t>("stride", stride);
    else
        image.stride = stride;

    if constexpr (std::is_convertible_v<const Pixels &, Span<const std::uint8_t>>) {
        const Span<const std::uint8_t> span(pixels);
        detail::require_rows(span.size(), image);
        image.pixels = span.data();
    } else {
        image.pixels = pixels;
    }
    return image;
}

/** Labelled images; move only. */
class Dataset {
public:
    /** A pair of IDX files. */
    static Dataset open(const std::string &images_path, const std::string &labels_path)
    {
        lenet_dataset *dataset = nullptr;
        check(lenet_dataset_open(detail::c_string("images_path", images_path),
                                 detail::c_string("labels_path", labels_path), &dataset));
        return Dataset(dataset);
    }

    /** A folder with a folder of pictures for each class, prepared for a model of these options. */
    static Dataset open_folder(const std::string &path, const lenet_options &options = lenet::options())
    {
        lenet_dataset *dataset = nullptr;
        check(lenet_dataset_open_folder(detail::c_string("path", path), &options, &dataset));
        return Dataset(dataset);
    }

    /** The same with progress. If that returns false, Error has LENET_ERROR_CANCELLED; what it throws, this
     * throws. */
    static Dataset open_folder(const std::string &path, const lenet_options &options, Progress progress)
    {
        lenet_dataset *dataset = nullptr;
        detail::ProgressCall caller{std::move(progress)};
        const lenet_status status = lenet_dataset_open_folder_with(detail::c_string("path", path), &options,
                                                                   caller.function(), &caller, &dataset);
        caller.rethrow();
        check(status);
        return Dataset(dataset);
    }

    /** A table with a row for each image. */
    static Dataset open_csv(const std::string &path, std::uint32_t height, std::uint32_t width)
    {
        lenet_dataset *dataset = nullptr;
        check(lenet_dataset_open_csv(detail::c_string("path", path), height, width, &dataset));
        return Dataset(dataset);
    }

    /** Copies them. images: labels.size() * height * width bytes. */
    static Dataset from_memory(Span<const std::uint8_t> images, Span<const std::uint8_t> labels, std::uint32_t height,
                               std::uint32_t width)
    {
        if (images.size() != labels.size() * height * width)
            throw std::invalid_argument("images has " + std::to_string(images.size()) + " bytes, labels " +
                                        std::to_string(labels.size()) + " elements: not as many images of " +
                                        std::to_string(height) + " x " + std::to_string(width));
        lenet_dataset *dataset = nullptr;
        check(lenet_dataset_from_memory(images.data(), labels.data(), labels.size(), height, width, &dataset));
        return Dataset(dataset);
    }

    std::size_t count() const noexcept { return lenet_dataset_count(dataset_.get()); }

    /** {height, width} */
    std::pair<std::uint32_t, std::uint32_t> size() const
    {
        std::uint32_t height = 0, width = 0;
        check(lenet_dataset_size(get(), &height, &width));
        return {height, width};
    }

    /** {images, labels} of the n images from first on. */
    std::pair<std::vector<std::uint8_t>, std::vector<std::uint8_t>> read(std::size_t first, std::size_t n) const
    {
        if (first > count() || n > count() - first)
            throw std::out_of_range("read: first is " + std::to_string(first) + ", n " + std::to_string(n) +
                                    "; the dataset has " + std::to_string(count()) + " images");
        const auto [height, width] = size();
        std::vector<std::uint8_t> images(n * height * width), labels(n);
        check(lenet_dataset_read(get(), first, n, images.data(), labels.data()));
        return {std::move(images), std::move(labels)};
    }

    /** {a fraction of it, the rest}, of each class alike. */
    std::pair<Dataset, Dataset> split(double fraction, std::uint64_t seed = 0) const
    {
        lenet_dataset *first = nullptr, *rest = nullptr;
        check(lenet_dataset_split(get(), fraction, seed, &first, &rest));
        return {Dataset(first), Dataset(rest)};
    }

    std::size_t class_count() const noexcept { return lenet_dataset_class_count(dataset_.get()); }

    /** Images of each class. */
    std::vector<std::uint64_t> class_counts() const
    {
        std::vector<std::uint64_t> counts(class_count());
        check(lenet_dataset_class_counts(get(), counts.data(), counts.size()));
        return counts;
    }

    /** A name for each class, "" where it has none. */
    std::vector<std::string> class_names() const
    {
        std::vector<std::string> names(class_count());
        for (std::size_t i = 0; i < names.size(); i++) {
            char name[256]; /* enough for any */
            check(lenet_dataset_class_name(get(), i, name, sizeof name, nullptr));
            names[i] = name;
        }
        return names;
    }

    /** {mean, standard deviation} of the pixels / 255, for input_mean and input_std. */
    std::pair<double, double> statistics() const
    {
        double mean = 0, deviation = 0;
        check(lenet_dataset_statistics(get(), &mean, &deviation));
        return {mean, deviation};
    }

    const lenet_dataset *get() const noexcept { return dataset_.get(); }

private:
    struct Free {
        void operator()(lenet_dataset *dataset) const noexcept { lenet_dataset_free(dataset); }
    };
    explicit Dataset(lenet_dataset *dataset) : dataset_(dataset) {}
    std::unique_ptr<lenet_dataset, Free> dataset_;
};

/** n classes and n * classes probabilities. */
struct Prediction {
    std::vector<std::uint8_t> classes;
    std::vector<float> probabilities;
};

/** Metrics, and classes * classes counts, row = truth, column = prediction. */
struct Evaluation {
    lenet_metrics metrics;
    std::vector<std::uint64_t> confusion;
};

/** A model; move only, clone() copies. Pixels are std::uint8_t (0..255) or float (0..1). */
class Model {
public:
    explicit Model(const lenet_options &options = lenet::options()) : Model(make(options)) {}

    /** What lenet_save() wrote. Another program's file needs options, which it does not tell itself. */
    static Model load(const std::string &path) { return load(path, nullptr); }
    static Model load(const std::string &path, const lenet_options &options) { return load(path, &options); }

    /** The same from memory. */
    static Model load(Span<const std::uint8_t> file) { return load(file, nullptr); }
    static Model load(Span<const std::uint8_t> file, const lenet_options &options) { return load(file, &options); }

    void save(const std::string &path) const { check(lenet_save(get(), detail::c_string("path", path))); }

    std::vector<std::uint8_t> save() const
    {
        std::size_t needed = 0;
        check(lenet_save_buffer(get(), nullptr, 0, &needed));
        for (;;) { /* a model in training may need a little more the next time */
            std::vector<std::uint8_t> file(needed);
            const lenet_status status = lenet_save_buffer(get(), file.data(), file.size(), &needed);
            if (status == LENET_ERROR_BUFFER_TOO_SMALL)
                continue;
            check(status);
            file.resize(needed);
            return file;
        }
    }

    Model clone() const
    {
        lenet_model *copy = nullptr;
        check(lenet_clone(get(), &copy));
        return Model(copy);
    }

    /** A copy that knows more classes, or fewer. */
    Model clone_with_classes(std::uint32_t classes) const
    {
        lenet_model *copy = nullptr;
        check(lenet_clone_with_classes(get(), classes, &copy));
        return Model(copy);
    }

    lenet_options options() const
    {
        lenet_options options = lenet::options();
        check(lenet_get_options(get(), &options));
        return options;
    }

    std::vector<lenet_layer> layers() const
    {
        std::vector<lenet_layer> layers;
        for (;;) {
            lenet_layer layer = {};
            layer.struct_size = sizeof layer;
            const lenet_status status = lenet_get_layer(get(), layers.size(), &layer);
            if (status == LENET_ERROR_NOT_FOUND)
                return layers;
            check(status);
            layers.push_back(layer);
        }
    }

    /** A name for each class, "" where it has none. */
    std::vector<std::string> class_names() const
    {
        std::vector<std::string> names(options().classes);
        for (std::size_t i = 0; i < names.size(); i++) {
            char name[256]; /* enough for any */
            check(lenet_class_name(get(), i, name, sizeof name, nullptr));
            names[i] = name;
        }
        return names;
    }

    /** As many as there are classes, or none, which takes them away. */
    void set_class_names(Span<const std::string> names)
    {
        std::vector<const char *> pointers;
        for (std::size_t i = 0; i < names.size(); i++)
            pointers.push_back(detail::c_string("names[" + std::to_string(i) + "]", names[i]));
        check(lenet_set_class_names(get(), pointers.data(), pointers.size()));
    }

    /** One step; the loss before it. */
    float train_batch(Span<const float> images, Span<const std::uint8_t> labels)
    {
        return train_batch<float>(images, labels);
    }
    float train_batch(Span<const std::uint8_t> images, Span<const std::uint8_t> labels)
    {
        return train_batch<std::uint8_t>(images, labels);
    }
    template <typename Pixel> float train_batch(Span<const Pixel> images, Span<const std::uint8_t> labels)
    {
        require_images(images.size(), labels.size());
        float loss = 0;
        check(detail::Functions<Pixel>::train_batch(get(), images.data(), labels.data(), labels.size(), &loss));
        return loss;
    }

    /** One step with a weight for each image; the weighted loss before it. */
    float train_batch(Span<const float> images, Span<const std::uint8_t> labels, Span<const float> weights)
    {
        return train_batch<float>(images, labels, weights);
    }
    float train_batch(Span<const std::uint8_t> images, Span<const std::uint8_t> labels, Span<const float> weights)
    {
        return train_batch<std::uint8_t>(images, labels, weights);
    }
    template <typename Pixel>
    float train_batch(Span<const Pixel> images, Span<const std::uint8_t> labels, Span<const float> weights)
    {
        require_images(images.size(), labels.size());
        if (weights.size() != labels.size())
            throw std::invalid_argument("weights has " + std::to_string(weights.size()) + " elements, labels " +
                                        std::to_string(labels.size()));
        float loss = 0;
        check(detail::Functions<Pixel>::train_batch_weighted(get(), images.data(), labels.data(), weights.data(),
                                                             labels.size(), &loss));
        return loss;
    }

    using Progress = lenet::Progress;

    /** Trains; progress returns whether to go on. False if it did not. What progress throws, fit throws. */
    bool fit(const Dataset &train, const Dataset *validation = nullptr,
             const lenet_fit_options &options = lenet::fit_options(), Progress progress = {})
    {
        detail::ProgressCall caller{std::move(progress)};
        const lenet_dataset *checked = validation != nullptr ? validation->get() : nullptr;
        const lenet_status status = lenet_fit(get(), train.get(), checked, &options, caller.function(), &caller);
        caller.rethrow();
        if (status == LENET_ERROR_CANCELLED)
            return false;
        check(status);
        return true;
    }

    /** Also from inside of fit's progress. */
    void set_learning_rate(double learning_rate) { check(lenet_set_learning_rate(get(), learning_rate)); }

    Prediction predict(Span<const float> images) const { return predict<float>(images); }
    Prediction predict(Span<const std::uint8_t> images) const { return predict<std::uint8_t>(images); }
    template <typename Pixel> Prediction predict(Span<const Pixel> images) const
    {
        const std::size_t n = count_images(images.size());
        Prediction result = room(n);
        check(detail::Functions<Pixel>::predict(get(), images.data(), n, result.classes.data(),
                                                result.probabilities.data()));
        return result;
    }

    /** height * width bytes: what the network sees of a picture. */
    std::vector<std::uint8_t> prepare_image(const lenet_image &image) const
    {
        std::vector<std::uint8_t> pixels(image_size());
        check(lenet_prepare_image(get(), &image, pixels.data(), pixels.size()));
        return pixels;
    }

    /** One class, and its probabilities. */
    Prediction predict_image(const lenet_image &image) const
    {
        Prediction result = room(1);
        check(lenet_predict_image(get(), &image, result.classes.data(), result.probabilities.data()));
        return result;
    }

    /** The same of a picture file. */
    Prediction predict_file(const std::string &path) const
    {
        Prediction result = room(1);
        check(lenet_predict_file(get(), detail::c_string("path", path), result.classes.data(),
                                 result.probabilities.data()));
        return result;
    }

    /** n * classes, before softmax. */
    std::vector<float> logits(Span<const float> images) const { return logits<float>(images); }
    std::vector<float> logits(Span<const std::uint8_t> images) const { return logits<std::uint8_t>(images); }
    template <typename Pixel> std::vector<float> logits(Span<const Pixel> images) const
    {
        const std::size_t n = count_images(images.size());
        std::vector<float> logits(n * options().classes);
        check(detail::Functions<Pixel>::logits(get(), images.data(), n, logits.data()));
        return logits;
    }

    /** n * 84: what the last layer sees. */
    std::vector<float> features(Span<const float> images) const { return features<float>(images); }
    std::vector<float> features(Span<const std::uint8_t> images) const { return features<std::uint8_t>(images); }
    template <typename Pixel> std::vector<float> features(Span<const Pixel> images) const
    {
        const std::size_t n = count_images(images.size());
        std::vector<float> features(n * 84);
        check(detail::Functions<Pixel>::features(get(), images.data(), n, features.data()));
        return features;
    }

    Evaluation evaluate(const Dataset &dataset) const
    {
        const std::size_t classes = options().classes;
        Evaluation result{{}, std::vector<std::uint64_t>(classes * classes)};
        result.metrics.struct_size = sizeof result.metrics;
        check(lenet_evaluate(get(), dataset.get(), &result.metrics, result.confusion.data(), result.confusion.size()));
        return result;
    }

    /** Makes probabilities mean what they say; finds the threshold from which on at most max_error of the
     * answers are wrong. */
    lenet_calibration calibrate(const Dataset &validation, double max_error)
    {
        lenet_calibration result = {};
        result.struct_size = sizeof result;
        check(lenet_calibrate(get(), validation.get(), max_error, &result));
        return result;
    }

    /** What it found last. */
    lenet_calibration calibration() const
    {
        lenet_calibration result = {};
        result.struct_size = sizeof result;
        check(lenet_get_calibration(get(), &result));
        return result;
    }

    std::vector<float> parameters() const
    {
        std::vector<float> parameters(lenet_parameter_count(get()));
        check(lenet_get_parameters(get(), parameters.data(), parameters.size()));
        return parameters;
    }

    void set_parameters(Span<const float> parameters)
    {
        check(lenet_set_parameters(get(), parameters.data(), parameters.size()));
    }

    /** {gradients, loss} */
    std::pair<std::vector<float>, float> compute_gradients(Span<const float> images,
                                                           Span<const std::uint8_t> labels) const
    {
        return compute_gradients<float>(images, labels);
    }
    std::pair<std::vector<float>, float> compute_gradients(Span<const std::uint8_t> images,
                                                           Span<const std::uint8_t> labels) const
    {
        return compute_gradients<std::uint8_t>(images, labels);
    }
    template <typename Pixel>
    std::pair<std::vector<float>, float> compute_gradients(Span<const Pixel> images,
                                                           Span<const std::uint8_t> labels) const
    {
        require_images(images.size(), labels.size());
        std::vector<float> gradients(lenet_parameter_count(get()));
        float loss = 0;
        check(detail::Functions<Pixel>::compute_gradients(get(), images.data(), labels.data(), labels.size(),
                                                          gradients.data(), gradients.size(), &loss));
        return {std::move(gradients), loss};
    }

    void apply_gradients(Span<const float> gradients)
    {
        check(lenet_apply_gradients(get(), gradients.data(), gradients.size()));
    }

    lenet_model *get() noexcept { return model_.get(); }
    const lenet_model *get() const noexcept { return model_.get(); }

private:
    struct Free {
        void operator()(lenet_model *model) const noexcept { lenet_free(model); }
    };
    std::unique_ptr<lenet_model, Free> model_;

    explicit Model(lenet_model *model) : model_(model) {}

    static Model load(const std::string &path, const lenet_options *options)
    {
        lenet_model *model = nullptr;
        check(lenet_load(detail::c_string("path", path), options, &model));
        return Model(model);
    }

    static Model load(Span<const std::uint8_t> file, const lenet_options *options)
    {
        lenet_model *model = nullptr;
        check(lenet_load_buffer(file.data(), file.size(), options, &model));
        return Model(model);
    }

    static lenet_model *make(const lenet_options &options)
    {
        lenet_model *model = nullptr;
        check(lenet_create(&options, &model));
        return model;
    }

    Prediction room(std::size_t n) const
    {
        return {std::vector<std::uint8_t>(n), std::vector<float>(n * options().classes)};
    }

    std::size_t image_size() const
    {
        const lenet_options own = options();
        return std::size_t{own.height} * own.width;
    }

    std::size_t count_images(std::size_t pixels) const
    {
        const std::size_t size = image_size();
        if (pixels == 0 || pixels % size != 0)
            throw std::invalid_argument("images has " + std::to_string(pixels) +
                                        " pixels; the model takes images of " + std::to_string(size));
        return pixels / size;
    }

    void require_images(std::size_t pixels, std::size_t labels) const
    {
        const std::size_t n = count_images(pixels);
        if (n != labels)
            throw std::invalid_argument("images has " + std::to_string(n) + " images, labels " +
                                        std::to_string(labels) + " elements");
    }
};

} // namespace lenet

#endif /* LENET_HPP */
