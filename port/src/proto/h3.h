/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/3, RFC 9114. Its carrier (quic/) has its own streams, so this is not a session_ops: bytes are received and sent per
 * stream. The carrier calls h3_* when something has arrived; these functions record, and h3_deliver acts on the records.
 *
 *   quic ──bytes of a stream──> h3_receive, _acked, _reset, _stopped, _gone, _unblocked
 *   quic <──bytes of a stream── h3_output, _written, _blocked, _shut
 *   quic <──orders── h3_carrier: credit, resets, streams
 */
#ifndef SPARX_PROTO_H3_H
#define SPARX_PROTO_H3_H

#include "proto/session.h"

struct h3;

enum { H3_EXCESSIVE = 0x107 }; /* RFC 9114 8.1: the client causes too much work */

/* Orders of h3 to its carrier. All of these only record. */
struct h3_carrier {
	/* The client may send n more bytes: on this stream; on all streams together. */
	void (*credit)(struct session_owner *owner, int64_t stream, uint64_t n);
	void (*credit_all)(struct session_owner *owner, uint64_t n);
	/* The client may open n more streams; uni: for one direction. */
	void (*more)(struct session_owner *owner, bool uni, uint64_t n);
	/* Resets our side of a stream, or asks the client to end its side. */
	void (*reset)(struct session_owner *owner, int64_t stream, uint64_t code);
	void (*stop)(struct session_owner *owner, int64_t stream, uint64_t code);
	/* Opens a unidirectional stream. False: the client allows none. */
	bool (*open)(struct session_owner *owner, int64_t *stream);
	/* Whether the client's window for a stream is closed; whether nothing may be sent, because of the connection's window or
	 * the network. */
	bool (*is_shut)(const struct session_owner *owner, int64_t stream);
	bool (*is_full)(const struct session_owner *owner);
	/* The round-trip time, in ms. */
	uint64_t (*round_trip)(const struct session_owner *owner);
};

/* Opens its streams. NULL: out of memory, or the client allows no streams. */
struct h3 *h3_start(struct session_owner *owner, const struct h3_carrier *carrier);

/* ---- from the client ---- */

void h3_receive(struct h3 *h3, int64_t stream, const uint8_t *bytes, size_t n, bool end);
/* The client has acknowledged n more bytes of a stream. */
void h3_acked(struct h3 *h3, int64_t stream, uint64_t n);
/* The client has reset its side of a stream. */
void h3_reset(struct h3 *h3, int64_t stream);
/* Both sides of a stream are closed. */
void h3_gone(struct h3 *h3, int64_t stream, uint64_t code);
/* The client has opened the window of a stream. */
void h3_unblocked(struct h3 *h3, int64_t stream);

/* ---- to the client ---- */

/* The next bytes to send: returns how many vectors; *stream is -1 if there is nothing. */
int h3_output(struct h3 *h3, int64_t *stream, bool *end, struct iovec *iov, int max);
/* n bytes of it are on their way; end: also the end of the stream. */
void h3_written(struct h3 *h3, int64_t stream, size_t n, bool end);
/* The bytes cannot be sent: the client's window is closed; or our side of the stream is closed, since the client does not want
 * it. */
void h3_blocked(struct h3 *h3, int64_t stream);
void h3_shut(struct h3 *h3, int64_t stream);

/* ---- its life ---- */

/* Acts on what was recorded. */
void h3_deliver(struct h3 *h3);
struct session_wants h3_wants(const struct h3 *h3);
/* Whether all its requests wait for the client. */
bool h3_stalled(const struct h3 *h3);
void h3_tick(struct h3 *h3);
/* Accept no new requests, and finish those in progress. */
void h3_drain(struct h3 *h3);
/* The error to close it with: a code of RFC 9114 8.1. */
uint64_t h3_code(const struct h3 *h3);
/* All bytes of requests received, and of responses acknowledged, so far: the client's packets are measured by them. */
uint64_t h3_progress(const struct h3 *h3);
/* Ends all streams, and frees it. */
void h3_close(struct h3 *h3, enum stream_end why);

#endif
