/* How far a calibrated model's answers can be trusted, as docs/benchmarks/trust.md: `make bench-trust` writes it.
 *
 *   trust CLOTHES DIGITS     folders with the four IDX files of Fashion-MNIST and of digits
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lenet.h>

#include "data_folder.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, NINE = 9, BINS = 15, SEEDS = 3, NOISE = 2000 };

#define CHECK(call) do { if ((call) != LENET_OK) { \
    fprintf(stderr, "%s: %s\n", #call, lenet_last_error()); exit(EXIT_FAILURE); } } while (0)

struct images {
    size_t n;
    uint8_t *pixels; /* n x 28 x 28 */
    uint8_t *labels; /* n */
};

/* What became of some images. */
struct answers {
    double error;       /* of all */
    double calibration; /* expected calibration error */
    double answered;    /* the share that reaches the threshold */
    double wrong;       /* of those that are answered */
};

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

static lenet_dataset *open_part(const char *folder, const char *images, const char *labels)
{
    char paths[2][4096];
    if (!data_folder_find(folder, images, paths[0], sizeof paths[0]) ||
        !data_folder_find(folder, labels, paths[1], sizeof paths[1]))
        exit(EXIT_FAILURE);
    lenet_dataset *dataset = NULL;
    CHECK(lenet_dataset_open(paths[0], paths[1], &dataset));
    return dataset;
}

static struct images read_all(const lenet_dataset *dataset)
{
    struct images all = {.n = lenet_dataset_count(dataset)};
    all.pixels = allocate(all.n * PIXELS);
    all.labels = allocate(all.n);
    CHECK(lenet_dataset_read(dataset, 0, all.n, all.pixels, all.labels));
    return all;
}

/* Those with this label, or the others. */
static struct images pick(struct images from, uint8_t label, int with_it)
{
    struct images picked = {0, allocate(from.n * PIXELS), allocate(from.n)};
    for (size_t i = 0; i < from.n; i++) {
        if ((from.labels[i] == label) != (with_it != 0)) continue;
        memcpy(picked.pixels + picked.n * PIXELS, from.pixels + i * PIXELS, PIXELS);
        picked.labels[picked.n++] = from.labels[i];
    }
    return picked;
}

static lenet_dataset *dataset_of(struct images images)
{
    lenet_dataset *dataset = NULL;
    CHECK(lenet_dataset_from_memory(images.pixels, images.labels, images.n, SIDE, SIDE, &dataset));
    return dataset;
}

/* The preset for accuracy, on all but the share that is kept for calibration. */
static lenet_model *train(const lenet_dataset *data, uint32_t classes, uint32_t epochs, uint32_t batch, uint64_t seed,
                          double share, lenet_dataset **kept)
{
    lenet_dataset *rest = NULL;
    CHECK(lenet_dataset_split(data, share, seed, kept, &rest));
    lenet_options options;
    lenet_fit_options fit;
    CHECK(lenet_options_init(&options, sizeof options, LENET_PRESET_ACCURATE));
    CHECK(lenet_fit_options_init(&fit, sizeof fit, LENET_PRESET_ACCURATE));
    CHECK(lenet_dataset_statistics(rest, &options.input_mean, &options.input_std));
    options.classes = classes;
    options.seed = seed;
    fit.epochs = epochs;
    fit.batch_size = batch;
    lenet_model *model = NULL;
    CHECK(lenet_create(&options, &model));
    CHECK(lenet_fit(model, rest, NULL, &fit, NULL, NULL));
    lenet_dataset_free(rest);
    return model;
}

static struct answers answers(const lenet_model *model, uint32_t classes, struct images images, double threshold)
{
    uint8_t *predicted = allocate(images.n);
    float *probabilities = allocate(images.n * classes * sizeof *probabilities);
    CHECK(lenet_predict_u8(model, images.pixels, images.n, predicted, probabilities));
    double confidence[BINS] = {0}, right[BINS] = {0};
    size_t answered = 0, wrong = 0, errors = 0;
    for (size_t i = 0; i < images.n; i++) {
        const double largest = (double)probabilities[i * classes + predicted[i]];
        const int is_right = predicted[i] == images.labels[i];
        const int bin = largest >= 1 ? BINS - 1 : (int)(largest * BINS);
        confidence[bin] += largest;
        right[bin] += is_right;
        errors += !is_right;
        answered += largest >= threshold;
        wrong += largest >= threshold && !is_right;
    }
    double calibration = 0;
    for (int bin = 0; bin < BINS; bin++)
        calibration += confidence[bin] > right[bin] ? confidence[bin] - right[bin] : right[bin] - confidence[bin];
    free(predicted);
    free(probabilities);
    const double n = (double)images.n;
    return (struct answers){(double)errors / n, calibration / n, (double)answered / n,
                            answered == 0 ? 0 : (double)wrong / (double)answered};
}

static void clothes_rows(const lenet_dataset *train_data, struct images test)
{
    printf("| seed | test error | temperature | calibration error before | after | answered | wrong of those |\n"
           "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        lenet_dataset *kept = NULL;
        lenet_model *model = train(train_data, CLASSES, 20, 128, seed, 5.0 / 60, &kept);
        const struct answers before = answers(model, CLASSES, test, 0);
        lenet_calibration found = {.struct_size = sizeof found};
        CHECK(lenet_calibrate(model, kept, 0.02, &found));
        const struct answers after = answers(model, CLASSES, test, found.threshold);
        printf("| %d | %.4f | %.3f | %.4f | %.4f | %.1f %% | %.2f %% |\n", (int)seed, after.error, found.temperature,
               before.calibration, after.calibration, 100 * after.answered, 100 * after.wrong);
        lenet_dataset_free(kept);
        lenet_free(model);
    }
}

static void digit_rows(struct images digits, struct images test, struct images clothes)
{
    struct images noise = {NOISE, allocate(NOISE * PIXELS), allocate(NOISE)}, grey = noise;
    grey.pixels = allocate(NOISE * PIXELS);
    memset(noise.labels, 0, NOISE);
    uint32_t random = 1;
    for (size_t i = 0; i < NOISE * PIXELS; i++) {
        random = random * 1664525u + 1013904223u; /* Numerical Recipes */
        noise.pixels[i] = (uint8_t)(random >> 24);
        grey.pixels[i] = (uint8_t)(i / PIXELS * 255 / NOISE);
    }
    struct images unseen_train = pick(digits, NINE, 0), nine = pick(test, NINE, 1), seen = pick(test, NINE, 0);
    lenet_dataset *data = dataset_of(digits), *without_nine = dataset_of(unseen_train);
    printf("| seed | max_error | digits answered | wrong of those | clothes turned away | noise | plain grey | "
           "a 9, by a reader of 0 to 8 | its own digits answered |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        lenet_dataset *kept[2] = {NULL, NULL};
        lenet_model *all = train(data, CLASSES, 30, 64, seed, 1.0 / 9, &kept[0]);
        lenet_model *nineless = train(without_nine, NINE, 30, 64, seed, 1.0 / 9, &kept[1]);
        const double max_errors[] = {0.02, 0.005, 0.001};
        for (size_t i = 0; i < 3; i++) {
            lenet_calibration of_all = {.struct_size = sizeof of_all}, of_nineless = {.struct_size = sizeof of_all};
            CHECK(lenet_calibrate(all, kept[0], max_errors[i], &of_all));
            CHECK(lenet_calibrate(nineless, kept[1], max_errors[i], &of_nineless));
            const struct answers own = answers(all, CLASSES, test, of_all.threshold);
            printf("| %d | %.3f | %.1f %% | %.2f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.1f %% |\n", (int)seed,
                   max_errors[i], 100 * own.answered, 100 * own.wrong,
                   100 * (1 - answers(all, CLASSES, clothes, of_all.threshold).answered),
                   100 * (1 - answers(all, CLASSES, noise, of_all.threshold).answered),
                   100 * (1 - answers(all, CLASSES, grey, of_all.threshold).answered),
                   100 * (1 - answers(nineless, NINE, nine, of_nineless.threshold).answered),
                   100 * answers(nineless, NINE, seen, of_nineless.threshold).answered);
        }
        lenet_free(all);
        lenet_free(nineless);
        lenet_dataset_free(kept[0]);
        lenet_dataset_free(kept[1]);
    }
    lenet_dataset_free(data);
    lenet_dataset_free(without_nine);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CLOTHES DIGITS\n", argv[0]);
        return EXIT_FAILURE;
    }
    lenet_dataset *clothes = open_part(argv[1], "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    lenet_dataset *clothes_test = open_part(argv[1], "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    lenet_dataset *digits = open_part(argv[2], "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    lenet_dataset *digits_test = open_part(argv[2], "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");

    printf("# How far to trust an answer\n\n"
           "From `make bench-trust`, which writes this page. Every model is trained with `LENET_PRESET_ACCURATE` and\n"
           "calibrated with `lenet_calibrate` on images that it was not trained on; what is shown is measured on test\n"
           "images that neither has seen. An image is answered if its largest probability reaches the threshold.\n\n"
           "## Fashion-MNIST, max_error 0.02\n\n"
           "55,000 images to train (20 epochs), 5,000 to calibrate, 10,000 to test. The calibration error is the expected\n"
           "one over 15 bins of confidence (Guo and others 2017).\n\n");
    fflush(stdout);
    struct images clothes_images = read_all(clothes_test);
    clothes_rows(clothes, clothes_images);
    printf("\n## What a reader of digits says to what is no digit\n\n"
           "8,000 digits to train (30 epochs, batch 64), 1,000 to calibrate, 1,000 to test. It is shown the 10,000 test\n"
           "images of clothes, %d images of noise and %d plain grey ones, and, by a reader that was trained without any\n"
           "9, the nines of the test set. Turned away are those below the threshold.\n\n", NOISE, NOISE);
    fflush(stdout);
    digit_rows(read_all(digits), read_all(digits_test), clothes_images);
    printf("\nThe threshold is chosen on 1,000 images: at max_error 0.001 by one image or none. A network that has to choose\n"
           "among digits has no class for what is none; the threshold turns away much of it, and not all.\n");
    return EXIT_SUCCESS;
}
