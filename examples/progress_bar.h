/* A bar that is drawn in place while something takes long. Nothing is drawn where standard output is no
 * terminal: a file or a pipe gets no control characters. */
#ifndef PROGRESS_BAR_H
#define PROGRESS_BAR_H

#include <stdbool.h>

struct progress_bar {
    bool terminal;
    double drawn; /* seconds of a clock */
};

void progress_bar_init(struct progress_bar *bar);

/* `done` is from 0 to 1, `format` that of printf, for what stands behind the bar. Ten times a second at
 * most, so it may be called as often as one likes. */
void progress_bar_draw(struct progress_bar *bar, double done, const char *format, ...);

/* To be called before anything else is printed. */
void progress_bar_clear(struct progress_bar *bar);

#endif
