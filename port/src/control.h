/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on the whole server. */
#ifndef SPARX_CONTROL_H
#define SPARX_CONTROL_H

#include "config.h"
#include "stream/stream.h"

struct control_figures {
	uint64_t connections, idle, lingering, half_open, accepted, rejected, bytes_in, bytes_out;
	uint64_t handshakes, resumed, tls_failed, misproxied;
	uint64_t h3_connections, h3_retries, h3_dropped;
};

struct secure;

struct listener_name {
	char address[ADDRESS_MAX];
	uint16_t port;
};

struct control_ops {
	bool http3; /* whether this program speaks it */
	/* Binds all listeners of the configuration. False: `fault` says which one and why. */
	bool (*listen)(void *ctx, struct config_fault *fault);
	/* Sets the certificates of listener number i, and its rules for clients' certificates (PROTOCOL.md 7.2); before `listen`,
	 * also that it
	   speaks TLS. Returns the number of certificates; 0: fault says what is wrong, and everything stays as it was. */
	unsigned (*certify)(void *ctx, unsigned i, struct slice map, struct config_fault *fault);
	/* The secret of the tickets of a listener that is_secure. False: its length is wrong. */
	bool (*tickets)(void *ctx, unsigned i, struct slice key);
	/* Whether there is a listener with this number, and it speaks TLS. */
	bool (*is_secure)(void *ctx, unsigned i);
	/* The bound address of listener number i. */
	void (*name)(void *ctx, unsigned i, struct listener_name *name);
	/* Stops accepting; ends when no connection is left, or after `deadline` ms. */
	void (*drain)(void *ctx, uint64_t deadline);
	/* The host is gone: clients that wait at a listener of the host are left to other processes that have the socket. */
	void (*leave)(void *ctx);
	/* Ends now. */
	void (*stop)(void *ctx, int status);
	void (*stats)(void *ctx, struct control_figures *figures);
	/* Turns load shedding pressure on or off: while on, no new requests are started. */
	void (*pressure)(void *ctx, bool on);
};

/* Reports connections, if the host asked for it. */
struct connection_watch {
	void *ctx;
	bool (*wanted)(void *ctx);
	void (*opened)(void *ctx, uint64_t connection, const struct peer *peer);
	/* What TLS has negotiated, and the time from accept in µs; or, if `fault` is not empty, the error that ended the
	 * connection. */
	void (*secured)(void *ctx, uint64_t connection, uint64_t time, const struct secure *s, const char *fault);
	/* The time is in µs. */
	void (*ended)(void *ctx, uint64_t connection, enum stream_end why, uint64_t bytes_in, uint64_t bytes_out, uint64_t time);
};

struct control {
	const struct control_ops *ops;
	void *ctx;
};

#endif
