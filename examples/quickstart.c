/* LeNet learns ten made-up classes: class k is a bright bar, further down for each k, in noise. */
#include <lenet.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call) do { if ((call) != LENET_OK) { \
    fprintf(stderr, "%s: %s\n", #call, lenet_last_error()); exit(EXIT_FAILURE); } } while (0)

enum { N = 100, SIDE = 28 };

int main(void)
{
    static uint8_t images[N * SIDE * SIDE], labels[N], classes[N];
    for (int i = 0; i < N; i++) {
        labels[i] = (uint8_t)(i % 10);
        for (int p = 0; p < SIDE * SIDE; p++) /* the bar: rows 2k + 4 and 2k + 5 */
            images[i * SIDE * SIDE + p] = p / SIDE / 2 == labels[i] + 2 ? 255 : (uint8_t)(rand() % 64);
    }

    lenet_options options;
    lenet_model *model = NULL, *loaded = NULL;
    CHECK(lenet_options_init(&options, sizeof options, LENET_PRESET_MODERN));
    CHECK(lenet_create(&options, &model));
    for (int step = 1; step <= 30; step++) {
        float loss = 0;
        CHECK(lenet_train_batch_u8(model, images, labels, N, &loss));
        if (step % 10 == 0) printf("step %d: loss %.3f\n", step, loss);
    }
    CHECK(lenet_save(model, "quickstart.safetensors"));
    CHECK(lenet_load("quickstart.safetensors", NULL, &loaded));
    CHECK(lenet_predict_u8(loaded, images, N, classes, NULL));
    int correct = 0;
    for (int i = 0; i < N; i++) correct += classes[i] == labels[i];
    printf("%d of %d right\n", correct, N);
    lenet_free(loaded);
    lenet_free(model);
    return 0;
}
