/* Trains LeNet on Fashion-MNIST as d2l does, and shows all that a program needs of the library:
 * create, train with progress and Ctrl-C, evaluate, save, load, predict.
 *
 *   fashion_mnist [FOLDER]     FOLDER or LENET_DATA holds the four IDX files, plain or .gz
 *
 * EPOCHS, BATCH, PRESET (classic, modern or accurate), SEED and LR change the training, MAX_SECONDS ends
 * it; OUT is the folder for fashion_mnist.safetensors and training.svg, at first the current one. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lenet.h>

#include "data_folder.h"
#include "plot_svg.h"
#include "settings.h"
#include "terminal_image.h"

#define PRESET "classic" /* d2l's: 10 epochs in batches of 256 */

/* Clothes that are moved while the network sees them take longer to be learnt, and only then better. */
#define EPOCHS_FOR_SHIFT 20
#define SECONDS_FOR_SHIFT 10

#define POINTS_PER_EPOCH 5 /* of the training curves, as d2l plots them */

enum { CLASSES = 10, SHOWN = 3 };

/* What the progress callback remembers between its calls. */
struct training {
    bool terminal; /* draw a bar in place; else a line at each tenth */
    bool out_of_memory;
    uint32_t batch;
    int tenth;
    double drawn, started, epoch_started, max_seconds; /* seconds; max_seconds 0: any number */
    lenet_progress last;
    struct curve curves[3]; /* against epochs */
};
enum { TRAIN_LOSS, TRAIN_ACCURACY, TEST_ACCURACY };

struct predictions {
    size_t n, height, width;
    uint8_t *images;      /* n x height x width */
    uint8_t *labels;      /* n */
    uint8_t *classes;     /* n */
    float *probabilities; /* n x CLASSES */
};

#define CHECK(call) check((call), #call)
static void check(lenet_status status, const char *call);
static lenet_dataset *open_dataset(const char *folder, const char *images, const char *labels);
static void print_layers(const lenet_model *model);
static bool train(lenet_model *model, const lenet_dataset *train_set, const lenet_dataset *test_set,
                  const lenet_fit_options *options, struct training *training);
static void add_points(struct training *training, const lenet_progress *at, double train_loss, double train_accuracy,
                       double test_accuracy);
static void print_confusion(const uint64_t *confusion, const char *const *names);
static void show_images(const struct predictions *test, const char *const *names, bool grey);
static void join(char *path, size_t size, const char *folder, const char *name);
static void *allocate(size_t size);

int main(int argc, char **argv)
{
    static const char *const presets[] = {"classic", "modern", "accurate"};
    static const int32_t preset_constants[] = {LENET_PRESET_CLASSIC, LENET_PRESET_MODERN, LENET_PRESET_ACCURATE};
    static const char *const devices[] = {"cpu", "cuda", "auto"};
    static const int32_t device_constants[] = {LENET_DEVICE_CPU, LENET_DEVICE_CUDA, LENET_DEVICE_AUTO};
    static const char *const names[CLASSES] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                               "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: %s [FOLDER]\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (lenet_version_number() < LENET_VERSION_NUMBER) {
        fprintf(stderr, "liblenet %s is older than the lenet.h that this program was built with\n", lenet_version());
        return EXIT_FAILURE;
    }

    /* Settings: all of them are checked before anything takes time. */
    const char *folder = argc == 2 ? argv[1] : setting_text("LENET_DATA", NULL);
    if (folder == NULL) {
        fprintf(stderr, "Where is the data? Give its folder as argument or as LENET_DATA.\n");
        return EXIT_FAILURE;
    }
    const size_t preset = setting_choice("PRESET", PRESET, presets, sizeof presets / sizeof *presets);
    const int32_t preset_constant = preset_constants[preset];
    lenet_options options;
    lenet_fit_options fit_options;
    CHECK(lenet_options_init(&options, sizeof options, preset_constant));
    CHECK(lenet_fit_options_init(&fit_options, sizeof fit_options, preset_constant));
    options.device = device_constants[setting_choice("DEVICE", "cpu", devices, sizeof devices / sizeof *devices)];
    options.seed = setting_integer("SEED", options.seed, 0, UINT64_MAX);
    options.learning_rate = setting_number("LR", options.learning_rate);
    fit_options.max_seconds = setting_number("MAX_SECONDS", fit_options.max_seconds);
    if (fit_options.max_seconds > 0)
        fit_options.epochs = 0; /* any number, unless it is set */
    fit_options.epochs = (uint32_t)setting_integer("EPOCHS", fit_options.epochs, 1, 100000);
    fit_options.batch_size = (uint32_t)setting_integer("BATCH", fit_options.batch_size, 1, 60000);
    if (fit_options.epochs > 0 ? fit_options.epochs < EPOCHS_FOR_SHIFT : fit_options.max_seconds < SECONDS_FOR_SHIFT)
        fit_options.shift = 0;
    const char *out = setting_text("OUT", ".");
    if (access(out, W_OK | X_OK) != 0) {
        perror(out);
        return EXIT_FAILURE;
    }
    char model_path[4096], plot_path[4096];
    join(model_path, sizeof model_path, out, "fashion_mnist.safetensors");
    join(plot_path, sizeof plot_path, out, "training.svg");

    /* SIGINT waits in the kernel while we train, and the callback looks whether it has come: no
     * handler, no global. Before lenet_create, because threads inherit the mask. */
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);

    /* Data and model. */
    lenet_dataset *train_set = open_dataset(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    lenet_dataset *test_set = open_dataset(folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    CHECK(lenet_dataset_size(train_set, &options.height, &options.width));
    options.classes = CLASSES;
    if (preset_constant == LENET_PRESET_ACCURATE) {
        CHECK(lenet_dataset_statistics(train_set, &options.input_mean, &options.input_std));
        if (options.input_std == 0)
            options.input_std = 1; /* all pixels are the same */
    }
    lenet_model *model = NULL;
    CHECK(lenet_create(&options, &model));
    CHECK(lenet_get_options(model, &options)); /* which device "auto" became */

    printf("lenet %s (%s)\n", lenet_version(), lenet_build_info());
    print_layers(model);
    printf("%zu training and %zu test images\n", lenet_dataset_count(train_set), lenet_dataset_count(test_set));
    printf("%s%s, learning rate %g, batch %" PRIu32 ", ", presets[preset],
           options.device == LENET_DEVICE_CUDA ? " on a GPU" : "", options.learning_rate, fit_options.batch_size);
    if (fit_options.epochs > 0)
        printf("%" PRIu32 " epoch%s, ", fit_options.epochs, fit_options.epochs == 1 ? "" : "s");
    if (fit_options.max_seconds > 0)
        printf("%g s at most, ", fit_options.max_seconds);
    printf("seed %" PRIu64 "\n\n", options.seed);

    /* Train. */
    const char *term = getenv("TERM");
    struct training training = {
        .terminal = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0,
        .batch = fit_options.batch_size,
        .max_seconds = fit_options.max_seconds,
        .curves = {{.name = "train loss", .colour = "#0072b2", .dashes = ""},
                   {.name = "train accuracy", .colour = "#cc3399", .dashes = "7 4"},
                   {.name = "test accuracy", .colour = "#009e73", .dashes = "9 3 2 3"}},
    };
    const bool finished = train(model, train_set, test_set, &fit_options, &training);
    sigprocmask(SIG_UNBLOCK, &interrupt, NULL); /* from here on, Ctrl-C ends the program as usual */

    /* Evaluate. */
    lenet_metrics metrics = {.struct_size = sizeof metrics};
    uint64_t confusion[CLASSES * CLASSES];
    CHECK(lenet_evaluate(model, test_set, &metrics, confusion, CLASSES * CLASSES));
    printf("\ntest accuracy %.4f (%" PRIu64 " of %" PRIu64 "), loss %.4f\n\n", metrics.accuracy, metrics.correct,
           metrics.count, metrics.loss);
    print_confusion(confusion, names);

    /* Predict, save, load, and predict again: what was loaded is the same model to the last bit. */
    struct predictions test = {
        .n = lenet_dataset_count(test_set), .height = options.height, .width = options.width};
    const size_t probabilities_size = test.n * CLASSES * sizeof(float);
    test.images = allocate(test.n * test.height * test.width);
    test.labels = allocate(test.n);
    test.classes = allocate(test.n);
    test.probabilities = allocate(probabilities_size);
    CHECK(lenet_dataset_read(test_set, 0, test.n, test.images, test.labels));
    CHECK(lenet_predict_u8(model, test.images, test.n, test.classes, test.probabilities));

    lenet_model *loaded = NULL;
    float *probabilities_loaded = allocate(probabilities_size);
    CHECK(lenet_save(model, model_path));
    CHECK(lenet_load(model_path, &options, &loaded)); /* on the same device */
    CHECK(lenet_predict_u8(loaded, test.images, test.n, NULL, probabilities_loaded));
    const bool identical = memcmp(test.probabilities, probabilities_loaded, probabilities_size) == 0;
    printf("\nsaved %s\nloaded it again: the probabilities of %zu test images are %s\n\n", model_path, test.n,
           identical ? "bit-identical" : "NOT THE SAME");

    show_images(&test, names, training.terminal);

    /* Plot. A training that was cut short has no points for its last piece yet. */
    if (!finished) {
        const lenet_progress *last = &training.last;
        add_points(&training, last, last->loss, last->accuracy, metrics.accuracy);
    }
    const bool plotted = plot_svg(plot_path, "LeNet on Fashion-MNIST", "epoch", training.curves, 3);
    if (!plotted)
        perror(plot_path);
    else
        printf("curves in %s\n", plot_path);
    if (training.out_of_memory)
        fprintf(stderr, "out of memory: the curves are not complete\n");

    for (size_t i = 0; i < 3; i++)
        curve_free(&training.curves[i]);
    free(test.images);
    free(test.labels);
    free(test.classes);
    free(test.probabilities);
    free(probabilities_loaded);
    lenet_free(loaded);
    lenet_free(model);
    lenet_dataset_free(train_set);
    lenet_dataset_free(test_set);
    return identical && plotted && !training.out_of_memory ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void check(lenet_status status, const char *call)
{
    if (status == LENET_OK)
        return;
    fflush(stdout);
    fprintf(stderr, "%s\nfailed with %s: %s\n", call, lenet_status_name(status), lenet_last_error());
    exit(EXIT_FAILURE);
}

static lenet_dataset *open_dataset(const char *folder, const char *images, const char *labels)
{
    char images_path[4096], labels_path[4096];
    lenet_dataset *dataset = NULL;
    if (!data_folder_find(folder, images, images_path, sizeof images_path) ||
        !data_folder_find(folder, labels, labels_path, sizeof labels_path))
        exit(EXIT_FAILURE);
    CHECK(lenet_dataset_open(images_path, labels_path, &dataset));
    return dataset;
}

static void print_layers(const lenet_model *model)
{
    printf("\n%-12s %-10s %-14s %10s\n", "layer", "kind", "output", "parameters");
    for (size_t i = 0;; i++) {
        lenet_layer layer = {.struct_size = sizeof layer};
        char shape[48];
        const lenet_status status = lenet_get_layer(model, i, &layer);
        if (status == LENET_ERROR_NOT_FOUND) /* past the last one */
            break;
        check(status, "lenet_get_layer(model, i, &layer)");
        snprintf(shape, sizeof shape, "%" PRIu32 " x %" PRIu32 " x %" PRIu32, layer.channels, layer.height,
                 layer.width);
        printf("%-12s %-10s %-14s %10" PRIu64 "\n", layer.name, layer.kind, shape, layer.parameters);
    }
    printf("%-38s %10zu\n\n", "", lenet_parameter_count(model));
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* "epoch 3/10", or "epoch 3" of a training that has a time. */
static void print_epoch(const lenet_progress *progress)
{
    printf("epoch %" PRIu32, progress->epoch);
    if (progress->epochs > 0)
        printf("/%" PRIu32, progress->epochs);
}

static void draw_progress(struct training *training, const lenet_progress *progress)
{
    const double now = seconds(), done = (double)((progress->epoch - 1) * progress->steps + progress->step);
    double over = 0, left = INFINITY; /* the part of all, and seconds */
    if (progress->epochs > 0) {
        const double all = (double)(progress->epochs * progress->steps);
        over = done / all;
        left = (all - done) * training->batch / progress->images_per_second;
    }
    if (training->max_seconds > 0) {
        const double time_left = fmax(training->started + training->max_seconds - now, 0);
        over = fmax(over, 1 - time_left / training->max_seconds);
        left = fmin(left, time_left);
    }
    const int tenth = (int)(10 * over);
    char text[120];
    snprintf(text, sizeof text, "%3d%%  loss %.3f  acc %.3f  %.0f images/s  %d:%02d left",
             (int)(100 * progress->step / progress->steps), progress->loss, progress->accuracy,
             progress->images_per_second, left < 1e6 ? (int)left / 60 : 0, left < 1e6 ? (int)left % 60 : 0);

    if (training->terminal && now - training->drawn >= 0.1) {
        const int bar = (int)(10 * progress->step / progress->steps);
        printf("\r\033[K");
        print_epoch(progress);
        printf(" [%.*s%*s] %s", bar, "==========", 10 - bar, "", text);
        fflush(stdout);
        training->drawn = now;
    } else if (!training->terminal && tenth > training->tenth) {
        print_epoch(progress);
        printf("  %s\n", text);
        fflush(stdout);
        training->tenth = tenth;
    }
}

/* NAN where there is no value yet: the curve then has no point there. */
static void add_points(struct training *training, const lenet_progress *at, double train_loss, double train_accuracy,
                       double test_accuracy)
{
    const double epochs = at->epoch - 1 + (double)at->step / (double)at->steps;
    if (!curve_add(&training->curves[TRAIN_LOSS], epochs, train_loss) ||
        !curve_add(&training->curves[TRAIN_ACCURACY], epochs, train_accuracy) ||
        !curve_add(&training->curves[TEST_ACCURACY], epochs, test_accuracy))
        training->out_of_memory = true;
}

/* Called after each step and each epoch; anything but 0 cancels the training. */
static int32_t on_progress(const lenet_progress *progress, void *user_data)
{
    struct training *training = user_data;
    if (progress->event == LENET_PROGRESS_EPOCH_END) {
        const double now = seconds();
        add_points(training, progress, progress->loss, progress->accuracy, progress->validation_accuracy);
        printf("%s", training->terminal ? "\r\033[K" : "");
        print_epoch(progress);
        printf("  train loss %.4f  train accuracy %.4f  test accuracy %.4f  %.1f s\n", progress->loss,
               progress->accuracy, progress->validation_accuracy, now - training->epoch_started);
        fflush(stdout);
        training->epoch_started = now;
    } else {
        const uint64_t step = progress->step, steps = progress->steps;
        /* The last point of the epoch comes with its end. */
        if (step < steps && step * POINTS_PER_EPOCH / steps != (step - 1) * POINTS_PER_EPOCH / steps)
            add_points(training, progress, progress->loss, progress->accuracy, NAN);
        draw_progress(training, progress);
    }
    training->last = *progress;

    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGINT) == 1;
}

/* False when Ctrl-C cut it short: the steps until then are kept. */
static bool train(lenet_model *model, const lenet_dataset *train_set, const lenet_dataset *test_set,
                  const lenet_fit_options *options, struct training *training)
{
    training->started = training->epoch_started = seconds();
    const lenet_status status = lenet_fit(model, train_set, test_set, options, on_progress, training);
    if (training->terminal)
        printf("\r\033[K");
    if (status != LENET_ERROR_CANCELLED) {
        check(status, "lenet_fit(model, train_set, test_set, options, on_progress, training)");
        return true;
    }
    sigset_t interrupt;
    int signal_number;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigwait(&interrupt, &signal_number); /* the one that the callback saw; now it is dealt with */
    printf("stopped in epoch %" PRIu32 " after step %" PRIu64 " of %" PRIu64 "; what was trained is kept\n",
           training->last.epoch, training->last.step, training->last.steps);
    return false;
}

static void print_confusion(const uint64_t *confusion, const char *const *names)
{
    printf("%-11s predicted\n%-11s", "true", "");
    for (size_t column = 0; column < CLASSES; column++)
        printf(" %5.5s", names[column]);
    printf("  right\n");
    for (size_t row = 0; row < CLASSES; row++) {
        uint64_t sum = 0;
        printf("%-11s", names[row]);
        for (size_t column = 0; column < CLASSES; column++) {
            const uint64_t count = confusion[row * CLASSES + column];
            printf(" %5" PRIu64, count);
            sum += count;
        }
        printf(" %5.1f%%\n", sum > 0 ? 100.0 * (double)confusion[row * CLASSES + row] / (double)sum : 0.0);
    }
}

/* A row of the first test images, and a row of the first ones that the model takes for something else. */
static void show_images(const struct predictions *test, const char *const *names, bool grey)
{
    const int label = 13, column = TERMINAL_IMAGE_COLUMNS + TERMINAL_IMAGE_GAP - label;
    for (int mistakes = 0; mistakes <= 1; mistakes++) {
        const uint8_t *row[SHOWN];
        size_t index[SHOWN], found = 0;
        for (size_t i = 0; i < test->n && found < SHOWN; i++) {
            if (mistakes && test->classes[i] == test->labels[i])
                continue;
            row[found] = test->images + i * test->height * test->width;
            index[found++] = i;
        }
        if (found == 0)
            continue;
        printf("%s\n", mistakes ? "the first mistakes" : "the first test images");
        terminal_image_row(stdout, grey, row, found, test->height, test->width);
        /* No padding after the last column, it would wrap. */
        for (size_t i = 0; i < found; i++)
            printf("%-*s%-*s", label, "true", i + 1 < found ? column : 0, names[test->labels[index[i]]]);
        printf("\n");
        for (size_t i = 0; i < found; i++)
            printf("%-*s%-*s", label, "predicted", i + 1 < found ? column : 0, names[test->classes[index[i]]]);
        printf("\n");
        for (size_t i = 0; i < found; i++)
            printf("%-*s%-*.3f", label, "probability", i + 1 < found ? column : 0,
                   (double)test->probabilities[index[i] * CLASSES + test->classes[index[i]]]);
        printf("\n\n");
    }
}

static void join(char *path, size_t size, const char *folder, const char *name)
{
    const int length = snprintf(path, size, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= size) {
        fprintf(stderr, "the path of OUT is too long\n");
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory: %zu bytes\n", size);
        exit(EXIT_FAILURE);
    }
    return memory;
}
