/* A host that takes its signals with sigtimedwait(), on its only thread, and computes on two and more.
 *
 * signals            calls everything that may make a thread, while another process sends SIGUSR1, which kills wherever it is
 *                    not blocked; then looks at the masks of all threads and waits for a last signal
 * signals refused    the same where the system refuses to make threads: without looking at them
 */
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lenet.h>

enum { N = 256, SIDE = 16, CLASSES = 3, ROUNDS = 20 };

static uint8_t images[N * SIDE * SIDE], labels[N];
static char own[20]; /* this thread's number */

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    _Exit(1);
}

static void check(lenet_status status)
{
    if (status != LENET_OK) {
        fprintf(stderr, "%s: %s\n", lenet_status_name(status), lenet_last_error());
        _Exit(1);
    }
}

static lenet_model *create(void)
{
    lenet_options options;
    lenet_model *model;
    check(lenet_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    options.height = options.width = SIDE;
    options.classes = CLASSES;
    options.num_threads = 3;
    check(lenet_create(&options, &model));
    return model;
}

static void use(lenet_model *model)
{
    static uint8_t classes[N];
    uint32_t count;
    lenet_dataset *data;
    lenet_metrics metrics;
    check(lenet_predict_u8(model, images, N, classes, NULL));
    check(lenet_train_batch_u8(model, images, labels, N, NULL));
    check(lenet_dataset_from_memory(images, labels, N, SIDE, SIDE, &data));
    metrics.struct_size = sizeof metrics;
    check(lenet_evaluate(model, data, &metrics, NULL, 0));
    lenet_dataset_free(data);
    check(lenet_device_count(LENET_DEVICE_CUDA, &count));
}

/* Signals that a thread blocks, as the system says it: bit 0 is signal 1. */
static unsigned long long blocked(const char *thread)
{
    char path[300], line[200];
    unsigned long long mask = 0;
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    if ((file = fopen(path, "r")) == NULL)
        fail(path);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "SigBlk: %llx", &mask) == 1)
            break;
    fclose(file);
    return mask;
}

/* Whether a thread comes to block these signals: before its first instruction the C library has it block all of them. */
static int comes_to_block(const char *thread, unsigned long long expected)
{
    for (int tries = 0; tries < 2000; tries++) {
        if (blocked(thread) == expected)
            return 1;
        usleep(1000);
    }
    return 0;
}

/* Every thread but this one blocks all signals but those that a fault of its own code raises. */
static void look_at_threads(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    unsigned long long expected = ~0ULL;
    int others = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/task");
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        expected &= ~(1ULL << (faults[i] - 1));
    /* Nobody can block the first two; the C library keeps the others for itself. */
    expected &= ~(1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1) | 3ULL << 31);
    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, own) != 0) {
            others++;
            if (!comes_to_block(entry->d_name, expected))
                fail("a thread of the library has other signals blocked");
        }
    closedir(folder);
    if (others == 0)
        fail("the library made no thread");
}

int main(int argc, char **argv)
{
    sigset_t mine, pending;
    unsigned long long before;
    const struct timespec moment = {10, 0};
    lenet_model *model;
    pid_t sender;
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)(i * 37 % 251);
    for (size_t i = 0; i < N; i++)
        labels[i] = (uint8_t)(i % CLASSES);

    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR1);
    sigaddset(&mine, SIGTERM);
    sigprocmask(SIG_BLOCK, &mine, NULL);
    snprintf(own, sizeof own, "%d", (int)getpid());
    before = blocked(own);

    if ((sender = fork()) == 0)
        for (;;) {
            if (kill(getppid(), SIGUSR1) != 0)
                _Exit(0);
            usleep(50);
        }
    for (int i = 0; i < ROUNDS; i++) {
        model = create();
        use(model);
        lenet_free(model);
    }
    kill(sender, SIGKILL);
    waitpid(sender, NULL, 0);

    /* What begins to be blocked when the threads are there already is not theirs either. */
    model = create();
    use(model);
    sigaddset(&mine, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mine, NULL);
    kill(getpid(), SIGUSR2);
    if (argc == 1)
        look_at_threads();
    sigdelset(&mine, SIGUSR1);
    if (sigtimedwait(&mine, NULL, &moment) != SIGUSR2)
        fail("the signal did not come");
    lenet_free(model);

    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR2);
    sigprocmask(SIG_UNBLOCK, &mine, NULL);
    if (blocked(own) != before)
        fail("this thread has other signals blocked than before");
    sigpending(&pending);
    if (!sigismember(&pending, SIGUSR1))
        fail("SIGUSR1 was taken");
    (void)argv;
    puts("well");
    return 0;
}
