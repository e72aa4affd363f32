/* Grey images side by side in a terminal. */
#ifndef TERMINAL_IMAGE_H
#define TERMINAL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    TERMINAL_IMAGE_COLUMNS = 24, /* three images and their gaps fit into 80 columns */
    TERMINAL_IMAGE_GAP = 3
};

/* `grey`: half blocks with both of their colours set, so that the terminal's own do not matter.
 * Otherwise plain ASCII, where ink stands for bright pixels: right on paper and in a log. */
void terminal_image_row(FILE *out, bool grey, const uint8_t *const *images, size_t n, size_t height, size_t width);

#endif
