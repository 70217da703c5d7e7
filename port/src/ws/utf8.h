/* SPDX-License-Identifier: Apache-2.0 */
/* Checks bytes for UTF-8 (RFC 3629), piece by piece; fails at the first invalid byte. */
#ifndef SPARX_WS_UTF8_H
#define SPARX_WS_UTF8_H

#include "base/slice.h"

/* Inside a character: how many bytes are missing, and the range of the next one. All zero between characters. */
struct utf8 {
	uint8_t left, low, high;
};

/* False: this cannot be the beginning of UTF-8 text. */
bool utf8_feed(struct utf8 *u, struct slice bytes);

/* Whether the bytes so far end with a complete character. */
static inline bool utf8_whole(const struct utf8 *u)
{
	return u->left == 0;
}

#endif
