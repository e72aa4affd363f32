/* Prints how many GPUs there are, and what comes of a model on the first. */
#include <lenet.h>
#include <stdio.h>

int main(void)
{
    uint32_t count = 0;
    if (lenet_device_count(LENET_DEVICE_CUDA, &count) != LENET_OK) {
        return 1;
    }
    printf("%u\n", (unsigned)count);

    lenet_options options;
    lenet_model *model = NULL;
    if (lenet_options_init(&options, sizeof options, LENET_PRESET_CLASSIC) != LENET_OK) {
        return 1;
    }
    options.device = LENET_DEVICE_CUDA;
    const lenet_status status = lenet_create(&options, &model);
    printf("%s\n", status == LENET_OK ? "a model" : lenet_last_error());
    lenet_free(model);
    return 0;
}
