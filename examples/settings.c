#include "settings.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* strtoull alone would take "-1", " 7" and "7 apples". */
uint64_t setting_integer(const char *name, uint64_t standard, uint64_t min, uint64_t max)
{
    const char *text = getenv(name);
    if (text == NULL)
        return standard;
    errno = 0;
    const unsigned long long value = strtoull(text, NULL, 10);
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0' || errno != 0 || value < min || value > max) {
        fprintf(stderr, "%s=%s: expected a whole number from %" PRIu64 " to %" PRIu64 "\n", name, text, min, max);
        exit(EXIT_FAILURE);
    }
    return value;
}

double setting_number(const char *name, double standard)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (text == NULL)
        return standard;
    const double value = strtod(text, &end);
    /* The set of characters keeps out "nan", "inf", hexadecimal and signs in front. */
    if (end == text || *end != '\0' || strchr("0123456789.", *text) == NULL ||
        text[strspn(text, "0123456789.eE+-")] != '\0' || !isfinite(value)) {
        fprintf(stderr, "%s=%s: expected a number that is not negative, such as 0.1 or 1e-3\n", name, text);
        exit(EXIT_FAILURE);
    }
    return value;
}

size_t setting_choice(const char *name, const char *standard, const char *const *choices, size_t n)
{
    const char *text = getenv(name) != NULL ? getenv(name) : standard;
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, choices[i]) == 0)
            return i;
    fprintf(stderr, "%s=%s: expected", name, text);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%s %s", i > 0 ? " or" : "", choices[i]);
    fprintf(stderr, "\n");
    exit(EXIT_FAILURE);
}

const char *setting_text(const char *name, const char *standard)
{
    const char *text = getenv(name);
    if (text != NULL && *text == '\0') {
        fprintf(stderr, "%s is set but empty\n", name);
        exit(EXIT_FAILURE);
    }
    return text != NULL ? text : standard;
}
