/* Measures lenet for run.py: a command a line on stdin, an answer a line of JSON on stdout.
 *
 *   lenet_worker THREADS [cpu|cuda [floats|bytes]]     what models compute on, and what train and predict are given
 *
 * worker.py describes the commands. Only this worker knows `callers`, in which THREADS of the host predict on one
 * model that has no threads of its own, `peak`, what the CPU could do at best, `first`, what it takes to make a model
 * and to predict one image with it, and `info`. The Fashion-MNIST of `fit` and `epochs` is in the folder LENET_DATA.
 * With LENET_ENGINE=candle in the environment it is candle that is measured. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lenet.h>

#include "data_folder.h"

/* The widest vectors, and CHAINS: independent sums for `peak`, more than a CPU's multiply-adds in flight
 * (latency times units), no more than its registers hold. */
#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512 vector;
enum { CHAINS = 12 };
#define SPLAT _mm512_set1_ps
#define MULTIPLY_ADD _mm512_fmadd_ps
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef __m256 vector;
enum { CHAINS = 12 };
#define SPLAT _mm256_set1_ps
#define MULTIPLY_ADD _mm256_fmadd_ps
#elif defined(__aarch64__)
#include <arm_neon.h>
typedef float32x4_t vector;
enum { CHAINS = 24 };
#define SPLAT vdupq_n_f32
#define MULTIPLY_ADD(a, b, c) vfmaq_f32(c, a, b)
#else
#error "peak needs AVX-512, AVX2 with FMA, or NEON: compile with -march=native on a CPU that has one"
#endif

enum {
    CLASSES = 10,
    FIT_BATCH = 256,
    FIT_SIDE = 28,
    BATCHES = 16,           /* that training goes round, so that it does not learn one by heart */
    LINKS = 20000,          /* multiply-adds of each chain between two looks at the clock */
    LATENCIES = 1000 * 1000 /* at most */
};
#define WARM_UP_SECONDS 0.1

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "lenet_worker: %s: %s\n", what, detail);
    exit(EXIT_FAILURE);
}

#define CHECK(call)                            \
    do {                                       \
        if ((call) != LENET_OK)                \
            fail(#call, lenet_last_error());   \
    } while (0)

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("calloc", "out of memory");
    return memory;
}

/* From the command line. */
static struct {
    uint32_t threads;
    int32_t device;
    bool bytes;
} chosen;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- what is measured: a model, made-up batches, room for the results */

struct bench {
    lenet_model *model;
    size_t batch, pixels, next;
    float *floats;  /* BATCHES x batch x pixels; or instead */
    uint8_t *bytes; /* the same */
    uint8_t *labels, *classes;
    float *probabilities;
};

static lenet_model *create(const char *preset, uint32_t side, uint32_t threads)
{
    lenet_options options;
    lenet_model *model;
    const bool modern = strcmp(preset, "modern") == 0;
    if (!modern && strcmp(preset, "classic") != 0)
        fail("no such preset", preset);
    CHECK(lenet_options_init(&options, sizeof options, modern ? LENET_PRESET_MODERN : LENET_PRESET_CLASSIC));
    options.height = options.width = side;
    options.num_threads = threads;
    options.device = chosen.device;
    CHECK(lenet_create(&options, &model));
    return model;
}

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static struct bench prepare(const char *preset, size_t batch, size_t batches, uint32_t side, uint32_t threads)
{
    const size_t count = batches * batch, pixels = (size_t)side * side;
    struct bench bench = {
        .model = create(preset, side, threads),
        .batch = batch,
        .pixels = pixels,
        .floats = chosen.bytes ? NULL : allocate(count * pixels, sizeof(float)),
        .bytes = chosen.bytes ? allocate(count * pixels, 1) : NULL,
        .labels = allocate(count, 1),
        .classes = allocate(batch, 1),
        .probabilities = allocate(batch * CLASSES, sizeof(float)),
    };
    uint32_t state = 1;
    for (size_t i = 0; i < count * pixels; i++) {
        const uint32_t drawn = draw(&state); /* 24 bits */
        if (chosen.bytes)
            bench.bytes[i] = (uint8_t)(drawn >> 16);
        else
            bench.floats[i] = (float)drawn / (float)(1 << 24);
    }
    for (size_t i = 0; i < count; i++)
        bench.labels[i] = (uint8_t)(draw(&state) % CLASSES);
    return bench;
}

static void discard(struct bench *bench)
{
    lenet_free(bench->model);
    free(bench->floats);
    free(bench->bytes);
    free(bench->labels);
    free(bench->classes);
    free(bench->probabilities);
}

static void train_step(struct bench *bench)
{
    const size_t first = bench->next++ % BATCHES * bench->batch;
    const uint8_t *labels = bench->labels + first;
    float loss;
    if (chosen.bytes)
        CHECK(lenet_train_batch_u8(bench->model, bench->bytes + first * bench->pixels, labels, bench->batch, &loss));
    else
        CHECK(lenet_train_batch(bench->model, bench->floats + first * bench->pixels, labels, bench->batch, &loss));
}

static void predict_step(struct bench *bench)
{
    if (chosen.bytes)
        CHECK(lenet_predict_u8(bench->model, bench->bytes, bench->batch, bench->classes, bench->probabilities));
    else
        CHECK(lenet_predict(bench->model, bench->floats, bench->batch, bench->classes, bench->probabilities));
}

/* ---- the commands */

struct timing {
    size_t count; /* calls or images */
    double seconds;
};

static struct timing repeat(void (*step)(struct bench *), struct bench *bench, double seconds)
{
    struct timing timing = {0, 0};
    const double start = now();
    do {
        step(bench);
        timing.count++;
        timing.seconds = now() - start;
    } while (timing.seconds < seconds);
    return timing;
}

static void throughput(void (*step)(struct bench *), struct bench *bench, double seconds)
{
    repeat(step, bench, WARM_UP_SECONDS);
    const struct timing timing = repeat(step, bench, seconds);
    printf("{\"images\": %zu, \"seconds\": %.9f}\n", timing.count * bench->batch, timing.seconds);
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void latency(struct bench *bench, double seconds)
{
    double *calls = allocate(LATENCIES, sizeof *calls);
    repeat(predict_step, bench, WARM_UP_SECONDS);
    size_t count = 0;
    const double start = now();
    do {
        const double before = now();
        predict_step(bench);
        calls[count++] = now() - before;
    } while (count < LATENCIES && now() - start < seconds);
    qsort(calls, count, sizeof *calls, by_value);
    printf("{\"median_us\": %.3f, \"p99_us\": %.3f}\n", calls[count / 2] * 1e6, calls[count * 99 / 100] * 1e6);
    free(calls);
}

struct caller {
    struct bench bench; /* its own but for model and images */
    pthread_barrier_t *barrier;
    double seconds, start, end;
    size_t calls;
};

static void *call(void *argument)
{
    struct caller *caller = argument;
    repeat(predict_step, &caller->bench, WARM_UP_SECONDS);
    pthread_barrier_wait(caller->barrier);
    caller->start = now();
    caller->calls = repeat(predict_step, &caller->bench, caller->seconds).count;
    caller->end = now();
    return NULL;
}

/* Runs as many threads as there are `items` of `size` bytes, and waits for them. */
static void together(void *(*work)(void *), void *items, size_t size, uint32_t count)
{
    pthread_t *handles = allocate(count, sizeof *handles);
    for (uint32_t i = 0; i < count; i++)
        if (pthread_create(&handles[i], NULL, work, (char *)items + i * size) != 0)
            fail("pthread_create", "refused");
    for (uint32_t i = 0; i < count; i++)
        pthread_join(handles[i], NULL);
    free(handles);
}

static void callers(const struct bench *shared, uint32_t count, double seconds)
{
    pthread_barrier_t barrier;
    if (pthread_barrier_init(&barrier, NULL, count) != 0)
        fail("pthread_barrier_init", "refused");
    struct caller *all = allocate(count, sizeof *all);
    for (uint32_t i = 0; i < count; i++) {
        all[i] = (struct caller){.bench = *shared, .barrier = &barrier, .seconds = seconds};
        all[i].bench.classes = allocate(shared->batch, 1);
        all[i].bench.probabilities = allocate(shared->batch * CLASSES, sizeof(float));
    }
    together(call, all, sizeof *all, count);
    double start = INFINITY, end = 0;
    size_t calls = 0;
    for (uint32_t i = 0; i < count; i++) {
        start = fmin(start, all[i].start);
        end = fmax(end, all[i].end);
        calls += all[i].calls;
        free(all[i].bench.classes);
        free(all[i].bench.probabilities);
    }
    printf("{\"images\": %zu, \"seconds\": %.9f}\n", calls * shared->batch, end - start);
    pthread_barrier_destroy(&barrier);
    free(all);
}

struct fit {
    double start, limit;
    uint64_t steps;
    bool whole;
};

static int32_t on_progress(const lenet_progress *progress, void *user_data)
{
    struct fit *fit = user_data;
    fit->steps = progress->step;
    fit->whole = progress->step == progress->steps;
    return !fit->whole && now() - fit->start >= fit->limit;
}

/* One epoch, or what of it goes into so many seconds. */
static struct timing fit_epoch(const lenet_dataset *dataset, const char *preset, uint32_t threads, double seconds)
{
    lenet_fit_options options;
    CHECK(lenet_fit_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    options.epochs = 1;
    options.batch_size = FIT_BATCH;
    lenet_model *model = create(preset, FIT_SIDE, threads);
    struct fit fit = {.start = now(), .limit = seconds};
    const lenet_status status = lenet_fit(model, dataset, NULL, &options, on_progress, &fit);
    const double elapsed = now() - fit.start;
    if (status != LENET_ERROR_CANCELLED)
        CHECK(status);
    lenet_free(model);
    const size_t images = fit.whole ? lenet_dataset_count(dataset) : (size_t)fit.steps * FIT_BATCH;
    return (struct timing){images, elapsed};
}

static lenet_dataset *fashion_mnist(void)
{
    const char *folder = getenv("LENET_DATA");
    char images[4096], labels[4096];
    if (folder == NULL)
        fail("LENET_DATA", "not set; the folder of Fashion-MNIST");
    if (!data_folder_find(folder, "train-images-idx3-ubyte", images, sizeof images) ||
        !data_folder_find(folder, "train-labels-idx1-ubyte", labels, sizeof labels))
        exit(EXIT_FAILURE);
    lenet_dataset *dataset;
    CHECK(lenet_dataset_open(images, labels, &dataset));
    return dataset;
}

static void fit(const char *preset, uint32_t threads, double seconds)
{
    lenet_dataset *dataset = fashion_mnist();
    fit_epoch(dataset, preset, threads, WARM_UP_SECONDS);
    const struct timing timing = fit_epoch(dataset, preset, threads, seconds);
    printf("{\"images\": %zu, \"seconds\": %.9f}\n", timing.count, timing.seconds);
    lenet_dataset_free(dataset);
}

/* The first images of Fashion-MNIST, which stay as they are, also where a GPU has a copy of them. */
static const lenet_dataset *first_images(size_t count)
{
    static lenet_dataset *kept = NULL;
    static size_t kept_count = 0;
    if (kept != NULL && kept_count == count)
        return kept;
    lenet_dataset_free(kept);
    lenet_dataset *all = fashion_mnist();
    const size_t size = (size_t)FIT_SIDE * FIT_SIDE;
    uint8_t *images = allocate(count * size, 1), *labels = allocate(count, 1);
    CHECK(lenet_dataset_read(all, 0, count, images, labels));
    lenet_dataset_free(all);
    CHECK(lenet_dataset_from_memory(images, labels, count, FIT_SIDE, FIT_SIDE, &kept));
    kept_count = count;
    free(images);
    free(labels);
    return kept;
}

static int32_t read_loss(const lenet_progress *progress, void *user_data)
{
    *(double *)user_data += (double)progress->loss;
    return 0;
}

/* Whole calls of lenet_fit(), of `epochs` each, until the seconds are over; one at least. A model that is kept has the
 * images on its device and is warm, one that is not is new for each call and must bring them there. */
static void epochs(const char *preset, size_t count, uint32_t batch, uint32_t epochs, bool progress, bool keep,
                   double seconds)
{
    static lenet_model *kept = NULL;
    static char kept_preset[16] = "";
    const lenet_dataset *dataset = first_images(count);
    lenet_fit_options options;
    CHECK(lenet_fit_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    options.epochs = 1;
    options.batch_size = batch;
    if (kept == NULL || strcmp(kept_preset, preset) != 0) {
        lenet_free(kept);
        kept = create(preset, FIT_SIDE, chosen.threads);
        strcpy(kept_preset, preset);
    }
    if (keep)
        CHECK(lenet_fit(kept, dataset, NULL, &options, NULL, NULL));
    options.epochs = epochs;
    double spent = 0, losses = 0;
    size_t images = 0;
    do {
        lenet_model *model = keep ? kept : create(preset, FIT_SIDE, chosen.threads);
        const double start = now();
        CHECK(lenet_fit(model, dataset, NULL, &options, progress ? read_loss : NULL, &losses));
        spent += now() - start;
        images += count * epochs;
        if (!keep)
            lenet_free(model);
    } while (spent < seconds);
    printf("{\"images\": %zu, \"seconds\": %.9f}\n", images, spent);
}

/* Says something new only in a process that had no model before. */
static void first(const char *preset)
{
    const double start = now();
    struct bench bench = prepare(preset, 1, 1, FIT_SIDE, chosen.threads);
    const double made = now();
    predict_step(&bench);
    printf("{\"create_s\": %.6f, \"predict_s\": %.6f}\n", made - start, now() - made);
    discard(&bench);
}

/* ---- the peak: nothing but multiply-adds in registers */

struct racer {
    pthread_barrier_t *barrier;
    double seconds, start, end, gflop;
    float sum; /* keeps the compiler from dropping the work */
};

static void *race(void *argument)
{
    struct racer *racer = argument;
    const vector factor = SPLAT(0.5F), term = SPLAT(1.0F);
    vector sums[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        sums[i] = SPLAT((float)i);
    size_t blocks = 0;
    pthread_barrier_wait(racer->barrier);
    racer->start = now();
    do {
        for (int link = 0; link < LINKS; link++)
            for (int i = 0; i < CHAINS; i++)
                sums[i] = MULTIPLY_ADD(sums[i], factor, term);
        blocks++;
        racer->end = now();
    } while (racer->end - racer->start < racer->seconds);
    const double lanes = sizeof(vector) / sizeof(float);
    racer->gflop = (double)blocks * LINKS * CHAINS * lanes * 2 * 1e-9;
    for (int i = 0; i < CHAINS; i++) {
        float values[sizeof(vector) / sizeof(float)];
        memcpy(values, &sums[i], sizeof values);
        racer->sum += values[0];
    }
    return NULL;
}

static void peak(uint32_t threads, double seconds)
{
    struct racer *racers = allocate(threads, sizeof *racers);
    pthread_barrier_t barrier;
    if (pthread_barrier_init(&barrier, NULL, threads) != 0)
        fail("pthread_barrier_init", "refused");
    for (uint32_t i = 0; i < threads; i++)
        racers[i] = (struct racer){.barrier = &barrier, .seconds = seconds};
    together(race, racers, sizeof *racers, threads);
    double start = INFINITY, end = 0, gflop = 0;
    float sum = 0;
    for (uint32_t i = 0; i < threads; i++) {
        start = fmin(start, racers[i].start);
        end = fmax(end, racers[i].end);
        gflop += racers[i].gflop;
        sum += racers[i].sum;
    }
    printf("{\"gflops\": %.3f, \"sum\": %g}\n", gflop / (end - start), (double)sum);
    pthread_barrier_destroy(&barrier);
    free(racers);
}

int main(int argc, char **argv)
{
    const long threads_given = argc >= 2 && argc <= 4 ? strtol(argv[1], NULL, 10) : 0;
    const char *device = argc > 2 ? argv[2] : "cpu", *pixels = argc > 3 ? argv[3] : "floats";
    const bool cuda = strcmp(device, "cuda") == 0, bytes = strcmp(pixels, "bytes") == 0;
    if (threads_given < 1 || threads_given > 1024 || (!cuda && strcmp(device, "cpu") != 0) ||
        (!bytes && strcmp(pixels, "floats") != 0))
        fail("usage", "lenet_worker THREADS [cpu|cuda [floats|bytes]]");
    const uint32_t threads = chosen.threads = (uint32_t)threads_given;
    chosen.device = cuda ? LENET_DEVICE_CUDA : LENET_DEVICE_CPU;
    chosen.bytes = bytes;

    char line[256], preset[16];
    size_t count;
    uint32_t rounds;
    int progress, keep;
    size_t batch;
    uint32_t side;
    double seconds;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "train %15s %zu %" SCNu32 " %lf", preset, &batch, &side, &seconds) == 4) {
            struct bench bench = prepare(preset, batch, BATCHES, side, threads);
            throughput(train_step, &bench, seconds);
            discard(&bench);
        } else if (sscanf(line, "predict %15s %zu %" SCNu32 " %lf", preset, &batch, &side, &seconds) == 4) {
            struct bench bench = prepare(preset, batch, 1, side, threads);
            throughput(predict_step, &bench, seconds);
            discard(&bench);
        } else if (sscanf(line, "callers %15s %zu %" SCNu32 " %lf", preset, &batch, &side, &seconds) == 4) {
            struct bench bench = prepare(preset, batch, 1, side, 1);
            callers(&bench, threads, seconds);
            discard(&bench);
        } else if (sscanf(line, "latency %15s %" SCNu32 " %lf", preset, &side, &seconds) == 3) {
            struct bench bench = prepare(preset, 1, 1, side, threads);
            latency(&bench, seconds);
            discard(&bench);
        } else if (sscanf(line, "fit %15s %lf", preset, &seconds) == 2) {
            fit(preset, threads, seconds);
        } else if (sscanf(line, "epochs %15s %zu %zu %" SCNu32 " %d %d %lf", preset, &count, &batch, &rounds,
                          &progress, &keep, &seconds) == 7) {
            epochs(preset, count, (uint32_t)batch, rounds, progress != 0, keep != 0, seconds);
        } else if (sscanf(line, "first %15s", preset) == 1) {
            first(preset);
        } else if (sscanf(line, "peak %lf", &seconds) == 1) {
            peak(threads, seconds);
        } else if (strcmp(line, "ready\n") == 0) {
            puts("{}");
        } else if (strcmp(line, "info\n") == 0) {
            printf("{\"version\": \"%s\", \"build\": \"%s\"}\n", lenet_version(), lenet_build_info());
        } else {
            fail("no such command", line);
        }
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
