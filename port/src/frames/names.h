/* Names of header fields as indices (PROTOCOL.md section 1.2). */
#ifndef SPARX_FRAMES_NAMES_H
#define SPARX_FRAMES_NAMES_H

#include "base/slice.h"

enum { NAMES_COUNT = 64, NAME_UNKNOWN = -1 };

/* Indices that the code speaks of. */
enum {
	NAME_CONNECTION = 10,
	NAME_CONTENT_LENGTH = 14,
	NAME_COOKIE = 17,
	NAME_DATE = 18,
	NAME_EXPECT = 21,
	NAME_HOST = 25,
	NAME_KEEP_ALIVE = 31,
	NAME_SERVER = 54,
	NAME_SET_COOKIE = 55,
	NAME_TE = 56,
	NAME_TRAILER = 57,
	NAME_TRANSFER_ENCODING = 58,
	NAME_UPGRADE = 59,
};

struct slice name_text(int index);
/* The index of a name in lower case; NAME_UNKNOWN if it has none. */
int name_find(struct slice lower);

#endif
