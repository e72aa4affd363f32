#include "data_folder.h"

#include <stdio.h>

bool data_folder_find(const char *folder, const char *name, char *path, size_t size)
{
    static const char *const endings[] = {"", ".gz"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const int length = snprintf(path, size, "%s/%s%s", folder, name, endings[i]);
        FILE *file = length > 0 && (size_t)length < size ? fopen(path, "rb") : NULL;
        if (file != NULL) {
            fclose(file);
            return true;
        }
    }
    fprintf(stderr,
            "%s/%s[.gz] cannot be opened.\n"
            "Give the folder that holds the four IDX files, as argument or as LENET_DATA;\n"
            "`make -C examples data` fetches Fashion-MNIST.\n",
            folder, name);
    return false;
}
