#define _POSIX_C_SOURCE 200809L
#include "progress_bar.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 20 };

void progress_bar_init(struct progress_bar *bar)
{
    const char *term = getenv("TERM");
    bar->terminal = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    bar->drawn = 0;
}

void progress_bar_draw(struct progress_bar *bar, double done, const char *format, ...)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    const double now = (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
    if (!bar->terminal || now - bar->drawn < 0.1)
        return;
    bar->drawn = now;
    const int full = done > 1 ? WIDTH : done > 0 ? (int)(WIDTH * done) : 0;
    printf("\r\033[K[%.*s%*s] ", full, "====================", WIDTH - full, "");
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

void progress_bar_clear(struct progress_bar *bar)
{
    if (bar->terminal)
        printf("\r\033[K");
    bar->drawn = 0;
}
