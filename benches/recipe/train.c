/* Trains once on the Fashion-MNIST in LENET_DATA with LENET_PRESET_ACCURATE, as run.py asks:
 *
 *   train THREADS SEED EPOCHS SECONDS SHIFT FLIP MIRROR
 *
 * EPOCHS 0: as many as there are SECONDS for. It says, as JSON, which accuracy the test images are read with after the
 * last step, and how long the training took. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <lenet.h>

#include "data_folder.h"

/* Of the training pixels / 255. */
#define INPUT_MEAN 0.2860
#define INPUT_STD 0.3530

#define CHECK(call) check((call), #call)
static void check(lenet_status status, const char *call)
{
    if (status == LENET_OK)
        return;
    fprintf(stderr, "%s\nfailed with %s: %s\n", call, lenet_status_name(status), lenet_last_error());
    exit(EXIT_FAILURE);
}

static lenet_dataset *open_dataset(const char *images, const char *labels)
{
    const char *folder = getenv("LENET_DATA");
    char images_path[4096], labels_path[4096];
    lenet_dataset *dataset = NULL;
    if (folder == NULL) {
        fprintf(stderr, "LENET_DATA is not set\n");
        exit(EXIT_FAILURE);
    }
    if (!data_folder_find(folder, images, images_path, sizeof images_path) ||
        !data_folder_find(folder, labels, labels_path, sizeof labels_path))
        exit(EXIT_FAILURE);
    CHECK(lenet_dataset_open(images_path, labels_path, &dataset));
    return dataset;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: %s THREADS SEED EPOCHS SECONDS SHIFT FLIP MIRROR\n", argv[0]);
        return EXIT_FAILURE;
    }
    lenet_options options;
    lenet_fit_options fit;
    lenet_model *model = NULL;
    lenet_metrics metrics = {.struct_size = sizeof metrics};
    CHECK(lenet_options_init(&options, sizeof options, LENET_PRESET_ACCURATE));
    CHECK(lenet_fit_options_init(&fit, sizeof fit, LENET_PRESET_ACCURATE));
    options.num_threads = (uint32_t)atoi(argv[1]);
    options.seed = strtoull(argv[2], NULL, 10);
    options.input_mean = INPUT_MEAN;
    options.input_std = INPUT_STD;
    options.mirror = (uint32_t)atoi(argv[7]);
    fit.epochs = (uint32_t)atoi(argv[3]);
    fit.max_seconds = atof(argv[4]);
    fit.shift = (uint32_t)atoi(argv[5]);
    fit.flip = atof(argv[6]);

    lenet_dataset *train = open_dataset("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    lenet_dataset *test = open_dataset("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    CHECK(lenet_create(&options, &model));
    const double start = seconds();
    CHECK(lenet_fit(model, train, NULL, &fit, NULL, NULL));
    const double took = seconds() - start;
    CHECK(lenet_evaluate(model, test, &metrics, NULL, 0));
    printf("{\"accuracy\": %.4f, \"seconds\": %.3f, \"build\": \"%s\"}\n", metrics.accuracy, took, lenet_build_info());
    lenet_free(model);
    lenet_dataset_free(train);
    lenet_dataset_free(test);
    return EXIT_SUCCESS;
}
