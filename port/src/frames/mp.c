/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/mp.h"

/* ---- reading ---- */

static bool take(struct slice *in, size_t n, const uint8_t **at)
{
	if (in->len < n)
		return false;
	*at = in->at;
	in->at += n;
	in->len -= n;
	return true;
}

static uint16_t be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* width: 1, 2, 4 or 8 */
static bool take_be(struct slice *in, unsigned width, uint64_t *value)
{
	const uint8_t *at;
	uint64_t v = 0;

	if (!take(in, width, &at))
		return false;
	switch (width) {
	case 1:
		v = at[0];
		break;
	case 2:
		v = be16(at);
		break;
	case 4:
		v = be32(at);
		break;
	case 8:
		v = (uint64_t)be32(at) << 32 | be32(at + 4);
		break;
	}
	*value = v;
	return true;
}

static bool take_bytes(struct slice *in, size_t n, struct mp_value *value)
{
	value->bytes.len = n;
	return take(in, n, &value->bytes.at);
}

static bool read_sized(struct slice *in, struct mp_value *value, enum mp_type type, unsigned width, size_t extra)
{
	bool well = take_be(in, width, &value->u) && take_bytes(in, value->u + extra, value);

	value->type = type;
	value->u = 0;
	return well;
}

static bool read_count(struct slice *in, struct mp_value *value, enum mp_type type, unsigned width)
{
	value->type = type;
	return take_be(in, width, &value->u);
}

static bool read_signed(struct slice *in, struct mp_value *value, unsigned width)
{
	unsigned shift = 64 - 8 * width;

	if (!take_be(in, width, &value->u))
		return false;
	value->u = (uint64_t)((int64_t)(value->u << shift) >> shift);
	value->type = (int64_t)value->u < 0 ? MP_INT : MP_UINT;
	return true;
}

static bool read_marked(struct slice *in, uint8_t mark, struct mp_value *value)
{
	switch (mark) {
	case 0xc0:
		value->type = MP_NIL;
		return true;
	case 0xc2:
	case 0xc3:
		value->type = MP_BOOL;
		value->u = mark & 1;
		return true;
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return read_sized(in, value, MP_BIN, 1u << (mark - 0xc4), 0);
	case 0xc7:
	case 0xc8:
	case 0xc9:
		return read_sized(in, value, MP_EXT, 1u << (mark - 0xc7), 1);
	case 0xca:
	case 0xcb:
		value->type = MP_FLOAT;
		return take_be(in, 4u << (mark - 0xca), &value->u);
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		return read_count(in, value, MP_UINT, 1u << (mark - 0xcc));
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return read_signed(in, value, 1u << (mark - 0xd0));
	case 0xd4:
	case 0xd5:
	case 0xd6:
	case 0xd7:
	case 0xd8:
		value->type = MP_EXT;
		return take_bytes(in, 1 + (1u << (mark - 0xd4)), value);
	case 0xd9:
	case 0xda:
	case 0xdb:
		return read_sized(in, value, MP_STR, 1u << (mark - 0xd9), 0);
	case 0xdc:
	case 0xdd:
		return read_count(in, value, MP_ARRAY, 2u << (mark - 0xdc));
	case 0xde:
	case 0xdf:
		return read_count(in, value, MP_MAP, 2u << (mark - 0xde));
	default: /* 0xc1, never used */
		return false;
	}
}

bool mp_read(struct slice *in, struct mp_value *value)
{
	size_t head = 1, bytes = 0;
	uint8_t mark;

	value->u = 0;
	if (in->len == 0)
		return false;
	mark = in->at[0];
	if (mark < 0x80 || mark >= 0xe0) {
		value->type = mark < 0x80 ? MP_UINT : MP_INT;
		value->u = (uint64_t)(int64_t)(int8_t)mark;
	} else if (mark < 0xa0) {
		value->type = mark < 0x90 ? MP_MAP : MP_ARRAY;
		value->u = mark & 0x0f;
	} else if (mark < 0xc0) {
		value->type = MP_STR;
		bytes = mark & 0x1f;
		value->bytes = slice_of(in->at + head, bytes);
	} else if ((mark == 0xc4 || mark == 0xd9) && in->len > 1) {
		value->type = mark == 0xc4 ? MP_BIN : MP_STR;
		head = 2;
		bytes = in->at[1];
		value->bytes = slice_of(in->at + head, bytes);
	} else {
		*in = slice_of(in->at + 1, in->len - 1);
		return read_marked(in, mark, value);
	}
	if (in->len - head < bytes)
		return false;
	*in = slice_of(in->at + head + bytes, in->len - head - bytes);
	return true;
}

/* Skips a value that fits into few bytes and contains no others; these are nearly all. False: it is not one, or is truncated. */
static bool skip_short(struct slice *in)
{
	uint8_t mark = in->at[0];
	size_t n = 1;

	if (mark >= 0xa0 && mark < 0xc0)
		n += mark & 0x1f;
	else if ((mark == 0xc4 || mark == 0xd9) && in->len > 1)
		n += 1 + (size_t)in->at[1];
	else if (mark >= 0x80 && mark < 0xe0)
		return false;
	if (in->len < n)
		return false;
	in->at += n;
	in->len -= n;
	return true;
}

bool mp_skip_values(struct slice *in, uint64_t values)
{
	uint64_t left = values; /* containers add their elements, so nesting needs no stack */
	struct mp_value v;

	while (left > 0) {
		if (left > in->len) /* each value has at least one byte */
			return false;
		left--;
		if (skip_short(in))
			continue;
		if (!mp_read(in, &v))
			return false;
		if (v.type == MP_ARRAY)
			left += v.u;
		else if (v.type == MP_MAP)
			left += 2 * v.u;
	}
	return true;
}

bool mp_skip(struct slice *in, struct slice *raw)
{
	const uint8_t *start = in->at;

	if (!mp_skip_values(in, 1))
		return false;
	if (raw)
		*raw = slice_of(start, (size_t)(in->at - start));
	return true;
}

/* ---- writing ---- */

static uint8_t *put_be(uint8_t *at, unsigned width, uint64_t value)
{
	for (unsigned i = width; i-- > 0;)
		*at++ = (uint8_t)(value >> 8 * i);
	return at;
}

static uint8_t *put_marked(uint8_t *at, uint8_t mark, unsigned width, uint64_t value)
{
	*at++ = mark;
	return put_be(at, width, value);
}

static uint8_t *put_bytes(uint8_t *at, struct slice bytes)
{
	if (bytes.len)
		memcpy(at, bytes.at, bytes.len);
	return at + bytes.len;
}

uint8_t *mp_bool(uint8_t *at, bool value)
{
	*at++ = value ? 0xc3 : 0xc2;
	return at;
}

uint8_t *mp_uint_long(uint8_t *at, uint64_t value)
{
	if (value <= UINT8_MAX)
		return put_marked(at, 0xcc, 1, value);
	if (value <= UINT16_MAX)
		return put_marked(at, 0xcd, 2, value);
	if (value <= UINT32_MAX)
		return put_marked(at, 0xce, 4, value);
	return put_marked(at, 0xcf, 8, value);
}

uint8_t *mp_int(uint8_t *at, int64_t value)
{
	if (value >= 0)
		return mp_uint(at, (uint64_t)value);
	if (value >= -32) {
		*at++ = (uint8_t)value;
		return at;
	}
	if (value >= INT8_MIN)
		return put_marked(at, 0xd0, 1, (uint64_t)value);
	if (value >= INT16_MIN)
		return put_marked(at, 0xd1, 2, (uint64_t)value);
	if (value >= INT32_MIN)
		return put_marked(at, 0xd2, 4, (uint64_t)value);
	return put_marked(at, 0xd3, 8, (uint64_t)value);
}

uint8_t *mp_array_long(uint8_t *at, uint32_t elements)
{
	if (elements <= UINT16_MAX)
		return put_marked(at, 0xdc, 2, elements);
	return put_marked(at, 0xdd, 4, elements);
}

uint8_t *mp_map(uint8_t *at, uint32_t pairs)
{
	if (pairs < 16) {
		*at++ = (uint8_t)(0x80 | pairs);
		return at;
	}
	if (pairs <= UINT16_MAX)
		return put_marked(at, 0xde, 2, pairs);
	return put_marked(at, 0xdf, 4, pairs);
}

static uint8_t *str_head(uint8_t *at, size_t len)
{
	if (len < 32) {
		*at++ = (uint8_t)(0xa0 | len);
		return at;
	}
	if (len <= UINT8_MAX)
		return put_marked(at, 0xd9, 1, len);
	if (len <= UINT16_MAX)
		return put_marked(at, 0xda, 2, len);
	return put_marked(at, 0xdb, 4, len);
}

uint8_t *mp_str(uint8_t *at, struct slice text)
{
	return put_bytes(str_head(at, text.len), text);
}

uint8_t *mp_bin_head(uint8_t *at, uint32_t len)
{
	if (len <= UINT8_MAX)
		return put_marked(at, 0xc4, 1, len);
	if (len <= UINT16_MAX)
		return put_marked(at, 0xc5, 2, len);
	return put_marked(at, 0xc6, 4, len);
}

uint8_t *mp_bin(uint8_t *at, struct slice bytes)
{
	return put_bytes(mp_bin_head(at, (uint32_t)bytes.len), bytes);
}

uint8_t *mp_uint32_wide(uint8_t *at, uint32_t value)
{
	return put_marked(at, 0xce, 4, value);
}

uint8_t *mp_bin32_head(uint8_t *at, uint32_t len)
{
	return put_marked(at, 0xc6, 4, len);
}
