/* Whether bytes that come in pieces are UTF-8 (RFC 3629), said at the first byte that cannot be. */
#ifndef SPARX_WS_UTF8_H
#define SPARX_WS_UTF8_H

#include "base/slice.h"

/* Inside of a character: how many bytes are missing, and between what the next one must lie. All zero at a character's border. */
struct utf8 {
	uint8_t left, low, high;
};

/* False: no text begins like this. */
bool utf8_feed(struct utf8 *u, struct slice bytes);

/* What was fed ends with a whole character. */
static inline bool utf8_whole(const struct utf8 *u)
{
	return u->left == 0;
}

#endif
