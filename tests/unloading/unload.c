/* unload LOOPS LIBRARY       a thread loads the library, trains, predicts, unloads it and ends, again and
 *                            again; prints the resident pages after a tenth of the loops and at the end
 * unload both LIBRARY COPY   two copies at once, trained in turn, predict the same
 */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lenet.h>

enum { N = 64, SIDE = 16, CLASSES = 3 };

static uint8_t images[N * SIDE * SIDE], labels[N];

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* The functions of one copy. */
struct lenet {
    void *handle;
    lenet_status (*options_init)(lenet_options *, size_t, int32_t);
    lenet_status (*create)(const lenet_options *, lenet_model **);
    lenet_status (*train)(lenet_model *, const uint8_t *, const uint8_t *, size_t, float *);
    lenet_status (*predict)(const lenet_model *, const uint8_t *, size_t, uint8_t *, float *);
    void (*free)(lenet_model *);
    const char *(*last_error)(void);
};

static void *symbol(void *handle, const char *name)
{
    void *found = dlsym(handle, name);
    if (found == NULL)
        fail(name, dlerror());
    return found;
}

static struct lenet load(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        fail("dlopen", dlerror());
    struct lenet lenet = {.handle = handle};
    /* ISO C has no conversion from an object's to a function's pointer; POSIX means this one. */
    *(void **)&lenet.options_init = symbol(handle, "lenet_options_init");
    *(void **)&lenet.create = symbol(handle, "lenet_create");
    *(void **)&lenet.train = symbol(handle, "lenet_train_batch_u8");
    *(void **)&lenet.predict = symbol(handle, "lenet_predict_u8");
    *(void **)&lenet.free = symbol(handle, "lenet_free");
    *(void **)&lenet.last_error = symbol(handle, "lenet_last_error");
    return lenet;
}

static lenet_model *create(const struct lenet *lenet)
{
    lenet_options options;
    lenet_model *model;
    if (lenet->options_init(&options, sizeof options, LENET_PRESET_CLASSIC) != LENET_OK)
        fail("lenet_options_init", lenet->last_error());
    options.height = options.width = SIDE;
    options.classes = CLASSES;
    options.num_threads = 2;
    if (lenet->create(&options, &model) != LENET_OK)
        fail("lenet_create", lenet->last_error());
    return model;
}

static void step(const struct lenet *lenet, lenet_model *model, float *probabilities)
{
    if (lenet->train(model, images, labels, N, NULL) != LENET_OK ||
        lenet->predict(model, images, N, NULL, probabilities) != LENET_OK)
        fail("a step", lenet->last_error());
}

static void *use(void *path)
{
    const struct lenet lenet = load(path);
    float probabilities[N * CLASSES];
    lenet_model *model = create(&lenet);
    step(&lenet, model, probabilities);
    /* So that this thread has an error of its own, too. */
    if (lenet.train(model, NULL, labels, N, NULL) != LENET_ERROR_NULL_POINTER)
        fail("a NULL pointer", "accepted");
    lenet.free(model);
    if (dlclose(lenet.handle) != 0)
        fail("dlclose", dlerror());
    return NULL;
}

static long resident_pages(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
        fail("/proc/self/statm", "unreadable");
    fclose(file);
    return pages;
}

static void again_and_again(long loops, char *path)
{
    for (long i = 1; i <= loops; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, use, path) != 0 || pthread_join(thread, NULL) != 0)
            fail("a thread", "refused");
        if (i == loops / 10 || i == loops)
            printf("%ld\n", resident_pages());
    }
}

static void both(const char *path, const char *copy)
{
    const struct lenet first = load(path), second = load(copy);
    if (first.handle == second.handle)
        fail("the copy", "is the same library");
    lenet_model *models[] = {create(&first), create(&second)};
    for (int i = 0; i < 20; i++) {
        float ours[N * CLASSES], theirs[N * CLASSES];
        step(&first, models[0], ours);
        step(&second, models[1], theirs);
        if (memcmp(ours, theirs, sizeof ours) != 0)
            fail("two copies", "predict differently");
    }
    first.free(models[0]);
    dlclose(first.handle);
    float probabilities[N * CLASSES];
    step(&second, models[1], probabilities);
    second.free(models[1]);
    dlclose(second.handle);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)(i * 37 % 251);
    for (size_t i = 0; i < N; i++)
        labels[i] = (uint8_t)(i % CLASSES);
    if (argc == 4 && strcmp(argv[1], "both") == 0)
        both(argv[2], argv[3]);
    else if (argc == 3)
        again_and_again(strtol(argv[1], NULL, 10), argv[2]);
    else
        return 2;
    return 0;
}
