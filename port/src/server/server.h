/* SPDX-License-Identifier: Apache-2.0 */
/* The server: listeners, the connections, their limits, and the drain. */
#ifndef SPARX_SERVER_SERVER_H
#define SPARX_SERVER_SERVER_H

#include "conn/conn.h"
#include "control.h"
#include "quic/quic.h"
#include "server/listener.h"
#include "transport/tls.h"

enum server_state { SERVER_NEW, SERVER_SERVING, SERVER_DRAINING, SERVER_STOPPED };

struct server {
	struct loop *loop;
	struct config *config;
	struct conn_pool pool;
	struct listener listeners[LISTENERS_MAX];
	struct quic *quic[LISTENERS_MAX];        /* HTTP/3 of the same listener; NULL: none */
	struct transport_tls tls[LISTENERS_MAX]; /* TLS of the same listener; without a store it is plain */
	unsigned listener_count;
	uint8_t state; /* enum server_state */
	bool tls_started;
	bool accept_paused; /* at the limit, or under pressure */
	unsigned max_connections;
	int reserve_fd; /* reserve: closed for a moment to turn a connection away when no descriptor is left */
	struct wheel_node drain_timer;
	struct wheel_node accept_timer; /* when to try again after a shortage */
	uint64_t date_second;           /* of pool.env.date */
	uint64_t crowd_second;          /* when all connections were last looked at, because of a crowd */
	uint64_t accepted;
	unsigned cut; /* connections that the drain's deadline cut */
	int exit_status;
	/* The last connection of a drain is gone, or its time is up. */
	void (*on_drained)(void *ctx, unsigned cut);
	void *ctx;
};

bool server_init(struct server *s, struct loop *loop, struct config *config, const struct stream_sink *sink);
void server_free(struct server *s);
/* Part of a turn: accepts, runs connections. True if there is more to do. */
bool server_run(struct server *s);
/* The end of a turn. */
void server_reap(struct server *s);

extern const struct control_ops server_control;

#endif
