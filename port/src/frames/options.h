/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of options (HELLO, UPGRADE): read pair by pair, with a fault that names the option and the rule. */
#ifndef SPARX_FRAMES_OPTIONS_H
#define SPARX_FRAMES_OPTIONS_H

#include "base/slice.h"

struct config_fault {
	char field[64];
	char rule[160];
};

/* Fills in the fault, and returns false. */
bool option_wrong(struct config_fault *fault, struct slice field, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Stores one option in what `to` points to; raw is its complete value. False: *fault says why. */
typedef bool option_fn(void *to, struct slice key, struct slice raw, struct config_fault *fault);

/* Reads a whole map, the value of the option `name`. `rule` is the fault for other types. */
bool options_read(struct slice raw, const char *name, const char *rule, option_fn *take, void *to, struct config_fault *fault);

bool option_flag(bool *to, struct slice key, struct slice raw, struct config_fault *fault);
/* unit may be empty. */
bool option_number(uint64_t *to, struct slice key, struct slice raw, uint64_t min, uint64_t max, const char *unit,
		   struct config_fault *fault);

#endif
