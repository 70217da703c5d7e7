/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A minimum rate, enforced as a deadline: bytes move the deadline, but never further than `grace` from now. So a burst does not
 * excuse a long silence, and a byte now and then does not keep a response alive. The clock stops while the peer is not at fault.
 * Times are in µs.
 */
#ifndef SPARX_BASE_PACE_H
#define SPARX_BASE_PACE_H

#include <stdint.h>

struct pace {
	uint64_t late;    /* when the peer will have been too slow */
	uint64_t stopped; /* when the clock was stopped; 0: it runs */
};

static inline void pace_start(struct pace *p, uint64_t now, uint64_t grace)
{
	*p = (struct pace){.late = now + grace};
}

/* n bytes have moved, where `rate` bytes per second are the minimum; 0: any rate is enough. */
static inline void pace_moved(struct pace *p, uint64_t now, uint64_t bytes, uint64_t rate, uint64_t grace)
{
	uint64_t most = (p->stopped ? p->stopped : now) + grace;
	uint64_t time = bytes == 0 ? 0 : rate == 0 || bytes > UINT32_MAX ? grace : bytes * 1000000 / rate;

	p->late = p->late + time < most ? p->late + time : most;
}

static inline void pace_stop(struct pace *p, uint64_t now)
{
	if (!p->stopped)
		p->stopped = now;
}

static inline void pace_go(struct pace *p, uint64_t now)
{
	if (p->stopped)
		p->late += now - p->stopped;
	p->stopped = 0;
}

/* The deadline in ms; UINT64_MAX: none while the clock is stopped. */
static inline uint64_t pace_deadline(const struct pace *p)
{
	return p->stopped ? UINT64_MAX : (p->late + 999) / 1000;
}

#endif
