/* From a folder of pictures to a model that knows when it is not sure.
 *
 *   own_images FOLDER     FOLDER has a folder of PNG, JPEG, BMP or PNM pictures for each class, which is
 *                         named after it: FOLDER/cat/1.png, FOLDER/dog/photo.jpg, ...
 *
 * Writes own_images.safetensors, which classify.c uses, to the folder OUT, at first the current one.
 * PREPARE says how pictures become what the network sees:
 *   resize   whole, as they are; for photographs and all that fills its picture
 *   glyph    digits, letters and signs on paper are looked for, and made alike in place, size and
 *            colour, however they were written
 * SIZE is the side of what it sees (16 to 256, a multiple of 4), MAX_ERROR the share of answers that may
 * be wrong when the model is sure; EPOCHS, BATCH, LR and SEED change the training.
 *
 * fashion_mnist.c shows how Ctrl-C ends a training without losing it. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lenet.h>

#include "progress_bar.h"
#include "settings.h"

#define FILE_NAME "own_images.safetensors"

/* Some hundred or thousand pictures. Of more, fewer epochs and larger batches are enough. */
#define EPOCHS 30
#define BATCH 32
#define PATIENCE 10
#define MAX_ERROR 0.02

/* To train with. Half of the rest chooses the epoch and the threshold, the other half judges them. */
#define TRAIN 0.7

enum { NAME_SIZE = 256 }; /* enough for any name, the NUL included */

static void check(lenet_status status);
static lenet_dataset *read_pictures(const char *folder, const lenet_options *options);
static void print_classes(const lenet_dataset *dataset);
static void train(lenet_model *model, const lenet_dataset *train_set, const lenet_dataset *validation_set,
                  const lenet_fit_options *options);
static void print_confusion(const lenet_model *model, const lenet_dataset *test_set);
static void print_trust(const lenet_model *model, const lenet_dataset *test_set, double threshold);
static void join(char *path, size_t size, const char *folder, const char *name);
static void *allocate(size_t n, size_t size);

int main(int argc, char **argv)
{
    static const char *const preparations[] = {"resize", "glyph"};
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FOLDER\nFOLDER has a folder of pictures for each class.\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (lenet_version_number() < LENET_VERSION_NUMBER) {
        fprintf(stderr, "liblenet %s is older than the lenet.h that this program was built with\n", lenet_version());
        return EXIT_FAILURE;
    }

    /* Settings: all of them are checked before anything takes time. */
    lenet_options options;
    lenet_fit_options fit_options;
    check(lenet_options_init(&options, sizeof options, LENET_PRESET_ACCURATE));
    check(lenet_fit_options_init(&fit_options, sizeof fit_options, LENET_PRESET_ACCURATE));
    options.preparation =
        setting_choice("PREPARE", "resize", preparations, 2) == 0 ? LENET_PREPARE_RESIZE : LENET_PREPARE_GLYPH;
    options.height = options.width = (uint32_t)setting_integer("SIZE", 28, 16, 256);
    options.seed = setting_integer("SEED", options.seed, 0, UINT64_MAX);
    options.learning_rate = setting_number("LR", options.learning_rate);
    fit_options.epochs = (uint32_t)setting_integer("EPOCHS", EPOCHS, 1, 100000);
    fit_options.batch_size = (uint32_t)setting_integer("BATCH", BATCH, 1, 60000);
    fit_options.patience = PATIENCE;
    fit_options.keep = LENET_KEEP_BEST;
    fit_options.class_balance = 1; /* a class of few pictures counts as much as one of many */
    const double max_error = setting_number("MAX_ERROR", MAX_ERROR);
    if (max_error > 1) {
        fprintf(stderr, "MAX_ERROR=%g: expected a share, from 0 to 1\n", max_error);
        return EXIT_FAILURE;
    }
    const char *out = setting_text("OUT", ".");
    char model_path[4096];
    join(model_path, sizeof model_path, out, FILE_NAME);
    if (access(out, W_OK | X_OK) != 0) {
        perror(out);
        return EXIT_FAILURE;
    }

    /* Pictures: what the model is judged by, it has never seen. */
    lenet_dataset *all = read_pictures(argv[1], &options);
    print_classes(all);
    lenet_dataset *train_set = NULL, *rest = NULL, *validation_set = NULL, *test_set = NULL;
    check(lenet_dataset_split(all, TRAIN, options.seed, &train_set, &rest));
    check(lenet_dataset_split(rest, 0.5, options.seed, &validation_set, &test_set));
    printf("%zu to train with, %zu to validate, %zu to test\n\n", lenet_dataset_count(train_set),
           lenet_dataset_count(validation_set), lenet_dataset_count(test_set));

    /* Model: it sees pictures normalised. */
    check(lenet_dataset_statistics(train_set, &options.input_mean, &options.input_std));
    if (options.input_std == 0)
        options.input_std = 1; /* all pixels are alike */
    options.classes = (uint32_t)lenet_dataset_class_count(all);
    lenet_model *model = NULL;
    check(lenet_create(&options, &model));
    train(model, train_set, validation_set, &fit_options);
    print_confusion(model, test_set);

    /* Trust: below the threshold the model is not sure. */
    lenet_calibration calibration = {.struct_size = sizeof calibration};
    check(lenet_calibrate(model, validation_set, max_error, &calibration));
    print_trust(model, test_set, calibration.threshold);

    /* The file has the names of the classes, the preparation, the temperature and the threshold: whoever
     * uses it needs nothing else. */
    check(lenet_save(model, model_path));
    printf("\nsaved %s\n", model_path);

    lenet_free(model);
    lenet_dataset_free(all);
    lenet_dataset_free(rest);
    lenet_dataset_free(train_set);
    lenet_dataset_free(validation_set);
    lenet_dataset_free(test_set);
    return EXIT_SUCCESS;
}

/* The library's sentence says what, where and which value. */
static void check(lenet_status status)
{
    if (status == LENET_OK)
        return;
    fflush(stdout);
    fprintf(stderr, "%s\n", lenet_last_error());
    exit(EXIT_FAILURE);
}

/* ---- pictures */

static int32_t on_picture(const lenet_progress *progress, void *user_data)
{
    progress_bar_draw(user_data, (double)progress->step / (double)progress->steps, "%" PRIu64 " of %" PRIu64 " pictures",
                      progress->step, progress->steps);
    return 0;
}

static lenet_dataset *read_pictures(const char *folder, const lenet_options *options)
{
    struct progress_bar bar;
    lenet_dataset *dataset = NULL;
    progress_bar_init(&bar);
    const lenet_status status = lenet_dataset_open_folder_with(folder, options, on_picture, &bar, &dataset);
    progress_bar_clear(&bar);
    check(status);
    return dataset;
}

/* A name, and spaces up to `width` characters: printf would count the bytes. */
static void print_name(const char *name, size_t width)
{
    size_t characters = 0;
    for (const char *byte = name; *byte != '\0'; byte++)
        characters += ((unsigned char)*byte & 0xc0) != 0x80; /* UTF-8 goes on with 10xxxxxx */
    printf("%s%*s", name, characters < width ? (int)(width - characters) : 0, "");
}

static void print_classes(const lenet_dataset *dataset)
{
    const size_t classes = lenet_dataset_class_count(dataset);
    uint64_t *counts = allocate(classes, sizeof *counts);
    check(lenet_dataset_class_counts(dataset, counts, classes));
    printf("%zu pictures of %zu class%s\n", lenet_dataset_count(dataset), classes, classes == 1 ? "" : "es");
    for (size_t i = 0; i < classes; i++) {
        char name[NAME_SIZE];
        check(lenet_dataset_class_name(dataset, i, name, sizeof name, NULL));
        printf("  ");
        print_name(name, 20);
        printf(" %6" PRIu64 "\n", counts[i]);
    }
    free(counts);
}

/* ---- training */

static int32_t on_step(const lenet_progress *progress, void *user_data)
{
    struct progress_bar *bar = user_data;
    if (progress->event == LENET_PROGRESS_EPOCH_END) {
        progress_bar_clear(bar);
        printf("epoch %2" PRIu32 "/%" PRIu32 "  training loss %.3f  validation loss %.3f, %.1f %% right\n", progress->epoch,
               progress->epochs, progress->loss, progress->validation_loss, 100 * progress->validation_accuracy);
        fflush(stdout);
    } else {
        const double epochs = (double)(progress->epoch - 1) + (double)progress->step / (double)progress->steps;
        progress_bar_draw(bar, epochs / progress->epochs, "epoch %" PRIu32 "/%" PRIu32 "  loss %.3f  %.0f images/s",
                          progress->epoch, progress->epochs, progress->loss, progress->images_per_second);
    }
    return 0;
}

/* The model gets the names of the classes from its training data. */
static void train(lenet_model *model, const lenet_dataset *train_set, const lenet_dataset *validation_set,
                  const lenet_fit_options *options)
{
    struct progress_bar bar;
    progress_bar_init(&bar);
    const lenet_status status = lenet_fit(model, train_set, validation_set, options, on_step, &bar);
    progress_bar_clear(&bar);
    check(status);
}

/* ---- what came of it */

/* A line for each class: how many were right, and what the others were taken for, the most first. */
static void print_confusion(const lenet_model *model, const lenet_dataset *test_set)
{
    const size_t classes = lenet_dataset_class_count(test_set);
    uint64_t *confusion = allocate(classes * classes, sizeof *confusion); /* row = truth */
    char(*names)[NAME_SIZE] = allocate(classes, sizeof *names);
    lenet_metrics metrics = {.struct_size = sizeof metrics};
    check(lenet_evaluate(model, test_set, &metrics, confusion, classes * classes));
    for (size_t i = 0; i < classes; i++)
        check(lenet_class_name(model, i, names[i], sizeof names[i], NULL));

    printf("\ntest: %" PRIu64 " of %" PRIu64 " right (%.1f %%)\n", metrics.correct, metrics.count, 100 * metrics.accuracy);
    for (size_t truth = 0; truth < classes; truth++) {
        uint64_t *row = confusion + truth * classes, all = 0;
        for (size_t i = 0; i < classes; i++)
            all += row[i];
        printf("  ");
        print_name(names[truth], 20);
        printf(" %4" PRIu64 " of %" PRIu64, row[truth], all);
        row[truth] = 0;
        for (const char *before = "  taken for";; before = ",") {
            size_t most = 0;
            for (size_t i = 1; i < classes; i++)
                if (row[i] > row[most])
                    most = i;
            if (row[most] == 0)
                break;
            printf("%s %s %" PRIu64, before, names[most], row[most]);
            row[most] = 0;
        }
        printf("\n");
    }
    free(names);
    free(confusion);
}

/* Of the test pictures, how many are answered, and how many of these wrongly. */
static void print_trust(const lenet_model *model, const lenet_dataset *test_set, double threshold)
{
    const size_t n = lenet_dataset_count(test_set), classes = lenet_dataset_class_count(test_set);
    uint32_t height = 0, width = 0;
    check(lenet_dataset_size(test_set, &height, &width));
    uint8_t *images = allocate(n, (size_t)height * width), *labels = allocate(n, 1), *answers = allocate(n, 1);
    float *probabilities = allocate(n, classes * sizeof *probabilities);
    check(lenet_dataset_read(test_set, 0, n, images, labels));
    check(lenet_predict_u8(model, images, n, answers, probabilities));
    size_t sure = 0, wrong = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)probabilities[i * classes + answers[i]] >= threshold) {
            sure++;
            wrong += answers[i] != labels[i];
        }
    if (threshold > 1)
        printf("\nnever sure: even of its surest answers, too many were wrong\n");
    else
        printf("\nsure from a probability of %.3f on: %zu of %zu test pictures, %zu of them wrongly\n", threshold, sure, n,
               wrong);
    free(probabilities);
    free(answers);
    free(labels);
    free(images);
}

static void join(char *path, size_t size, const char *folder, const char *name)
{
    const int length = snprintf(path, size, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= size) {
        fprintf(stderr, "the path of OUT is too long\n");
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory: %zu times %zu bytes\n", n, size);
        exit(EXIT_FAILURE);
    }
    return memory;
}
