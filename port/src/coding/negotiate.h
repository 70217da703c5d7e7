/* SPDX-License-Identifier: Apache-2.0 */
/* Which content coding a client accepts: Accept-Encoding, RFC 9110 12.5.3. */
#ifndef SPARX_CODING_NEGOTIATE_H
#define SPARX_CODING_NEGOTIATE_H

#include "base/field.h"

enum coding {
	CODING_IDENTITY,
#define CODING(symbol, name, place) CODING_##symbol,
#include "coding/codings.def"
#undef CODING
	CODINGS
};

/* All names but identity, each after a space: for the error about an unknown one. */
extern const char coding_names[];
/* The name in Content-Encoding. */
const char *coding_name(enum coding coding);
/* Its place, from 1, among those that are offered by default; 0: it is not among them. */
unsigned coding_place(enum coding coding);
/* CODING_IDENTITY for a name that is none of the others. */
enum coding coding_by_name(struct slice name);

/*
 * Chooses one of `offered`, which are in the order of the server's preference, or CODING_IDENTITY. The client's weights come first.
 * A coding is acceptable only if the client names it, or `*`. Identity is acceptable unless the client refuses it, but a coding
 * of the same weight goes first; if it is refused and no coding is acceptable, the result is still identity, since that is better
 * than no response. A malformed member refuses the coding that it names; if a coding is named twice, the lower weight counts.
 */
enum coding coding_choose(const struct field *fields, unsigned count, const uint8_t *offered, unsigned offers);

#endif
