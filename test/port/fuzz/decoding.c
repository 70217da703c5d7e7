/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request bodies with content codings: the result of any bytes must not depend on how they are cut, nor on how much room there
 * is; never more than the ratio and the limit allow is decoded; and the output of our own encoders decodes to its input.
 *
 * The input: a byte for the codings, one for the limit and the ratio, one for how the rest is cut; the rest is the body.
 */
#include <stdlib.h>
#include <string.h>

#include "coding/decoding.h"
#include "coding/encoder.h"
#include "parts/target.h"

#define MUST(x) ((x) ? (void)0 : abort())

enum { OUTPUT_MAX = 3 << 20, CODED_MAX = 1 << 20 };

struct outcome {
	enum decoding_result result;
	bool whole;
	size_t size;
	uint8_t *bytes;
};

static uint8_t outputs[2][OUTPUT_MAX], coded[CODED_MAX];

static struct outcome decode(const struct decoding_plan *plan, struct slice in, size_t cut, size_t room, uint64_t most,
			     uint8_t *out)
{
	struct decoding *d = decoding_new(plan, most, 100);
	struct outcome o = {DECODING_NEEDS_INPUT, false, 0, out};
	size_t at = 0, used;

	MUST(d);
	while (o.result <= DECODING_NEEDS_ROOM && (at < in.len || o.result == DECODING_NEEDS_ROOM)) {
		size_t n = in.len - at < cut ? in.len - at : cut, left = OUTPUT_MAX - o.size;
		struct slice piece = slice_of(in.at + at, n);

		MUST(left > 0);
		left = left < room ? left : room;
		o.result = decoding_run(d, &piece, out + o.size, left, &used);
		MUST(used <= left && piece.len <= n && decoding_memory(d) > 0);
		at += n - piece.len;
		o.size += used;
		MUST(o.result != DECODING_NEEDS_INPUT || piece.len == 0);
		MUST(o.result > DECODING_NEEDS_ROOM || o.size <= DECODING_FREE || o.size <= at * 100);
		MUST(o.result > DECODING_NEEDS_ROOM || !most || o.size <= most);
	}
	o.whole = o.result == DECODING_NEEDS_INPUT && decoding_is_whole(d);
	decoding_free(d);
	return o;
}

/* How much is decoded before a fault depends on the room. */
static void compare(struct outcome a, struct outcome b)
{
	size_t n = a.size < b.size ? a.size : b.size;

	MUST(a.result <= DECODING_NEEDS_ROOM || b.result > DECODING_NEEDS_ROOM);
	MUST(b.result <= DECODING_NEEDS_ROOM || a.result > DECODING_NEEDS_ROOM);
	MUST(a.whole == b.whole && memcmp(a.bytes, b.bytes, n) == 0);
	MUST(a.result > DECODING_NEEDS_ROOM || a.size == b.size);
}

static enum coding pick(unsigned n)
{
	enum coding coding = (enum coding)(CODING_GZIP + n % 4);

	return encoder_exists(coding) ? coding : CODING_GZIP;
}

static size_t encode(enum coding coding, struct slice in)
{
	struct encoder_blocks blocks = {0};
	struct encoder *e = encoder_new(coding, 1, &blocks);
	size_t n = 0, used;
	int complete;

	MUST(e);
	do {
		complete = encoder_run(e, ENCODER_FINISH, &in, coded + n, CODED_MAX - n, &used);
		n += used;
	} while (complete == 0);
	encoder_free(e);
	encoder_blocks_free(&blocks);
	MUST(complete == 1);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t codings = input_byte(&in), limits = input_byte(&in), cuts = input_byte(&in);
	struct decoding_plan plan = {.coding = {(uint8_t)pick(codings), (uint8_t)pick(codings >> 2)},
				     .count = codings & 16 ? 2 : 1};
	uint64_t most = limits & 128 ? (uint64_t)(limits & 127) * 100 : 0;
	struct slice body = input_bytes(&in, in.left);
	struct outcome o;

	if (body.len > 65536)
		return 0;
	/* the ratio is checked after each call, so the position depends on the room: it is not compared */
	o = decode(&plan, body, 65536, 65000, most, outputs[0]);
	if (o.result != DECODING_TOO_LARGE) {
		struct outcome other = decode(&plan, body, 1 + cuts % 16, 1 + (size_t)(cuts >> 4) * 700, most, outputs[1]);
		if (other.result != DECODING_TOO_LARGE)
			compare(o, other);
	}
	plan.count = 1;
	o = decode(&plan, slice_of(coded, encode((enum coding)plan.coding[0], body)), 1 + cuts, 65000, 0, outputs[0]);
	MUST(o.whole && o.size == body.len && (body.len == 0 || memcmp(o.bytes, body.at, body.len) == 0));
	return 0;
}
