/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a run, to compare it with another: what the host received for each stream, and what the first client was sent. */
#ifndef SPARX_FUZZ_RECORD_H
#define SPARX_FUZZ_RECORD_H

#include "answering.h"

struct record {
	struct buf bodies[ANSWERING_STREAMS], heard[ANSWERING_STREAMS], wire;
	uint64_t gone;
};

/* Takes the buffers of the run. */
void record_take(struct record *record, struct answering *a);
/*
 * Both must be the same. Incomplete bodies may differ in length, since a fault may be found before everything that precedes it
 * was passed on. wire: whether to compare what the client was sent.
 */
void record_compare(const struct record *a, const struct record *b, bool wire);
void record_free(struct record *record);

#endif
