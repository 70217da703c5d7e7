/* SPDX-License-Identifier: Apache-2.0 */
/* A view of bytes that are owned elsewhere. */
#ifndef SPARX_BASE_SLICE_H
#define SPARX_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
	const uint8_t *at;
	size_t len;
};

#define SLICE_LIT(text) ((struct slice)SLICE_INIT(text))
/* The same in the initializer of a static array. */
#define SLICE_INIT(text) \
	{ \
		(const uint8_t *)("" text), sizeof(text) - 1 \
	}

static inline struct slice slice_of(const void *at, size_t len)
{
	return (struct slice){at, len};
}

static inline struct slice slice_str(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* A literal should be the second, since its length is known to the compiler. */
static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (b.len == 0 || memcmp(a.at, b.at, b.len) == 0);
}

/* The last occurrence of a byte; NULL: there is none. */
static inline const uint8_t *slice_last(struct slice s, uint8_t byte)
{
	for (; s.len > 0; s.len--)
		if (s.at[s.len - 1] == byte)
			return s.at + s.len - 1;
	return NULL;
}

/* ASCII letters compared without case. */
static inline bool slice_eq_nocase(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp((const char *)a.at, (const char *)b.at, a.len) == 0);
}

#endif
