#include "plot_svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 640, HEIGHT = 420, LEFT = 56, RIGHT = 620, TOP = 72, BOTTOM = 372 };
enum { MARKERS_UP_TO = 60 }; /* points of a curve; with more, the markers hide the line */

bool curve_add(struct curve *curve, double x, double y)
{
    if (!isfinite(x) || !isfinite(y))
        return true;
    if (curve->length == curve->capacity) {
        const size_t capacity = curve->capacity > 0 ? 2 * curve->capacity : 64;
        double *xs = realloc(curve->x, capacity * sizeof *xs);
        if (xs != NULL)
            curve->x = xs;
        double *ys = realloc(curve->y, capacity * sizeof *ys);
        if (ys != NULL)
            curve->y = ys;
        if (xs == NULL || ys == NULL)
            return false;
        curve->capacity = capacity;
    }
    curve->x[curve->length] = x;
    curve->y[curve->length] = y;
    curve->length++;
    return true;
}

void curve_free(struct curve *curve)
{
    free(curve->x);
    free(curve->y);
    curve->x = curve->y = NULL;
    curve->length = curve->capacity = 0;
}

/* The largest of 1, 2, 5 x 10^k that gives at least four ticks. */
static double tick_step(double range)
{
    const double most = range / 4, power = pow(10, floor(log10(most)));
    return power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
}

static double column(double x, double x_max) { return (double)LEFT + x / x_max * (RIGHT - LEFT); }
static double row(double y, double y_max) { return (double)BOTTOM - y / y_max * (BOTTOM - TOP); }

static void draw_axes(FILE *file, const char *x_label, double x_max, double y_max)
{
    const double x_step = tick_step(x_max), y_step = tick_step(y_max);
    fprintf(file, "<g stroke=\"#dddddd\">\n");
    for (int i = 0; i * x_step <= x_max * 1.0001; i++)
        fprintf(file, "<path d=\"M%.1f %dV%d\"/>\n", column(i * x_step, x_max), TOP, BOTTOM);
    for (int i = 0; i * y_step <= y_max * 1.0001; i++)
        fprintf(file, "<path d=\"M%d %.1fH%d\"/>\n", LEFT, row(i * y_step, y_max), RIGHT);
    fprintf(file, "</g>\n<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#333333\"/>\n", LEFT, TOP, BOTTOM, RIGHT);

    fprintf(file, "<g text-anchor=\"middle\">\n");
    for (int i = 0; i * x_step <= x_max * 1.0001; i++)
        fprintf(file, "<text x=\"%.1f\" y=\"%d\">%g</text>\n", column(i * x_step, x_max), BOTTOM + 18, i * x_step);
    fprintf(file, "<text x=\"%d\" y=\"%d\">%s</text>\n</g>\n<g text-anchor=\"end\">\n", (LEFT + RIGHT) / 2, BOTTOM + 38,
            x_label);
    for (int i = 0; i * y_step <= y_max * 1.0001; i++)
        fprintf(file, "<text x=\"%d\" y=\"%.1f\">%g</text>\n", LEFT - 8, row(i * y_step, y_max) + 4, i * y_step);
    fprintf(file, "</g>\n");
}

static void draw_curve(FILE *file, const struct curve *curve, double x_max, double y_max)
{
    fprintf(file, "<g stroke=\"%s\" fill=\"%s\">\n", curve->colour, curve->colour);
    fprintf(file, "<polyline fill=\"none\" stroke-width=\"2\" stroke-dasharray=\"%s\" points=\"",
            curve->dashes[0] != '\0' ? curve->dashes : "none");
    for (size_t i = 0; i < curve->length; i++)
        fprintf(file, "%.1f,%.1f ", column(curve->x[i], x_max), row(curve->y[i], y_max));
    fprintf(file, "\"/>\n");
    for (size_t i = 0; i < curve->length && curve->length <= MARKERS_UP_TO; i++)
        fprintf(file, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", column(curve->x[i], x_max),
                row(curve->y[i], y_max));
    fprintf(file, "</g>\n");
}

bool plot_svg(const char *path, const char *title, const char *x_label, const struct curve *curves, size_t n)
{
    double x_max = 0, y_max = 0;
    for (size_t c = 0; c < n; c++) {
        for (size_t i = 0; i < curves[c].length; i++) {
            x_max = fmax(x_max, curves[c].x[i]);
            y_max = fmax(y_max, curves[c].y[i]);
        }
    }
    x_max = x_max > 0 ? x_max : 1;
    y_max = y_max > 0 ? tick_step(y_max) * ceil(y_max / tick_step(y_max)) : 1;

    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    /* The white ground keeps it readable on a dark page. */
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" font-size=\"13\" fill=\"#333333\">\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n"
            "<text x=\"%d\" y=\"24\" font-size=\"15\">%s</text>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, title);
    draw_axes(file, x_label, x_max, y_max);
    for (size_t c = 0; c < n; c++) {
        draw_curve(file, &curves[c], x_max, y_max);
        /* The legend is above the axes: no curve can run through it. */
        const double x = (double)LEFT + (double)c * (RIGHT - LEFT) / (double)n;
        fprintf(file,
                "<path d=\"M%.1f 48h36\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/>\n"
                "<text x=\"%.1f\" y=\"52\">%s</text>\n",
                x, curves[c].colour, curves[c].dashes[0] != '\0' ? curves[c].dashes : "none", x + 44, curves[c].name);
    }
    fprintf(file, "</svg>\n");
    const bool written = ferror(file) == 0;
    return fclose(file) == 0 && written;
}
