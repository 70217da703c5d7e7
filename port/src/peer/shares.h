/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fair shares. A share is one peer's part of the server. A peer is an IPv4 address, an IPv6 /64 (or other prefixes), or a single
 * connection. The share counts the peer's requests in progress, has a list of the waiting ones, and has the counts of the peer's
 * limits. Pure: list nodes and numbers; the bridge knows what they mean.
 *
 * All limits are dynamic thresholds (Choudhury and Hahne, 1998): a peer may take more only while it has less than `factor` times
 * what is still free. So a single peer gets most of the server, and there is always something free for a newcomer. This applies
 * to requests in progress, to waiting ones, and to the bytes of responses that peers have not taken yet: a peer with too many of
 * these bytes begins nothing more.
 *
 * A share without references is kept while its limits have counts, in a table of at most `most` shares: a new one replaces the
 * share that has been idle longest. Shares with references are never replaced, so that no number of addresses can push out a peer
 * with a connection or a request; forgetting an idle peer is only to its advantage.
 */
#ifndef SPARX_PEER_SHARES_H
#define SPARX_PEER_SHARES_H

#include "base/list.h"
#include "peer/cidr.h"
#include "peer/limits.h"

enum { SHARE_LEVELS = 64, SHARES_SECRET = 16 };

struct share {
	struct share *next; /* in its slot of the table */
	uint8_t key[16];    /* the address, up to its prefix */
	uint8_t family;     /* length of the address; 0: it is not in the table */
	uint32_t refs;
	uint64_t in_progress;
	uint64_t unsent;     /* bytes of responses that wait for it */
	uint64_t waiting;    /* in the queue */
	struct list queue;   /* first come, first served */
	struct list waiters; /* in shares->levels or ->full; linked while something waits */
	bool is_full;        /* it is in the list shares->full */
	struct limit_state limit;
	struct list idle; /* in shares->idle; linked while it has no references */
};

struct shares {
	uint8_t secret[SHARES_SECRET];
	struct share **slots; /* mask + 1 of them, a power of two; none before the first */
	uint64_t mask, in_table;
	uint64_t peers;       /* shares with references, without `everyone` */
	uint8_t bits4, bits6; /* bits of an address that identify a peer */
	struct limits limits;
	const uint64_t *now_us;
	struct list idle; /* shares without references, the longest idle first */
	uint64_t idle_count, most;
	struct share everyone; /* the only share if peers are not distinguished */
	/* Shares with waiting requests, by their number of requests in progress; the last level also has all with more. */
	struct list levels[SHARE_LEVELS];
	uint64_t occupied;            /* bit i: level i is not empty */
	struct list full;             /* those of them with too many bytes, */
	uint64_t unsent, most_unsent; /* bytes that all peers together may have waiting; 0: any number */
};

/* A table without limits, which remembers no idle peer. */
void shares_init(struct shares *t, const uint8_t secret[SHARES_SECRET]);
/* Sets the bits that identify a peer, the limits, and how many peers are remembered. Call it before the first share is taken. */
void shares_limit(struct shares *t, const struct limits *limits, unsigned bits4, unsigned bits6, uint64_t most,
		  const uint64_t *now_us);
/* Frees everything; no reference to a share may be left. */
void shares_free(struct shares *t);

/* The share of an address, with one more reference. NULL: out of memory. */
struct share *shares_take(struct shares *t, const struct ip *ip);
/* A share without an address, for a single connection. NULL: out of memory. */
struct share *shares_own(struct shares *t);
struct share *share_keep(struct share *s);
/* Drops a reference; the last one frees the share. */
void shares_give(struct shares *t, struct share *s);

/* Whether a peer with this much may have more while `left` is free. Factor 0: there are no shares. */
static inline bool share_allows(uint64_t has, uint64_t left, uint64_t factor)
{
	return left > 0 && (factor == 0 || left > UINT32_MAX || has < left * factor);
}

/* Whether it may begin one more of the `left` requests that all peers together may begin. */
static inline bool share_may_begin(const struct shares *t, const struct share *s, uint64_t left, uint64_t factor)
{
	uint64_t room = t->unsent < t->most_unsent ? t->most_unsent - t->unsent : 0;

	return share_allows(s->in_progress, left, factor) && (t->most_unsent == 0 || share_allows(s->unsent, room, factor));
}

/* Looks again at some of the peers that had too many bytes, at `s` first. True: some request waits. */
bool shares_look_again(struct shares *t, struct share *s, uint64_t factor);
/* This many bytes of responses begin to wait for it; or no longer wait. True: a peer that had too many bytes may have a waiting
 * request. */
static inline void shares_hold(struct shares *t, struct share *s, uint64_t bytes)
{
	t->unsent += bytes;
	s->unsent += bytes;
}
static inline bool shares_let_go(struct shares *t, struct share *s, uint64_t bytes, uint64_t factor)
{
	t->unsent -= bytes;
	s->unsent -= bytes;
	return bytes && (t->occupied || !list_empty(&t->full)) && shares_look_again(t, s, factor);
}

/* Counts a request in progress, and its end. */
void shares_began(struct shares *t, struct share *s);
void shares_ended(struct shares *t, struct share *s);

/* Queues a request after those of its peer, or removes it. */
void shares_wait(struct shares *t, struct share *s, struct list *node);
void shares_leave(struct shares *t, struct share *s, struct list *node);
/*
 * Whose turn it is: the longest wait of the peer with the least in progress, among these of the one that has waited longest for
 * its turn. NULL: nobody waits, or the waiting peers have their share, or too many bytes.
 */
struct list *shares_next(struct shares *t, uint64_t left, uint64_t factor);

#endif
