/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "quic/parts.h"

/* ngtcp2 ends the process if time goes backwards. */
uint64_t quic_now(struct quic *q)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = q->by_hand ? *q->by_hand * 1000 : (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	q->last_ns = ns > q->last_ns ? ns : q->last_ns;
	return q->last_ns;
}
