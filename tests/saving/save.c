/* save MODEL TARGET          loads MODEL and saves it as TARGET; the save is between two getppid()s, to be
 *                            found in a trace
 * save MODEL TARGET OTHER    saves the two in turn until it is killed, after a line that says so
 *
 * Exits with 0 if TARGET was saved, 1 and the message if not, 2 for anything else. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <unistd.h>

#include <lenet.h>

static lenet_model *load(const char *path)
{
    lenet_model *model;
    if (lenet_load(path, NULL, &model) == LENET_OK)
        return model;
    fprintf(stderr, "%s\n", lenet_last_error());
    _exit(2);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    lenet_model *model = load(argv[1]);
    lenet_model *other = argc > 3 ? load(argv[3]) : NULL;
    if (other != NULL) {
        puts("saving");
        fflush(stdout);
        for (;;)
            if (lenet_save(model, argv[2]) != LENET_OK || lenet_save(other, argv[2]) != LENET_OK)
                return 1;
    }
    getppid();
    const lenet_status status = lenet_save(model, argv[2]);
    getppid();
    if (status != LENET_OK)
        fprintf(stderr, "%s: %s\n", lenet_status_name(status), lenet_last_error());
    lenet_free(model);
    return status == LENET_OK ? 0 : 1;
}
