/* Settings from the environment. A value that is not wholly understood ends the program with a
 * message that names it: a typing error must not train the wrong network for an hour. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stddef.h>
#include <stdint.h>

/* A whole number in [min, max]; `standard` when `name` is not set. */
uint64_t setting_integer(const char *name, uint64_t standard, uint64_t min, uint64_t max);

/* A finite number >= 0; `standard` when `name` is not set. */
double setting_number(const char *name, double standard);

/* The index of the value among the `n` words of `choices`; `name` unset means `standard`. */
size_t setting_choice(const char *name, const char *standard, const char *const *choices, size_t n);

/* Any text but the empty one; `standard` when `name` is not set. */
const char *setting_text(const char *name, const char *standard);

#endif
