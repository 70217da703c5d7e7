/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_scan.h"

#include <nghttp3/nghttp3.h>

enum { FRAME_HEADERS = 1, FRAME_CANCEL_PUSH = 3, FRAME_SETTINGS = 4, FRAME_GOAWAY = 7, FRAME_MAX_PUSH_ID = 13, FRAME_OTHER = 0xff };
enum { AT_TYPE, AT_LENGTH, AT_PAYLOAD };
/* States in a field section (RFC 9204 4.5): its two integers, a field line, and the parts of a line. */
enum { AT_COUNT, AT_BASE, AT_LINE, AT_INDEX, AT_NAME_INDEX, AT_NAME_LENGTH, AT_VALUE, AT_VALUE_LENGTH, AT_NAME, AT_TEXT };
enum { CONTINUES = 0x80, SHIFT_MAX = 56 };

bool h3_number_take(struct h3_number *number, uint8_t byte)
{
	if (number->need == 0) {
		number->need = (uint8_t)(1 << (byte >> 6));
		number->value = byte & 0x3f;
		number->have = 1;
	} else {
		number->value = number->value << 8 | byte;
		number->have++;
	}
	return number->have == number->need;
}

static bool is_in_frame(const struct h3_scan *scan)
{
	return scan->state != AT_TYPE || scan->number.need;
}

/* Reads the header of a frame. True: it is complete. */
static bool take_frame_head(struct h3_scan *scan, uint8_t byte)
{
	if (!h3_number_take(&scan->number, byte))
		return false;
	if (scan->state == AT_TYPE)
		scan->type = scan->number.value < FRAME_OTHER ? (uint8_t)scan->number.value : FRAME_OTHER;
	else
		scan->left = scan->number.value;
	scan->number = (struct h3_number){0};
	return ++scan->state == AT_PAYLOAD;
}

/* ---- field sections ---- */

/* Chooses what follows a complete integer. */
static void after_integer(struct h3_scan *scan)
{
	switch (scan->place) {
	case AT_COUNT:
		scan->place = AT_BASE;
		break;
	case AT_BASE:
	case AT_INDEX:
		scan->place = AT_LINE;
		break;
	case AT_NAME_INDEX:
		scan->place = AT_VALUE;
		break;
	case AT_NAME_LENGTH:
		scan->skip = scan->text;
		scan->place = scan->skip ? AT_NAME : AT_VALUE;
		break;
	case AT_VALUE_LENGTH:
		scan->skip = scan->text;
		scan->place = scan->skip ? AT_TEXT : AT_LINE;
		break;
	default:
		break;
	}
}

/* The first byte of an integer, which uses `bits` of its bits (RFC 7541 5.1). */
static void begin_integer(struct h3_scan *scan, unsigned place, unsigned bits, uint8_t byte)
{
	uint8_t most = (uint8_t)((1u << bits) - 1);

	scan->place = (uint8_t)place;
	scan->text = byte & most;
	scan->shift = 0;
	if (scan->text == most)
		scan->shift = 1; /* more bytes follow */
	else
		after_integer(scan);
}

static void go_on_with_integer(struct h3_scan *scan, uint8_t byte)
{
	unsigned shift = scan->shift - 1u;

	if (shift < SHIFT_MAX)
		scan->text += (uint64_t)(byte & 0x7f) << shift;
	if (byte & CONTINUES) {
		scan->shift = (uint8_t)(shift < SHIFT_MAX ? scan->shift + 7 : scan->shift);
		return;
	}
	scan->shift = 0;
	after_integer(scan);
}

static void begin_line(struct h3_scan *scan, uint8_t byte)
{
	if (scan->lines != H3_SCAN_UNKNOWN)
		scan->lines++;
	if (byte & 0x80)
		begin_integer(scan, AT_INDEX, 6, byte);
	else if (byte & 0x40)
		begin_integer(scan, AT_NAME_INDEX, 4, byte);
	else if (byte & 0x20)
		begin_integer(scan, AT_NAME_LENGTH, 3, byte);
	else if (byte & 0x10)
		begin_integer(scan, AT_INDEX, 4, byte);
	else
		begin_integer(scan, AT_NAME_INDEX, 3, byte);
}

/* Returns how many bytes it consumed: one, or as many bytes of a string as there are. */
static size_t take_section(struct h3_scan *scan, const uint8_t *bytes, size_t n)
{
	size_t part;

	if (scan->place == AT_NAME || scan->place == AT_TEXT) {
		part = scan->skip < n ? (size_t)scan->skip : n;
		scan->skip -= part;
		if (scan->skip == 0)
			scan->place = scan->place == AT_NAME ? AT_VALUE : AT_LINE;
		return part;
	}
	if (scan->shift)
		go_on_with_integer(scan, *bytes);
	else if (scan->place == AT_COUNT)
		begin_integer(scan, AT_COUNT, 8, *bytes);
	else if (scan->place == AT_BASE)
		begin_integer(scan, AT_BASE, 7, *bytes);
	else if (scan->place == AT_VALUE)
		begin_integer(scan, AT_VALUE_LENGTH, 7, *bytes);
	else
		begin_line(scan, *bytes);
	return 1;
}

static void end_section(struct h3_scan *scan)
{
	if (scan->sections == 0)
		scan->head_lines = scan->lines;
	scan->last_lines = scan->lines;
	if (scan->sections < UINT8_MAX)
		scan->sections++;
}

/* ---- streams ---- */

static uint64_t begin_request_frame(struct h3_scan *scan)
{
	scan->place = AT_COUNT;
	scan->shift = 0;
	scan->lines = 0;
	if (scan->type == FRAME_HEADERS && scan->left == 0)
		return NGHTTP3_QPACK_DECOMPRESSION_FAILED; /* nghttp3 would wait for more bytes */
	return 0;
}

uint64_t h3_scan_request(struct h3_scan *scan, const uint8_t *bytes, size_t n, bool end)
{
	const uint8_t *last = bytes + n;
	uint64_t fault;

	while (bytes < last) {
		if (scan->state != AT_PAYLOAD) {
			if (take_frame_head(scan, *bytes++) && (fault = begin_request_frame(scan)))
				return fault;
		} else {
			size_t part = scan->left < (uint64_t)(last - bytes) ? (size_t)scan->left : (size_t)(last - bytes);
			if (scan->type == FRAME_HEADERS)
				part = take_section(scan, bytes, part);
			scan->left -= part;
			bytes += part;
		}
		if (scan->state == AT_PAYLOAD && scan->left == 0) {
			if (scan->type == FRAME_HEADERS)
				end_section(scan);
			scan->state = AT_TYPE;
		}
	}
	return end && is_in_frame(scan) ? NGHTTP3_H3_FRAME_ERROR : 0;
}

static bool is_one_number(uint8_t type)
{
	return type == FRAME_CANCEL_PUSH || type == FRAME_GOAWAY || type == FRAME_MAX_PUSH_ID;
}

/* A frame that consists of one integer. */
static uint64_t take_only_number(struct h3_scan *scan, uint8_t byte)
{
	if (!h3_number_take(&scan->number, byte))
		return scan->left == 0 ? NGHTTP3_H3_FRAME_ERROR : 0;
	if (scan->left > 0)
		return NGHTTP3_H3_FRAME_ERROR; /* RFC 9114 7.1 */
	if (scan->type == FRAME_CANCEL_PUSH)
		return NGHTTP3_H3_ID_ERROR; /* 7.2.3: there are no pushes */
	if (scan->type == FRAME_MAX_PUSH_ID && scan->number.value < scan->push_max)
		return NGHTTP3_H3_ID_ERROR; /* 7.2.7 */
	if (scan->type == FRAME_MAX_PUSH_ID)
		scan->push_max = scan->number.value;
	scan->number = (struct h3_number){0};
	return 0;
}

uint64_t h3_scan_control(struct h3_scan *scan, const uint8_t *bytes, size_t n)
{
	const uint8_t *last = bytes + n;
	uint64_t fault;

	while (bytes < last) {
		if (scan->state != AT_PAYLOAD) {
			if (!take_frame_head(scan, *bytes++))
				continue;
			if (!scan->settled && scan->type != FRAME_SETTINGS)
				return NGHTTP3_H3_MISSING_SETTINGS;
			scan->settled = true;
			if (is_one_number(scan->type) && scan->left == 0)
				return NGHTTP3_H3_FRAME_ERROR;
		} else if (is_one_number(scan->type)) {
			scan->left--;
			fault = take_only_number(scan, *bytes++);
			if (fault)
				return fault;
		} else {
			size_t part = scan->left < (uint64_t)(last - bytes) ? (size_t)scan->left : (size_t)(last - bytes);
			scan->left -= part;
			bytes += part;
		}
		if (scan->state == AT_PAYLOAD && scan->left == 0)
			scan->state = AT_TYPE;
	}
	return 0;
}
