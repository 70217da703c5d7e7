/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole port without its main loop and its sockets, for fuzzing: a host and clients that are bytes, and a clock that the test
 * moves. The same input always has the same result. The port's messages are checked as they come, and the state at the end; any
 * fault aborts.
 */
#ifndef SPARX_FUZZ_RIG_H
#define SPARX_FUZZ_RIG_H

#include "bridge/exchange.h"
#include "server/server.h"

enum { RIG_CLIENTS = 8, RIG_STREAMS = 4096, RIG_KEPT = 1 << 18 };

struct rig_client {
	struct conn *c; /* NULL: the port has closed it, or it never came */
	struct buf inbox, outbox;
	uint64_t got;     /* number of bytes, including those that `outbox` did not keep */
	size_t read_most; /* bytes per read */
	size_t room;      /* bytes that its socket accepts */
	bool eof, reset;  /* what comes after the inbox */
	bool told;        /* the end was reported, by hup */
	bool shut;        /* the port has closed its side */
	int fd;           /* with sockets: ours */
	bool cut;         /* with sockets: the port has ended it by a reset */
};

/*
 * With an address ("unix:" and a path) clients are real sockets and the real loop runs, so that each system call can be made to
 * fail: `around` is called before and after the port runs. Its clock is rig_clock_us, if clock_gettime is replaced.
 */
struct rig_sockets {
	const char *address;
	void (*around)(bool port_runs);
};
extern struct rig_sockets rig_sockets;
extern struct slice rig_tls; /* the listener's `tls`, msgpack; absent: it is plain */
extern bool rig_http3;       /* HTTP/3 beside it */
extern uint64_t rig_clock_us;

struct rig {
	struct config config;
	struct link link;
	struct bridge bridge;
	struct server server;
	struct rig_client clients[RIG_CLIENTS];
	unsigned client_count;
	int to_port[2], from_port[2];
	int channel;      /* the host's end of the channel for descriptors */
	struct buf heard; /* from the port, not yet a whole frame */
	bool deaf;        /* the host does not read */
	uint8_t streams[RIG_STREAMS];
	/* Called for each message of the port; may be NULL. */
	void (*on_message)(struct rig *r, const struct message *m);
	void *ctx;
};

#define MUST(condition) rig_must(condition, #condition, __FILE__, __LINE__)
void rig_must(bool holds, const char *what, const char *file, int line);

void rig_start(struct rig *r);
/* The host leaves, time passes; then everything must be as at the start. */
void rig_stop(struct rig *r);

/* Bytes from the host, and their effects. */
void rig_host(struct rig *r, const void *bytes, size_t n);
/* One frame with this payload. */
void rig_frame(struct rig *r, const void *payload, size_t n);
/* A valid HELLO with `options` additional pairs, in `more`; and a DEMAND. */
void rig_hello(struct rig *r, unsigned options, struct slice more, uint32_t demand);

enum { RIG_FILE = 100000 };

/* Passes a file of RIG_FILE bytes for a stream; its byte i is rig_octet(i). */
void rig_hand(struct rig *r, uint64_t token, uint64_t stream);
uint8_t rig_octet(size_t i);

/* A new client; NULL: the port does not accept now. */
struct rig_client *rig_connect(struct rig *r);
void rig_client(struct rig_client *client, const void *bytes, size_t n);

/* One turn of the loop, and those that need no event after it. */
void rig_turn(struct rig *r);
void rig_pass_time(struct rig *r, uint64_t ms);

#endif
