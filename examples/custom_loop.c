/* A training loop of our own over lenet_train_batch, for what lenet_fit does not do: the learning
 * rate falls from epoch to epoch, training stops when the validation loss does, and the best model
 * is the one that is kept.
 *
 *   custom_loop [FOLDER]     FOLDER holds the four IDX files; without one, made-up images serve
 *
 * EPOCHS, BATCH, LR and SEED change the training. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lenet.h>

#include "data_folder.h"
#include "settings.h"

#define EPOCHS 20 /* at most */
#define BATCH 16
#define RATE 0.003 /* the learning rate in the first epoch */
#define DECAY 0.9  /* what is left of it in the next one */
#define PATIENCE 2 /* epochs without a better validation loss */

/* Images that the loop may shuffle and change at will; a lenet_dataset is immutable. */
struct images {
    size_t n;
    uint32_t height, width;
    uint8_t *pixels; /* n x height x width */
    uint8_t *labels; /* n */
};

#define CHECK(call) check((call), #call)
static void check(lenet_status status, const char *call);
static void load_images(struct images *images, const char *folder, const char *images_name, const char *labels_name);
static void make_images(struct images *images, size_t n, uint64_t *random);
static lenet_dataset *dataset_of(const struct images *images, size_t first, size_t n);
static double train_epoch(lenet_model *model, const struct images *images, const size_t *order, size_t n, size_t batch);
static void shuffle(size_t *order, size_t n, uint64_t *random);
static uint64_t next_random(uint64_t *random);
static void *allocate(size_t size);

int main(int argc, char **argv)
{
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: %s [FOLDER]\n", argv[0]);
        return EXIT_FAILURE;
    }
    const uint64_t epochs = setting_integer("EPOCHS", EPOCHS, 1, 100000);
    const size_t batch = (size_t)setting_integer("BATCH", BATCH, 1, 60000);
    const double first_rate = setting_number("LR", RATE);
    const uint64_t seed = setting_integer("SEED", 0, 0, UINT64_MAX);
    uint64_t random = seed;

    struct images images, test_images;
    if (argc == 2) {
        load_images(&images, argv[1], "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
        load_images(&test_images, argv[1], "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    } else {
        make_images(&images, 480, &random);
        make_images(&test_images, 100, &random);
    }

    /* The last sixth decides when to stop; so the test set has had no say when it is counted. */
    const size_t held_out = images.n / 6, n = images.n - held_out;
    lenet_dataset *validation = dataset_of(&images, n, held_out);
    lenet_dataset *test = dataset_of(&test_images, 0, test_images.n);

    lenet_options options;
    lenet_model *model = NULL, *best = NULL;
    CHECK(lenet_options_init(&options, sizeof options, LENET_PRESET_MODERN));
    options.height = images.height;
    options.width = images.width;
    options.seed = seed;
    CHECK(lenet_create(&options, &model));

    size_t *order = allocate(n * sizeof *order);
    for (size_t i = 0; i < n; i++)
        order[i] = i;

    double rate = first_rate, best_loss = INFINITY;
    int without_gain = 0;
    printf("epoch  learning rate  train loss  validation loss  accuracy\n");
    for (uint64_t epoch = 1; epoch <= epochs && without_gain < PATIENCE; epoch++, rate *= DECAY) {
        CHECK(lenet_set_learning_rate(model, rate));
        shuffle(order, n, &random);
        const double train_loss = train_epoch(model, &images, order, n, batch);

        lenet_metrics metrics = {.struct_size = sizeof metrics};
        CHECK(lenet_evaluate(model, validation, &metrics, NULL, 0));
        const bool better = metrics.loss < best_loss;
        printf("%5" PRIu64 "  %13.6f  %10.4f  %15.4f  %8.4f%s\n", epoch, rate, train_loss, metrics.loss,
               metrics.accuracy, better ? "  best so far" : "");
        fflush(stdout);
        if (better) {
            lenet_free(best);
            best = NULL; /* lenet_clone writes nothing when it fails */
            CHECK(lenet_clone(model, &best));
            best_loss = metrics.loss;
            without_gain = 0;
        } else {
            without_gain++;
        }
    }

    lenet_metrics metrics = {.struct_size = sizeof metrics};
    CHECK(lenet_evaluate(best != NULL ? best : model, test, &metrics, NULL, 0));
    printf("the best model on the test set: loss %.4f, accuracy %.4f (%" PRIu64 " of %" PRIu64 ")\n", metrics.loss,
           metrics.accuracy, metrics.correct, metrics.count);

    free(order);
    lenet_free(best);
    lenet_free(model);
    lenet_dataset_free(validation);
    lenet_dataset_free(test);
    free(images.pixels);
    free(images.labels);
    free(test_images.pixels);
    free(test_images.labels);
    return EXIT_SUCCESS;
}

/* The mean loss over the epoch. */
static double train_epoch(lenet_model *model, const struct images *images, const size_t *order, size_t n, size_t batch)
{
    const size_t size = (size_t)images->height * images->width;
    float *batch_images = allocate(batch * size * sizeof *batch_images); /* (batch, 1, height, width) */
    uint8_t *batch_labels = allocate(batch);
    double sum = 0;
    for (size_t first = 0; first < n; first += batch) {
        const size_t count = n - first < batch ? n - first : batch;
        for (size_t i = 0; i < count; i++) {
            const uint8_t *pixels = images->pixels + order[first + i] * size;
            /* Augmentation would go here. Without any, lenet_train_batch_u8 saves the division. */
            for (size_t p = 0; p < size; p++)
                batch_images[i * size + p] = (float)pixels[p] / 255.0f;
            batch_labels[i] = images->labels[order[first + i]];
        }
        float loss = 0;
        CHECK(lenet_train_batch(model, batch_images, batch_labels, count, &loss));
        sum += (double)loss * (double)count; /* the last batch may be smaller */
    }
    free(batch_images);
    free(batch_labels);
    return sum / (double)n;
}

static void check(lenet_status status, const char *call)
{
    if (status == LENET_OK)
        return;
    fflush(stdout);
    fprintf(stderr, "%s\nfailed with %s: %s\n", call, lenet_status_name(status), lenet_last_error());
    exit(EXIT_FAILURE);
}

static void load_images(struct images *images, const char *folder, const char *images_name, const char *labels_name)
{
    char images_path[4096], labels_path[4096];
    lenet_dataset *dataset = NULL;
    if (!data_folder_find(folder, images_name, images_path, sizeof images_path) ||
        !data_folder_find(folder, labels_name, labels_path, sizeof labels_path))
        exit(EXIT_FAILURE);
    CHECK(lenet_dataset_open(images_path, labels_path, &dataset));
    CHECK(lenet_dataset_size(dataset, &images->height, &images->width));
    images->n = lenet_dataset_count(dataset);
    images->pixels = allocate(images->n * images->height * images->width);
    images->labels = allocate(images->n);
    CHECK(lenet_dataset_read(dataset, 0, images->n, images->pixels, images->labels));
    lenet_dataset_free(dataset);
}

/* Class k is a grating of stripes turned by k x 18 degrees; phase and noise differ from image to
 * image, so that no single pixel gives the class away. One label in ten is drawn at random: there is
 * something to learn by heart, which is what early stopping is for. */
static void make_images(struct images *images, size_t n, uint64_t *random)
{
    const double turn = 2 * acos(-1.0), wavelength = 9;
    images->n = n;
    images->height = images->width = 28;
    images->pixels = allocate(n * 28 * 28);
    images->labels = allocate(n);
    for (size_t i = 0; i < n; i++) {
        const double angle = turn * (double)(i % 10) / 20;
        const double phase = turn * (double)(next_random(random) % 256) / 256;
        images->labels[i] = (uint8_t)(next_random(random) % 10 == 0 ? next_random(random) % 10 : i % 10);
        for (size_t p = 0; p < 28 * 28; p++) {
            const double along = (double)(p % 28) * cos(angle) + (double)(p / 28) * sin(angle);
            const double noise = (double)(next_random(random) % 61) - 30;
            images->pixels[i * 28 * 28 + p] = (uint8_t)(128 + 90 * sin(turn * along / wavelength + phase) + noise);
        }
    }
}

static lenet_dataset *dataset_of(const struct images *images, size_t first, size_t n)
{
    lenet_dataset *dataset = NULL;
    CHECK(lenet_dataset_from_memory(images->pixels + first * images->height * images->width, images->labels + first, n,
                                    images->height, images->width, &dataset));
    return dataset;
}

/* Fisher and Yates. */
static void shuffle(size_t *order, size_t n, uint64_t *random)
{
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)(next_random(random) % i), swapped = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swapped;
    }
}

/* splitmix64 (Steele, Lea, Flood 2014): a good shuffle from any seed, the same on every machine. */
static uint64_t next_random(uint64_t *random)
{
    uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
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
