/* leave exit MICROSECONDS    calls exit() while another thread trains on three threads
 * leave train                trains once on four threads, or as many as it gets; prints a checksum
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lenet.h>

enum { N = 256, SIDE = 16, CLASSES = 3 };

static uint8_t images[N * SIDE * SIDE], labels[N];
static lenet_model *model;

static void check(lenet_status status)
{
    if (status != LENET_OK) {
        fprintf(stderr, "%s: %s\n", lenet_status_name(status), lenet_last_error());
        _Exit(1);
    }
}

static void create(uint32_t threads)
{
    lenet_options options;
    check(lenet_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    options.height = options.width = SIDE;
    options.classes = CLASSES;
    options.num_threads = threads;
    check(lenet_create(&options, &model));
}

static void *train_for_ever(void *started)
{
    for (;;) {
        check(lenet_train_batch_u8(model, images, labels, N, NULL));
        *(volatile int *)started = 1;
    }
    return NULL;
}

static void wait_for(long nanoseconds)
{
    const struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)(i * 37 % 251);
    for (size_t i = 0; i < N; i++)
        labels[i] = (uint8_t)(i % CLASSES);
    if (argc == 3 && strcmp(argv[1], "exit") == 0) {
        static volatile int started;
        pthread_t thread;
        create(3);
        if (pthread_create(&thread, NULL, train_for_ever, (void *)&started) != 0)
            return 2;
        while (!started)
            wait_for(100000);
        wait_for(strtol(argv[2], NULL, 10) * 1000);
        exit(0);
    }
    if (argc == 2 && strcmp(argv[1], "train") == 0) {
        float loss;
        create(4);
        for (int i = 0; i < 10; i++)
            check(lenet_train_batch_u8(model, images, labels, N, &loss));
        printf("%a\n", (double)loss);
        lenet_free(model);
        return 0;
    }
    return 2;
}
