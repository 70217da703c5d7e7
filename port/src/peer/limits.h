/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much one peer may have at all, whatever the others do. Pure: numbers and times (ns).
 *
 * Rates are kept by the generic cell rate algorithm (ITU-T I.371): of each rate a peer has one number, the time at which all that it
 * has had is paid for. It may have more while that is not further away than its burst is worth.
 */
#ifndef SPARX_PEER_LIMITS_H
#define SPARX_PEER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* What there is a limit on, and how often somebody ran into it. */
enum limit { LIMIT_NONE, LIMIT_REQUESTS, LIMIT_CONCURRENT, LIMIT_CONNECTIONS, LIMIT_CONNECTION_RATE, LIMITS };

enum limit_clock { CLOCK_REQUESTS, CLOCK_CONNECTIONS, CLOCK_IN, CLOCK_OUT, CLOCKS };

/* Bytes that a peer may be ahead of its rate by, in ns; and what is granted at once: never so little that it is all overhead. */
enum { SHAPE_AHEAD = 125000000, SHAPE_LEAST = 1024, SHAPE_MOST = 262144 };

struct limit_rate {
	uint64_t each;  /* ns that one costs; 0: there is no limit */
	uint64_t burst; /* at once */
};

struct limits {
	bool on; /* some are set */
	struct limit_rate requests, connection_rate;
	uint64_t concurrent, connections; /* 0: any number */
	uint64_t in, out;                 /* bytes a second of bodies; 0: any number */
	uint64_t over[LIMITS];
	uint64_t waits; /* times that a body waited for its rate */
};

/* What a peer has had. All zeros: nothing. */
struct limit_state {
	uint64_t due[CLOCKS]; /* when it is paid for */
	uint32_t requests, connections;
};

/* `count` in each `window` ns, `burst` of them at once; 0: as many as in a window. */
struct limit_rate limit_rate_of(uint64_t count, uint64_t window, uint64_t burst);
/* For how long (s, rounded up) a whole burst pays. */
uint64_t limit_rate_window(const struct limit_rate *r);

/* A request begins, and so many are its peer's until it ends. Or the limit that forbids it; *wait: ns after which it may ask again. */
enum limit limits_begin(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait);
void limits_end(struct limit_state *s);
/* The same for a connection. */
enum limit limits_connect(struct limits *l, struct limit_state *s, uint64_t now);
void limits_disconnect(struct limit_state *s);
/* Bytes of a body have come. Returns the ns for which no more are to be read of its peer; 0: more may come. */
uint64_t limits_came(struct limits *l, struct limit_state *s, uint64_t now, uint64_t bytes);
/* Bytes of a body that may leave now; 0: none, for *wait ns. What does not leave is given back. */
uint64_t limits_grant(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait);
void limits_refund(const struct limits *l, struct limit_state *s, uint64_t bytes);
/* Whether something would be lost with it. */
bool limits_remember(const struct limit_state *s, uint64_t now);

#endif
