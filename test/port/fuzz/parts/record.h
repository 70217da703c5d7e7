/* SPDX-License-Identifier: Apache-2.0 */
/* What came of a run, to be compared with another: what the host heard of each stream, and what the first client was sent. */
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
 * Both must be the same. Of a body that was never whole one may have more, since what is wrong with it can
 * be found before all that precedes it was told. wire: whether to compare what the client was sent.
 */
void record_compare(const struct record *a, const struct record *b, bool wire);
void record_free(struct record *record);

#endif
