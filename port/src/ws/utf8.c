/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/utf8.h"

/* RFC 3629 section 4: the second byte's range excludes overlong forms, surrogates, and what is above U+10FFFF. */
static bool first_byte(struct utf8 *u, uint8_t c)
{
	if (c < 0xc2 || c > 0xf4)
		return false;
	*u = (struct utf8){(uint8_t)(c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3), 0x80, 0xbf};
	if (c == 0xe0)
		u->low = 0xa0;
	else if (c == 0xed)
		u->high = 0x9f;
	else if (c == 0xf0)
		u->low = 0x90;
	else if (c == 0xf4)
		u->high = 0x8f;
	return true;
}

static bool next_byte(struct utf8 *u, uint8_t c)
{
	if (c < u->low || c > u->high)
		return false;
	*u = (struct utf8){(uint8_t)(u->left - 1), 0x80, 0xbf};
	return true;
}

/* Eight bytes at a time, as long as they are ASCII. */
static size_t skip_ascii(struct slice bytes, size_t i)
{
	uint64_t eight;

	for (; bytes.len - i >= sizeof eight; i += sizeof eight) {
		memcpy(&eight, bytes.at + i, sizeof eight);
		if (eight & 0x8080808080808080)
			break;
	}
	return i;
}

bool utf8_feed(struct utf8 *u, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		if (u->left) {
			if (!next_byte(u, bytes.at[i]))
				return false;
			continue;
		}
		i = skip_ascii(bytes, i);
		if (i < bytes.len && bytes.at[i] >= 0x80 && !first_byte(u, bytes.at[i]))
			return false;
	}
	return true;
}
