#include "terminal_image.h"

/* The mean brightness of cell (row, column) when the image is cut into rows x COLUMNS cells, from
 * 4 x 4 samples of it. */
static unsigned cell(const uint8_t *image, size_t height, size_t width, size_t rows, size_t row, size_t column)
{
    unsigned sum = 0;
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            const size_t y = (8 * row + 2 * i + 1) * height / (8 * rows);
            const size_t x = (8 * column + 2 * j + 1) * width / (8 * TERMINAL_IMAGE_COLUMNS);
            sum += image[y * width + x];
        }
    return sum / 16;
}

void terminal_image_row(FILE *out, bool grey, const uint8_t *const *images, size_t n, size_t height, size_t width)
{
    static const char ink[] = " .:-=+*#%@";
    /* A character is about twice as high as wide: two cells above each other. */
    size_t lines = (TERMINAL_IMAGE_COLUMNS * height / width + 1) / 2;
    lines = lines > 0 ? lines : 1;
    for (size_t line = 0; line < lines; line++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t column = 0; column < TERMINAL_IMAGE_COLUMNS; column++) {
                const unsigned upper = cell(images[i], height, width, 2 * lines, 2 * line, column);
                const unsigned lower = cell(images[i], height, width, 2 * lines, 2 * line + 1, column);
                if (grey) /* the 24 greys of the 256-colour palette; more terminals have it than true colour */
                    fprintf(out, "\033[38;5;%u;48;5;%um\xe2\x96\x80", 232 + upper * 23 / 255, 232 + lower * 23 / 255);
                else
                    fputc(ink[(upper + lower) / 2 * (sizeof ink - 2) / 255], out);
            }
            fprintf(out, "%s%*s", grey ? "\033[0m" : "", i + 1 < n ? TERMINAL_IMAGE_GAP : 0, "");
        }
        fputc('\n', out);
    }
}
