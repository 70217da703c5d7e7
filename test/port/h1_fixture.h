/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1 session between a client and a host that are both written as text: a fake owner, and a sink that records its calls.
 * */
#ifndef SPARX_TEST_H1_FIXTURE_H
#define SPARX_TEST_H1_FIXTURE_H

#include "proto/session.h"
#include "support.h"

enum { FIXTURE_STREAMS = 128 };

/* What the sink knows about a stream. */
struct fixture_stream {
	unsigned id;
	uint64_t chunks, body_out, room;
	unsigned spent; /* how often it learned that nothing more is allowed */
	uint64_t chunk;
};

struct h1_fixture {
	struct config config;
	struct session_env env;
	struct session_owner owner;
	struct stream_sink sink;
	uint64_t now, now_us;
	struct session *session;
	struct buf tail; /* what the session did not use */
	bool eof;
	bool auto_read;                          /* every body is read as it arrives */
	struct stream *streams[FIXTURE_STREAMS]; /* NULL: over */
	struct stream *owed[FIXTURE_STREAMS];    /* over, and to be released */
	struct fixture_stream known[FIXTURE_STREAMS];
	unsigned count; /* of all requests; the first is number 1 */
	int64_t kept;   /* bytes that the session reports as kept */
	int last_body;  /* the stream whose body was the last event: pieces are joined */
	struct text events, wire;
};

void fixture_start(struct h1_fixture *f);
/* Ends the session, if it is not over, and frees all. */
void fixture_end(struct h1_fixture *f);

/* The client sends this, or (NULL) closes its side. Bytes that the session does not use are offered again with later ones. */
void client_sends(struct h1_fixture *f, const char *text);
void client_sends_bytes(struct h1_fixture *f, const void *bytes, size_t n);
/* Offers unused bytes again, as conn does after a write. */
void offer_again(struct h1_fixture *f);
/* The socket accepts all bytes, or at most n at a time, or n in total. */
void socket_takes_all(struct h1_fixture *f);
void socket_takes(struct h1_fixture *f, size_t n);

struct session_wants wants(struct h1_fixture *f);
/* Moves the clock to the session's deadline, so many ms ahead, and calls the session. */
void expect_deadline_at(struct h1_fixture *f, uint64_t ms, const char *file, int line);
#define EXPECT_DEADLINE(f, ms) expect_deadline_at(f, ms, __FILE__, __LINE__)
void pass_time(struct h1_fixture *f, uint64_t ms);

/* The host, as the bridge would do it. Fields: "name: value\n" each. length: -1 for unknown. */
/* The stream of the request with this number. */
struct stream *stream_at(struct h1_fixture *f, unsigned id);
void host_head(struct h1_fixture *f, unsigned id, unsigned status, const char *fields, int64_t length);
void host_data(struct h1_fixture *f, unsigned id, const char *data);
/* n bytes from this offset of a file with this text. */
void host_file(struct h1_fixture *f, unsigned number, const char *text, uint64_t offset, size_t n);
void host_end(struct h1_fixture *f, unsigned id, const char *trailers);
void host_responds(struct h1_fixture *f, unsigned id, unsigned status, const char *body);
void host_releases(struct h1_fixture *f, unsigned id);
/* Like UPGRADE for a tunnel. */
void host_upgrades(struct h1_fixture *f, unsigned id, const char *protocol);
void host_informs(struct h1_fixture *f, unsigned id, unsigned status, const char *fields);
void host_reads(struct h1_fixture *f, unsigned id, unsigned chunks, unsigned max);
void host_discards(struct h1_fixture *f, unsigned id);
void host_resets(struct h1_fixture *f, unsigned id, unsigned status, unsigned retry_after);

#define EXPECT_EVENTS(f, wanted) EXPECT_TEXT(&(f)->events, wanted)
/* Takes all output, and compares it. */
#define EXPECT_WIRE(f, wanted) \
	do { \
		socket_takes_all(f); \
		EXPECT_TEXT(&(f)->wire, wanted); \
	} while (0)

#endif
