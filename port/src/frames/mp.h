/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of msgpack that the protocol uses: read in place, without objects or allocations; written into memory that the caller
 * has sized. https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#ifndef SPARX_FRAMES_MP_H
#define SPARX_FRAMES_MP_H

#include "base/slice.h"

enum mp_type { MP_NIL, MP_BOOL, MP_UINT, MP_INT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT };

/* One value without what it contains: an array's or map's elements follow in the input. */
struct mp_value {
	enum mp_type type;
	uint64_t u;         /* MP_UINT; MP_BOOL: 0, 1; MP_ARRAY, MP_MAP: elements, pairs; MP_INT: two's complement, negative */
	struct slice bytes; /* MP_STR, MP_BIN, MP_EXT */
};

/* Reads one value from the front. False: the input is truncated, or is the byte that msgpack never uses. */
bool mp_read(struct slice *in, struct mp_value *value);
/* Reads one complete value with everything in it, nested as deeply as it may be; raw, if not NULL, gets its bytes. False as above. */
bool mp_skip(struct slice *in, struct slice *raw);
/* Reads this many complete values. */
bool mp_skip_values(struct slice *in, uint64_t values);

/* Upper bounds of what the functions below write. */
enum { MP_MAX_UINT = 9, MP_MAX_HEAD = 5 };

/* Each writes at `at`, in the shortest form, and returns where it ended. */
static inline uint8_t *mp_nil(uint8_t *at)
{
	*at = 0xc0;
	return at + 1;
}

uint8_t *mp_bool(uint8_t *at, bool value);

/* At least 0x80. */
uint8_t *mp_uint_long(uint8_t *at, uint64_t value);
static inline uint8_t *mp_uint(uint8_t *at, uint64_t value)
{
	if (value >= 0x80)
		return mp_uint_long(at, value);
	*at = (uint8_t)value;
	return at + 1;
}

uint8_t *mp_int(uint8_t *at, int64_t value);

/* At least 16. */
uint8_t *mp_array_long(uint8_t *at, uint32_t elements);
static inline uint8_t *mp_array(uint8_t *at, uint32_t elements)
{
	if (elements >= 16)
		return mp_array_long(at, elements);
	*at = (uint8_t)(0x90 | elements);
	return at + 1;
}

uint8_t *mp_map(uint8_t *at, uint32_t pairs);
uint8_t *mp_str(uint8_t *at, struct slice text);
uint8_t *mp_bin_head(uint8_t *at, uint32_t len);
uint8_t *mp_bin(uint8_t *at, struct slice bytes);
/* Always five bytes, so that the value can be set later. */
uint8_t *mp_uint32_wide(uint8_t *at, uint32_t value);
/* Always five bytes: a bin's head whose length is set later. */
uint8_t *mp_bin32_head(uint8_t *at, uint32_t len);

#endif
