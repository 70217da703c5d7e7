/* SPDX-License-Identifier: Apache-2.0 */
/* Header fields between msgpack and arrays. */
#ifndef SPARX_FRAMES_FIELDS_H
#define SPARX_FRAMES_FIELDS_H

#include "base/field.h"

enum { FIELDS_BYTES_MAX = 65536 }; /* limits of an array from the host */

/*
 * Decodes a `fields` array (PROTOCOL.md 1.2) into at most max fields that point into raw. On a fault returns false and
 * sets *rule.
 */
bool fields_decode(struct slice raw, struct field *fields, unsigned max, unsigned *count, const char **rule);

/* Upper bound of what fields_encode writes. */
size_t fields_bound(const struct field *fields, unsigned count);
/* Names must be in lower case. */
uint8_t *fields_encode(uint8_t *at, const struct field *fields, unsigned count);

#endif
