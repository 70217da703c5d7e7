/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/decoding.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "coding/encoder.h"

struct stage {
	struct decoder *decoder;
	uint64_t made; /* bytes of output so far */
};

struct decoding {
	uint64_t most, ratio, came;
	unsigned count;
	struct stage stages[DECODINGS_MAX]; /* in the order in which they are undone */
	struct slice between;               /* bytes of `piece` that the second has not consumed */
	uint8_t piece[];                    /* DECODING_PIECE bytes, if there is a second */
};

/* ---- the field Content-Encoding (RFC 9110 8.4) ---- */

static void plan_member(struct decoding_plan *plan, struct slice name)
{
	enum coding coding = coding_by_name(name);

	if (name.len == 0 || slice_eq_nocase(name, SLICE_LIT("identity")))
		return;
	if (!encoder_exists(coding) || plan->count == DECODINGS_MAX)
		plan->unknown = true;
	else
		plan->coding[plan->count++] = (uint8_t)coding;
}

struct decoding_plan decoding_plan(const struct field *fields, unsigned count)
{
	struct decoding_plan plan = {.count = 0};

	for (unsigned i = 0; i < count; i++) {
		struct slice list = fields[i].value, name;

		if (slice_eq_nocase(fields[i].name, SLICE_LIT("content-encoding")))
			while (text_next(&list, &name))
				plan_member(&plan, name);
	}
	return plan;
}

struct slice decoding_accepted(void)
{
	static char text[64];
	size_t len = 0;

	for (enum coding c = CODING_GZIP; c < CODINGS && len < sizeof text; c++)
		if (encoder_exists(c))
			len += (size_t)snprintf(text + len, sizeof text - len, len ? ", %s" : "%s", coding_name(c));
	return slice_of(text, len);
}

/* ---- its life ---- */

struct decoding *decoding_new(const struct decoding_plan *plan, uint64_t most, uint64_t ratio)
{
	struct decoding *d = calloc(1, sizeof *d + (plan->count > 1 ? DECODING_PIECE : 0));

	if (!d)
		return NULL;
	d->between = slice_of(d->piece, 0);
	d->most = most;
	d->ratio = ratio;
	for (; d->count < plan->count; d->count++) {
		d->stages[d->count].decoder = decoder_new((enum coding)plan->coding[plan->count - 1 - d->count]);
		if (!d->stages[d->count].decoder) {
			decoding_free(d);
			return NULL;
		}
	}
	return d;
}

void decoding_free(struct decoding *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->count; i++)
		decoder_free(d->stages[i].decoder);
	free(d);
}

size_t decoding_memory(const struct decoding *d)
{
	size_t memory = sizeof *d + (d->count > 1 ? DECODING_PIECE : 0);

	for (unsigned i = 0; i < d->count; i++)
		memory += decoder_memory(d->stages[i].decoder);
	return memory;
}

/* ---- the work ---- */

/* How many bytes of output a decoder may have produced by now. The first of two may be a bomb as well as the last. */
static bool is_too_large(const struct decoding *d, const struct stage *stage, bool last)
{
	uint64_t most = d->ratio > UINT64_MAX / (d->came + 1) ? UINT64_MAX : d->came * d->ratio;

	if (last && d->most && stage->made > d->most)
		return true;
	return stage->made > DECODING_FREE && stage->made > most;
}

static enum decoding_result run_stage(struct decoding *d, unsigned i, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	static const enum decoding_result results[] = {
		[DECODER_NEEDS_INPUT] = DECODING_NEEDS_INPUT,
		[DECODER_NEEDS_ROOM] = DECODING_NEEDS_ROOM,
		[DECODER_MALFORMED] = DECODING_MALFORMED,
		[DECODER_NO_MEMORY] = DECODING_NO_MEMORY,
	};
	struct stage *stage = &d->stages[i];
	size_t before = in->len;
	enum decoder_result result = decoder_run(stage->decoder, in, out, room, used);

	if (i == 0)
		d->came += before - in->len;
	stage->made += *used;
	return is_too_large(d, stage, i + 1 == d->count) ? DECODING_TOO_LARGE : results[result];
}

/* Decodes until it needs input, or `out` is full. */
static enum decoding_result fill(struct decoding *d, unsigned i, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	enum decoding_result result = DECODING_NEEDS_ROOM;

	*used = 0;
	while (result == DECODING_NEEDS_ROOM && *used < room) {
		size_t n;

		result = run_stage(d, i, in, out + *used, room - *used, &n);
		*used += n;
	}
	return result;
}

static enum decoding_result run_both(struct decoding *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	enum decoding_result first = DECODING_NEEDS_ROOM, second;

	*used = 0;
	for (;;) {
		size_t n;

		second = fill(d, 1, &d->between, out + *used, room - *used, &n);
		*used += n;
		if (second != DECODING_NEEDS_INPUT || first == DECODING_NEEDS_INPUT)
			return second;
		first = fill(d, 0, in, d->piece, DECODING_PIECE, &n);
		d->between = slice_of(d->piece, n);
		if (first > DECODING_NEEDS_ROOM)
			return first;
	}
}

enum decoding_result decoding_run(struct decoding *d, struct slice *in, uint8_t *out, size_t room, size_t *used)
{
	return d->count > 1 ? run_both(d, in, out, room, used) : fill(d, 0, in, out, room, used);
}

bool decoding_is_whole(const struct decoding *d)
{
	if (d->came == 0)
		return true;
	for (unsigned i = 0; i < d->count; i++)
		if (!decoder_is_whole(d->stages[i].decoder))
			return false;
	return d->between.len == 0;
}
