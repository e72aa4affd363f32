/* A reader of the digits 0 to 7 is taught 8 and 9 on the spot: from ten pictures of each, in a second, without
 * forgetting the others.
 *
 *   teach FOLDER     FOLDER holds the four IDX files of digits (fetch_digits.sh brings some)
 *
 * What it takes: lenet_clone_with_classes(), which gives the last layer two more rows; some hundred pictures of the old
 * digits, kept for this, for whoever sees the new ones alone forgets the rest; and lenet_train_batch_weighted_u8(),
 * so that ten pictures of a class count as much as fifty. SEED changes the training. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lenet.h>

#include "data_folder.h"
#include "settings.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, OLD = 8, ALL = 10 };
enum { SHOWN = 10, KEPT = 50 };          /* pictures of each new class, and of each old one */
enum { EPOCHS = 5, BATCH = 64 };         /* of the reader, and of the one that learns everything from the start */
enum { LESSONS = 600, MOST_SHIFT = 2 };  /* steps to learn the new classes; pixels by which their pictures move */
#define RATE 0.002 /* at first; it falls to nothing */

struct digits {
    size_t n;
    uint8_t *pixels; /* n x 28 x 28 */
    uint8_t *labels; /* n */
};

#define CHECK(call) check((call), #call)
static void check(lenet_status status, const char *call);
static struct digits load(const char *folder, const char *images_name, const char *labels_name);
static struct digits some_of(const struct digits *from, int first, int last, size_t of_each);
static lenet_model *reader(const struct digits *train, uint32_t classes, uint64_t seed);
static int32_t fall(const lenet_progress *progress, void *model);
static double teach(lenet_model *model, const struct digits *lesson, uint64_t seed);
static void report(const char *who, const lenet_model *model, const struct digits *test);
static void shifted(const uint8_t *from, int down, int right, uint8_t *to);
static uint64_t next_random(uint64_t *random);
static void *allocate(size_t size);

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return EXIT_FAILURE;
    }
    const uint64_t seed = setting_integer("SEED", 0, 0, UINT64_MAX);
    struct digits train = load(argv[1], "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    struct digits test = load(argv[1], "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    struct digits old = some_of(&train, 0, OLD, train.n);

    printf("test accuracy                            0 to 7   8 and 9       all\n");
    lenet_model *model = reader(&old, OLD, seed);
    report("a reader of 0 to 7", model, &test);

    /* All that is needed from here on: the model, and these few pictures. */
    struct digits shown = some_of(&train, OLD, ALL, SHOWN), kept = some_of(&train, 0, OLD, KEPT);
    if (shown.n < (ALL - OLD) * SHOWN || kept.n < OLD * KEPT) {
        fprintf(stderr, "%s has less than %d pictures of 8 or 9, or than %d of another digit\n", argv[1], SHOWN, KEPT);
        return EXIT_FAILURE;
    }
    struct digits both = {.n = kept.n + shown.n};
    both.pixels = allocate(both.n * PIXELS);
    both.labels = allocate(both.n);
    memcpy(both.pixels, kept.pixels, kept.n * PIXELS);
    memcpy(both.pixels + kept.n * PIXELS, shown.pixels, shown.n * PIXELS);
    memcpy(both.labels, kept.labels, kept.n);
    memcpy(both.labels + kept.n, shown.labels, shown.n);

    lenet_model *forgetful = NULL, *taught = NULL;
    CHECK(lenet_clone_with_classes(model, ALL, &forgetful));
    teach(forgetful, &shown, seed);
    report("taught 8 and 9 alone", forgetful, &test);

    CHECK(lenet_clone_with_classes(model, ALL, &taught));
    const double seconds = teach(taught, &both, seed);
    report("taught 8 and 9 among kept pictures", taught, &test);

    lenet_model *everything = reader(&train, ALL, seed);
    report("had it seen all of them from the start", everything, &test);
    printf("taught with %zu pictures of new digits and %zu kept ones, %d steps in %.2f s of processor time\n", shown.n,
           kept.n, LESSONS, seconds);
    printf("what so few pictures cost is what the last row has over the one before; it saw %zu of them\n", train.n);

    lenet_free(everything);
    lenet_free(taught);
    lenet_free(forgetful);
    lenet_free(model);
    struct digits *all[] = {&train, &test, &old, &shown, &kept, &both};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]->pixels);
        free(all[i]->labels);
    }
    return EXIT_SUCCESS;
}

/* A model that has seen so many digits, each EPOCHS times. */
static lenet_model *reader(const struct digits *train, uint32_t classes, uint64_t seed)
{
    lenet_options options;
    lenet_fit_options fit;
    lenet_model *model = NULL;
    lenet_dataset *dataset = NULL;
    CHECK(lenet_options_init(&options, sizeof options, LENET_PRESET_MODERN));
    CHECK(lenet_fit_options_init(&fit, sizeof fit, LENET_PRESET_MODERN));
    options.classes = classes;
    options.seed = seed;
    options.learning_rate = RATE;
    fit.epochs = EPOCHS;
    fit.batch_size = BATCH;
    CHECK(lenet_create(&options, &model));
    CHECK(lenet_dataset_from_memory(train->pixels, train->labels, train->n, SIDE, SIDE, &dataset));
    CHECK(lenet_fit(model, dataset, NULL, &fit, fall, model));
    lenet_dataset_free(dataset);
    return model;
}

/* A schedule of our own: the one change that a progress function may make to its model. */
static int32_t fall(const lenet_progress *progress, void *model)
{
    const double epochs = (double)(progress->epoch - 1) + (double)progress->step / (double)progress->steps;
    CHECK(lenet_set_learning_rate(model, RATE * (1 - epochs / progress->epochs)));
    return 0;
}

/* Steps on batches that are drawn from the lesson; the seconds that they take. Every class weighs the same, and the
 * pictures move a little each time, for there are so few of them. */
static double teach(lenet_model *model, const struct digits *lesson, uint64_t seed)
{
    static uint8_t images[BATCH * PIXELS], labels[BATCH];
    float weights[BATCH];
    size_t counts[ALL] = {0};
    for (size_t i = 0; i < lesson->n; i++)
        counts[lesson->labels[i]]++;

    const clock_t start = clock();
    uint64_t random = seed;
    for (int step = 0; step < LESSONS; step++) {
        CHECK(lenet_set_learning_rate(model, RATE * (1 - (double)step / LESSONS)));
        for (size_t i = 0; i < BATCH; i++) {
            const size_t picked = (size_t)(next_random(&random) % lesson->n);
            const int range = 2 * MOST_SHIFT + 1;
            const int down = (int)(next_random(&random) % (unsigned)range) - MOST_SHIFT;
            const int right = (int)(next_random(&random) % (unsigned)range) - MOST_SHIFT;
            labels[i] = lesson->labels[picked];
            shifted(lesson->pixels + picked * PIXELS, down, right, images + i * PIXELS);
            weights[i] = 1.0f / (float)counts[labels[i]];
        }
        CHECK(lenet_train_batch_weighted_u8(model, images, labels, weights, BATCH, NULL));
    }
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* A row of the table: how many of the old, the new and all test digits are read right. */
static void report(const char *who, const lenet_model *model, const struct digits *test)
{
    uint8_t *classes = allocate(test->n);
    size_t right[2] = {0, 0}, n[2] = {0, 0};
    CHECK(lenet_predict_u8(model, test->pixels, test->n, classes, NULL));
    for (size_t i = 0; i < test->n; i++) {
        const int is_new = test->labels[i] >= OLD;
        n[is_new]++;
        right[is_new] += classes[i] == test->labels[i];
    }
    printf("%-38s %8.3f  %8.3f  %8.3f\n", who, (double)right[0] / (double)n[0], (double)right[1] / (double)n[1],
           (double)(right[0] + right[1]) / (double)test->n);
    fflush(stdout);
    free(classes);
}

static void shifted(const uint8_t *from, int down, int right, uint8_t *to)
{
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            const int row = y - down, column = x - right;
            const int inside = row >= 0 && row < SIDE && column >= 0 && column < SIDE;
            to[y * SIDE + x] = inside ? from[row * SIDE + column] : 0;
        }
    }
}

static struct digits load(const char *folder, const char *images_name, const char *labels_name)
{
    char images_path[4096], labels_path[4096];
    uint32_t height = 0, width = 0;
    lenet_dataset *dataset = NULL;
    if (!data_folder_find(folder, images_name, images_path, sizeof images_path) ||
        !data_folder_find(folder, labels_name, labels_path, sizeof labels_path))
        exit(EXIT_FAILURE);
    CHECK(lenet_dataset_open(images_path, labels_path, &dataset));
    CHECK(lenet_dataset_size(dataset, &height, &width));
    if (height != SIDE || width != SIDE) {
        fprintf(stderr, "%s has images of %" PRIu32 " x %" PRIu32 ", not of 28 x 28\n", images_path, height, width);
        exit(EXIT_FAILURE);
    }
    struct digits digits = {.n = lenet_dataset_count(dataset)};
    digits.pixels = allocate(digits.n * PIXELS);
    digits.labels = allocate(digits.n);
    CHECK(lenet_dataset_read(dataset, 0, digits.n, digits.pixels, digits.labels));
    lenet_dataset_free(dataset);
    return digits;
}

/* The first ones of each class from `first` up to `last`, which is not among them. */
static struct digits some_of(const struct digits *from, int first, int last, size_t of_each)
{
    size_t counts[ALL] = {0};
    struct digits some = {.n = 0};
    some.pixels = allocate(from->n * PIXELS);
    some.labels = allocate(from->n);
    for (size_t i = 0; i < from->n; i++) {
        const uint8_t label = from->labels[i];
        if (label >= first && label < last && counts[label] < of_each) {
            counts[label]++;
            memcpy(some.pixels + some.n * PIXELS, from->pixels + i * PIXELS, PIXELS);
            some.labels[some.n++] = label;
        }
    }
    return some;
}

static void check(lenet_status status, const char *call)
{
    if (status == LENET_OK)
        return;
    fflush(stdout);
    fprintf(stderr, "%s\nfailed with %s: %s\n", call, lenet_status_name(status), lenet_last_error());
    exit(EXIT_FAILURE);
}

/* splitmix64 (Steele, Lea, Flood 2014). */
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
