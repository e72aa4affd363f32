/* Says what is on pictures: classify MODEL PICTURE...
 *
 * MODEL is a file as own_images.c makes it. It has the names of the classes, how pictures are prepared and
 * from which probability on its answers count; below that, this says that it is not sure. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <lenet.h>

enum { SHOWN = 3, MAX_CLASSES = 256, NAME_SIZE = 256 };

static void check(lenet_status status)
{
    if (status == LENET_OK)
        return;
    fprintf(stderr, "%s\n", lenet_last_error());
    exit(EXIT_FAILURE);
}

/* "Sneaker 0.973"; a class without a name is "class 7". */
static void print_class(const lenet_model *model, size_t index, float probability)
{
    char name[NAME_SIZE];
    check(lenet_class_name(model, index, name, sizeof name, NULL));
    if (name[0] != '\0')
        printf("%s %.3f", name, (double)probability);
    else
        printf("class %zu %.3f", index, (double)probability);
}

/* The most probable classes, as many as show. Uses `probabilities` up. */
static void print_classes(const lenet_model *model, float *probabilities, size_t classes)
{
    for (int shown = 0; shown < SHOWN; shown++) {
        size_t most = 0;
        for (size_t i = 1; i < classes; i++)
            if (probabilities[i] > probabilities[most])
                most = i;
        if (probabilities[most] < 0.0005f) /* 0.000 */
            break;
        printf("%s", shown > 0 ? ", " : "");
        print_class(model, most, probabilities[most]);
        probabilities[most] = -1;
    }
}

int main(int argc, char **argv)
{
    if (argc < 3 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s MODEL PICTURE...\n", argv[0]);
        return EXIT_FAILURE;
    }
    lenet_model *model = NULL;
    lenet_options options;
    lenet_calibration calibration = {.struct_size = sizeof calibration};
    check(lenet_load(argv[1], NULL, &model));
    check(lenet_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    check(lenet_get_options(model, &options));
    check(lenet_get_calibration(model, &calibration));

    bool all_read = true;
    for (int i = 2; i < argc; i++) {
        uint8_t answer = 0;
        float probabilities[MAX_CLASSES];
        if (lenet_predict_file(model, argv[i], &answer, probabilities) != LENET_OK) {
            fflush(stdout);
            fprintf(stderr, "%s\n", lenet_last_error()); /* and go on with the others */
            all_read = false;
            continue;
        }
        printf("%s: ", argv[i]);
        if ((double)probabilities[answer] >= calibration.threshold) {
            print_class(model, answer, probabilities[answer]);
        } else {
            printf("not sure (");
            print_classes(model, probabilities, options.classes);
            printf(")");
        }
        printf("\n");
    }
    lenet_free(model);
    return all_read ? EXIT_SUCCESS : EXIT_FAILURE;
}
