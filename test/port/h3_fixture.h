/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/3 session between nghttp3's client and the host of h1_fixture. A table of streams replaces QUIC: bytes arrive as they
 * were sent, and are acknowledged at once, unless the fixture says otherwise. What the client sees is recorded as text.
 */
#ifndef SPARX_TEST_H3_FIXTURE_H
#define SPARX_TEST_H3_FIXTURE_H

#include <nghttp3/nghttp3.h>

#include "h1_fixture.h"
#include "proto/h3.h"

enum { H3_LANES = 512 };

/* A stream, as the carrier knows it. */
struct h3_lane {
	uint64_t came, credit; /* bytes from the client; how many more it may send, beyond its first window */
	uint64_t unacked;      /* bytes to the client that are not acknowledged */
	bool client_ended, server_ended, stopped, gone;
	bool unwanted; /* the client has asked us to stop */
};

struct h3_fixture {
	struct h1_fixture h1; /* first: events, the host's words, the clock */
	struct h3 *h3;
	nghttp3_conn *client;
	struct text seen;
	struct h3_lane lanes[H3_LANES]; /* by stream id */
	int64_t next;                   /* the client's next request */
	int64_t next_uni, next_own;     /* unidirectional streams: the client's, and the server's */
	uint64_t credit_all, streams;   /* returned to the client as stream credit */
	bool deaf;                      /* the client acknowledges nothing */
	bool full;                      /* nothing may be sent */
	bool closed;                    /* the session wants to end: seen */
};

/* options: set in h1.config before the session starts; NULL for none. */
void h3_fixture_start(struct h3_fixture *f, void (*options)(struct config *config));
void h3_fixture_end(struct h3_fixture *f);

/* A request; fields: "name: value\n" each. body: NULL for none; "" for one that comes later. Returns the stream. */
int64_t h3_client_asks(struct h3_fixture *f, const char *method, const char *path, const char *fields, const char *body);
/* CONNECT, to h:1; extended, if protocol is not NULL. */
int64_t h3_client_connects(struct h3_fixture *f, const char *protocol, const char *path);
void h3_client_body(struct h3_fixture *f, int64_t id, const char *data, bool end);
void h3_client_trailers(struct h3_fixture *f, int64_t id, const char *fields);
/* RESET_STREAM; STOP_SENDING. */
void h3_client_resets(struct h3_fixture *f, int64_t id);
void h3_client_stops(struct h3_fixture *f, int64_t id);
/* Raw bytes, on a stream of the client. */
void h3_client_sends(struct h3_fixture *f, int64_t id, const void *bytes, size_t n, bool end);
/* A new unidirectional stream. */
int64_t h3_client_opens(struct h3_fixture *f);
/* Acknowledges what was not acknowledged before. */
void h3_client_acknowledges(struct h3_fixture *f);

/* Carries all bytes over, both ways, until both are silent. */
void h3_talk(struct h3_fixture *f);
void h3_pass_time(struct h3_fixture *f, uint64_t ms);

#define H3_EXPECT_SEEN(f, wanted) \
	do { \
		h3_talk(f); \
		EXPECT_TEXT(&(f)->seen, wanted); \
	} while (0)

#endif
