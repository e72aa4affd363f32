/* Uses every struct of the header that it is compiled with, and sees that the library writes nothing past
 * the caller's. tests/abi.rs compiles it with the present header and with one whose structs are shorter. */
#include <lenet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call) do { if ((call) != LENET_OK) { \
    fprintf(stderr, "%s: %s\n", #call, lenet_last_error()); exit(EXIT_FAILURE); } } while (0)

enum { N = 32, SIDE = 16, PAST = 64 };

/* A struct at the beginning of memory that must not change behind it. */
static void *guarded(size_t size)
{
    unsigned char *memory = malloc(size + PAST);
    if (memory == NULL) exit(EXIT_FAILURE);
    memset(memory, 0xA5, size + PAST);
    return memory;
}

static void unguard(void *memory, size_t size)
{
    for (size_t i = size; i < size + PAST; i++)
        if (((unsigned char *)memory)[i] != 0xA5) {
            fprintf(stderr, "byte %zu behind a struct of %zu was written\n", i - size, size);
            exit(EXIT_FAILURE);
        }
    free(memory);
}

static int32_t progress(const lenet_progress *now, void *events)
{
    ++*(int *)events;
    return now->struct_size >= sizeof *now && now->steps == 4 ? 0 : 1;
}

int main(void)
{
    static uint8_t images[N * SIDE * SIDE], labels[N];
    int events = 0;
    lenet_model *model = NULL;
    lenet_dataset *data = NULL;
    lenet_options *options = guarded(sizeof *options), *again = guarded(sizeof *again);
    lenet_layer *layer = guarded(sizeof *layer);
    lenet_fit_options *fit = guarded(sizeof *fit);
    lenet_metrics *metrics = guarded(sizeof *metrics);

    for (int i = 0; i < N; i++) {
        labels[i] = (uint8_t)(i % 2);
        memset(images + i * SIDE * SIDE, labels[i] ? 200 : 20, SIDE * SIDE);
    }
    CHECK(lenet_options_init(options, sizeof *options, LENET_PRESET_MODERN));
    options->height = options->width = SIDE;
    options->classes = 2;
    CHECK(lenet_create(options, &model));
    again->struct_size = sizeof *again;
    CHECK(lenet_get_options(model, again));
    layer->struct_size = sizeof *layer;
    CHECK(lenet_get_layer(model, 0, layer));
    CHECK(lenet_dataset_from_memory(images, labels, N, SIDE, SIDE, &data));
    CHECK(lenet_fit_options_init(fit, sizeof *fit, LENET_PRESET_MODERN));
    fit->epochs = 2;
    fit->batch_size = N / 4;
    CHECK(lenet_fit(model, data, NULL, fit, progress, &events));
    metrics->struct_size = sizeof *metrics;
    CHECK(lenet_evaluate(model, data, metrics, NULL, 0));
    printf("%u classes, %s with %u rows, %d events, %.0f images\n", (unsigned)again->classes, layer->name,
           (unsigned)layer->height, events, (double)metrics->count);

    lenet_dataset_free(data);
    lenet_free(model);
    unguard(options, sizeof *options);
    unguard(again, sizeof *again);
    unguard(layer, sizeof *layer);
    unguard(fit, sizeof *fit);
    unguard(metrics, sizeof *metrics);
    return 0;
}
