/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <stdio.h>
#include <stdlib.h>

static void take(struct buf *to, struct buf *from)
{
	*to = *from;
	*from = (struct buf){0};
}

enum { LAZY_MS = 100 };

void record_take(struct record *record, struct answering *a)
{
	rig_pass_time(&a->rig, LAZY_MS); /* messages that may wait for others are flushed too */
	for (unsigned i = 0; i < ANSWERING_STREAMS; i++)
		take(&record->heard[i], &a->heard[i]), take(&record->bodies[i], &a->bodies[i]);
	record->gone = a->gone;
	take(&record->wire, &a->rig.clients[0].outbox);
}

static void print(const struct buf *b)
{
	for (size_t i = 0; i < buf_len(b); i++) {
		uint8_t c = buf_at(b)[i];
		fprintf(stderr, c >= 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
	}
	fprintf(stderr, "\n");
}

static void compare(const char *what, unsigned i, const struct buf *a, const struct buf *b, bool whole)
{
	size_t n = buf_len(a) < buf_len(b) ? buf_len(a) : buf_len(b);

	if ((!whole || buf_len(a) == buf_len(b)) && (n == 0 || memcmp(buf_at(a), buf_at(b), n) == 0))
		return;
	fprintf(stderr, "%s %u differs:\n", what, i);
	print(a);
	print(b);
	abort();
}

void record_compare(const struct record *a, const struct record *b, bool wire)
{
	for (unsigned i = 0; i < ANSWERING_STREAMS; i++) {
		compare("stream", i, &a->heard[i], &b->heard[i], true);
		compare("body", i, &a->bodies[i], &b->bodies[i], !(a->gone >> i & 1));
	}
	if (wire)
		compare("wire", 0, &a->wire, &b->wire, true);
}

void record_free(struct record *record)
{
	for (unsigned i = 0; i < ANSWERING_STREAMS; i++) {
		buf_free(&record->heard[i]);
		buf_free(&record->bodies[i]);
	}
	buf_free(&record->wire);
}
