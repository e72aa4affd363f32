/* Prints how many GPUs there are. */
#include <lenet.h>
#include <stdio.h>

int main(void)
{
    uint32_t count = 0;
    if (lenet_device_count(LENET_DEVICE_CUDA, &count) != LENET_OK) {
        return 1;
    }
    printf("%u\n", (unsigned)count);
    return 0;
}
