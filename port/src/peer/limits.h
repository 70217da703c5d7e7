/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits on one peer, independent of other peers. Pure: numbers and times (ns).
 *
 * Rates use the generic cell rate algorithm (ITU-T I.371): for each rate a peer has one number, the time at which its whole burst
 * is available again. It may have more while that time is not further away than a burst takes to come back.
 */
#ifndef SPARX_PEER_LIMITS_H
#define SPARX_PEER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* The limits, and how often each was reached. */
enum limit { LIMIT_NONE, LIMIT_REQUESTS, LIMIT_CONCURRENT, LIMIT_CONNECTIONS, LIMIT_CONNECTION_RATE, LIMITS };

enum limit_clock { CLOCK_REQUESTS, CLOCK_CONNECTIONS, CLOCK_IN, CLOCK_OUT, CLOCKS };

/* How far a peer may be ahead of its rate, in ns; and the fewest bytes that are granted at once, so that overhead stays small. */
enum { SHAPE_AHEAD = 125000000, SHAPE_LEAST = 1024, SHAPE_MOST = 262144 };

struct limit_rate {
	uint64_t each;  /* ns that one costs; 0: no limit */
	uint64_t burst; /* how many at once */
};

struct limits {
	bool on; /* some are set */
	struct limit_rate requests, connection_rate;
	uint64_t concurrent, connections; /* 0: any number */
	uint64_t in, out;                 /* bytes a second of bodies; 0: any number */
	uint64_t over[LIMITS];
	uint64_t waits; /* times that a body waited for its rate */
};

/* The counts of a peer. All zeros: it has used nothing. */
struct limit_state {
	uint64_t due[CLOCKS]; /* when the whole burst is available again */
	uint32_t requests, connections;
};

/* `count` in each `window` ns, `burst` of them at once; 0: as many as in a window. */
struct limit_rate limit_rate_of(uint64_t count, uint64_t window, uint64_t burst);
/* How long (s, rounded up) an empty burst takes to fill again. */
uint64_t limit_rate_window(const struct limit_rate *r);

/* Counts a request that begins, until it ends; or returns the limit that forbids it, with *wait: ns after which the peer may try
 * again. */
enum limit limits_begin(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait);
void limits_end(struct limit_state *s);
/* The same for a connection. */
enum limit limits_connect(struct limits *l, struct limit_state *s, uint64_t now);
void limits_disconnect(struct limit_state *s);
/* Counts received bytes of a body. Returns for how many ns no more may be read from its peer; 0: more may come. */
uint64_t limits_came(struct limits *l, struct limit_state *s, uint64_t now, uint64_t bytes);
/* How many bytes of a body may leave now; 0: none for *wait ns. Bytes that do not leave are given back. */
uint64_t limits_grant(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait);
void limits_refund(const struct limits *l, struct limit_state *s, uint64_t bytes);
/* Whether forgetting the peer would lose a count. */
bool limits_remember(const struct limit_state *s, uint64_t now);

#endif
