/* lenet.hpp: lenet.h for C++17, header only. What the functions do, lenet.h says; here handles free
 * themselves, a failed call throws lenet::Error, and sizes are checked against the model's.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef LENET_HPP
#define LENET_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
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

/** Labelled images; move only. */
class Dataset {
public:
    static Dataset open(const std::string &images_path, const std::string &labels_path)
    {
        lenet_dataset *dataset = nullptr;
        check(lenet_dataset_open(images_path.c_str(), labels_path.c_str(), &dataset));
        return Dataset(dataset);
    }

    /** images: labels.size() * height * width bytes. */
    static Dataset from_memory(const std::vector<std::uint8_t> &images, const std::vector<std::uint8_t> &labels,
                               std::uint32_t height, std::uint32_t width)
    {
        if (images.size() != labels.size() * height * width)
            throw std::invalid_argument("images: not as many as labels");
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
            throw std::out_of_range("read: past the end of the dataset");
        const auto [height, width] = size();
        std::vector<std::uint8_t> images(n * height * width), labels(n);
        check(lenet_dataset_read(get(), first, n, images.data(), labels.data()));
        return {std::move(images), std::move(labels)};
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
    static Model load(const std::vector<std::uint8_t> &file) { return load(file, nullptr); }
    static Model load(const std::vector<std::uint8_t> &file, const lenet_options &options)
    {
        return load(file, &options);
    }

    void save(const std::string &path) const { check(lenet_save(get(), path.c_str())); }

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

    /** One step; the loss before it. */
    template <typename Pixel>
    float train_batch(const std::vector<Pixel> &images, const std::vector<std::uint8_t> &labels)
    {
        require_images(images.size(), labels.size());
        float loss = 0;
        check(train_batch(images.data(), labels.data(), labels.size(), &loss));
        return loss;
    }

    using Progress = std::function<bool(const lenet_progress &)>;

    /** Trains; progress returns whether to go on. False if it did not. What progress throws, fit throws. */
    bool fit(const Dataset &train, const Dataset *validation = nullptr,
             const lenet_fit_options &options = lenet::fit_options(), Progress progress = {})
    {
        Caller caller{std::move(progress), nullptr};
        const lenet_dataset *checked = validation != nullptr ? validation->get() : nullptr;
        const lenet_status status = lenet_fit(get(), train.get(), checked, &options,
                                              caller.progress ? &Caller::call : nullptr, &caller);
        if (caller.exception)
            std::rethrow_exception(caller.exception);
        if (status == LENET_ERROR_CANCELLED)
            return false;
        check(status);
        return true;
    }

    void set_learning_rate(double learning_rate) { check(lenet_set_learning_rate(get(), learning_rate)); }

    template <typename Pixel> Prediction predict(const std::vector<Pixel> &images) const
    {
        const std::size_t n = count_images(images.size());
        Prediction result{std::vector<std::uint8_t>(n), std::vector<float>(n * options().classes)};
        check(predict(images.data(), n, result.classes.data(), result.probabilities.data()));
        return result;
    }

    /** n * classes, before softmax. */
    std::vector<float> logits(const std::vector<float> &images) const
    {
        const std::size_t n = count_images(images.size());
        std::vector<float> logits(n * options().classes);
        check(lenet_logits(get(), images.data(), n, logits.data()));
        return logits;
    }

    Evaluation evaluate(const Dataset &dataset) const
    {
        const std::size_t classes = options().classes;
        Evaluation result{{}, std::vector<std::uint64_t>(classes * classes)};
        result.metrics.struct_size = sizeof result.metrics;
        check(lenet_evaluate(get(), dataset.get(), &result.metrics, result.confusion.data(), result.confusion.size()));
        return result;
    }

    std::vector<float> parameters() const
    {
        std::vector<float> parameters(lenet_parameter_count(get()));
        check(lenet_get_parameters(get(), parameters.data(), parameters.size()));
        return parameters;
    }

    void set_parameters(const std::vector<float> &parameters)
    {
        check(lenet_set_parameters(get(), parameters.data(), parameters.size()));
    }

    /** {gradients, loss} */
    std::pair<std::vector<float>, float> compute_gradients(const std::vector<float> &images,
                                                           const std::vector<std::uint8_t> &labels) const
    {
        require_images(images.size(), labels.size());
        std::vector<float> gradients(lenet_parameter_count(get()));
        float loss = 0;
        check(lenet_compute_gradients(get(), images.data(), labels.data(), labels.size(), gradients.data(),
                                      gradients.size(), &loss));
        return {std::move(gradients), loss};
    }

    void apply_gradients(const std::vector<float> &gradients)
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

    /* Keeps exceptions out of the library: none may pass through it. */
    struct Caller {
        Progress progress;
        std::exception_ptr exception;

        static std::int32_t call(const lenet_progress *at, void *user_data)
        {
            Caller *caller = static_cast<Caller *>(user_data);
            try {
                return caller->progress(*at) ? 0 : 1;
            } catch (...) {
                caller->exception = std::current_exception();
                return 1;
            }
        }
    };

    explicit Model(lenet_model *model) : model_(model) {}

    static Model load(const std::string &path, const lenet_options *options)
    {
        lenet_model *model = nullptr;
        check(lenet_load(path.c_str(), options, &model));
        return Model(model);
    }

    static Model load(const std::vector<std::uint8_t> &file, const lenet_options *options)
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

    std::size_t count_images(std::size_t pixels) const
    {
        const lenet_options own = options();
        const std::size_t size = std::size_t{own.height} * own.width;
        if (pixels == 0 || pixels % size != 0)
            throw std::invalid_argument("images: not a whole number of the model's size");
        return pixels / size;
    }

    void require_images(std::size_t pixels, std::size_t labels) const
    {
        if (count_images(pixels) != labels)
            throw std::invalid_argument("images: not as many as labels");
    }

    lenet_status train_batch(const float *images, const std::uint8_t *labels, std::size_t n, float *loss)
    {
        return lenet_train_batch(get(), images, labels, n, loss);
    }
    lenet_status train_batch(const std::uint8_t *images, const std::uint8_t *labels, std::size_t n, float *loss)
    {
        return lenet_train_batch_u8(get(), images, labels, n, loss);
    }
    lenet_status predict(const float *images, std::size_t n, std::uint8_t *classes, float *probabilities) const
    {
        return lenet_predict(get(), images, n, classes, probabilities);
    }
    lenet_status predict(const std::uint8_t *images, std::size_t n, std::uint8_t *classes, float *probabilities) const
    {
        return lenet_predict_u8(get(), images, n, classes, probabilities);
    }
};

} // namespace lenet

#endif /* LENET_HPP */
