/* Finds the four files of MNIST and its relatives, whether they were unpacked or not. */
#ifndef DATA_FOLDER_H
#define DATA_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* Writes the path of `name` or `name`.gz in `folder`. When neither is there, says so on stderr and
 * returns false. */
bool data_folder_find(const char *folder, const char *name, char *path, size_t size);

#endif
