/* A line chart as an SVG file: enough for curves against epochs, and nothing more. */
#ifndef PLOT_SVG_H
#define PLOT_SVG_H

#include <stdbool.h>
#include <stddef.h>

/* Starts as {"name", "#0072b2", ""}; curve_add and curve_free own the rest. `name` goes into the
 * SVG as it is, so it must not hold <, > or &. */
struct curve {
    const char *name, *colour;
    const char *dashes; /* stroke-dasharray, such as "6 4"; "" for a solid line */
    double *x, *y;
    size_t length, capacity;
};

/* False when memory runs out. A point that is not finite is left out: it has no place on paper. */
bool curve_add(struct curve *curve, double x, double y);
void curve_free(struct curve *curve);

/* Axes run from 0 to the largest value; no x or y may be negative. False, with errno, when the file
 * cannot be written. */
bool plot_svg(const char *path, const char *title, const char *x_label, const struct curve *curves, size_t n);

#endif
