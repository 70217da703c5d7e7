/* SPDX-License-Identifier: Apache-2.0 */
#include "quic/quic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/platform.h"
#include "quic/parts.h"

enum { PACKETS_A_TURN = 256 };

/* ---- packets ---- */

/* Whether one more connection is possible, by closing another if necessary. */
static bool has_room(struct quic *q)
{
	struct conn_pool *pool = q->pool;

	if (q->draining || pool->env.draining || pool->env.paused)
		return false;
	return pool->open < pool->env.config->max_connections || conn_pool_spare(pool);
}

/* Handles a packet that may begin a connection. */
static void take_first(struct quic *q, const struct quic_datagram *d)
{
	uint64_t now = quic_now(q);
	ngtcp2_cid original;
	enum quic_token token;
	ngtcp2_pkt_hd hd;

	if (ngtcp2_accept(&hd, d->bytes, d->n) != 0) {
		q->figures.dropped++;
		return;
	}
	token = quic_token_check(q, &hd, d, now, &original);
	if (token == QUIC_TOKEN_BAD) {
		quic_say_close(q, &hd, d, NGTCP2_INVALID_TOKEN);
		return;
	}
	if (token == QUIC_TOKEN_NONE && quic_wants_proof(q)) {
		quic_say_retry(q, &hd, d, now);
		return;
	}
	if (token != QUIC_TOKEN_NONE)
		conn_pool_may_shake(q->pool); /* counted: quic_run stops at the limit */
	if (!has_room(q)) {
		quic_say_close(q, &hd, d, NGTCP2_CONNECTION_REFUSED);
		return;
	}
	quic_conn_open(q, &hd, d, token, token == QUIC_TOKEN_RETRY ? &original : NULL);
}

static void take(struct quic *q, const struct quic_datagram *d)
{
	ngtcp2_version_cid vc;
	struct quic_end *end;
	int result = ngtcp2_pkt_decode_version_cid(&vc, d->bytes, d->n, QUIC_CID);

	if (result == NGTCP2_ERR_VERSION_NEGOTIATION) {
		quic_say_versions(q, &vc, d);
		return;
	}
	if (result != 0) {
		q->figures.dropped++;
		return;
	}
	end = quic_route_find(q, vc.dcid, vc.dcidlen);
	if (end) {
		end->receive(end, d);
	} else if (d->bytes[0] & 0x80) {
		take_first(q, d);
	} else {
		q->figures.dropped++;
		quic_say_reset(q, vc.dcid, d);
	}
}

static void wake_blocked(struct quic *q)
{
	struct list *l;

	loop_io_watch(q->pool->loop, &q->io, LOOP_READ);
	q->writable = false;
	while ((l = list_pop(&q->blocked)))
		member_is_dirty(&container_of(l, struct quic_conn, blocked)->member);
}

bool quic_run(struct quic *q)
{
	unsigned packets = 0;

	if (q->writable)
		wake_blocked(q);
	while (q->readable && packets < PACKETS_A_TURN && q->pool->handshakes < HANDSHAKES_A_TURN)
		packets += quic_socket_receive(q, take);
	return q->readable;
}

static void on_ready(struct loop_io *io, int ready)
{
	struct quic *q = container_of(io, struct quic, io);

	q->readable = q->readable || (ready & LOOP_READ);
	q->writable = q->writable || (ready & LOOP_WRITE);
}

/* ---- beginning and end ---- */

static bool make_secrets(struct quic *q, const struct listener_config *config)
{
	if (!platform_random(q->hash_secret, sizeof q->hash_secret) || !platform_random(q->token_secret, sizeof q->token_secret) ||
	    !platform_random(q->reset_secret, sizeof q->reset_secret))
		return false;
	if (!config->h3_key_given)
		return true;
	memcpy(q->token_secret, config->h3_key, sizeof q->token_secret);
	memcpy(q->reset_secret, config->h3_key, sizeof q->reset_secret);
	q->reset_secret[0] ^= 0xff; /* one secret for each use */
	return true;
}

struct quic *quic_open(struct conn_pool *pool, const struct listener_config *config, unsigned index, uint16_t port,
		       struct tls_store *const *store, bool *taken, char *rule, size_t size)
{
	struct quic *q = calloc(1, sizeof *q);
	int fd = q ? quic_socket(config, port, &q->local) : -1;

	*taken = q && fd < 0 && errno == EADDRINUSE;
	if (fd < 0 || !make_secrets(q, config)) {
		snprintf(rule, size, "%s", q ? strerror(errno) : "out of memory");
		if (fd >= 0)
			close(fd);
		free(q);
		return NULL;
	}
	q->pool = pool;
	q->store = store;
	q->index = (uint8_t)index;
	q->place = config->h3_place;
	q->places = config->h3_places ? config->h3_places : 1;
	q->segments = q->wide = true;
	idmap_init(&q->routes);
	list_init(&q->blocked);
	list_init(&q->ghosts);
	loop_io_init(&q->io, on_ready, NULL, fd);
	loop_io_watch(pool->loop, &q->io, LOOP_READ);
	return q;
}

int quic_descriptor(const struct quic *q)
{
	return loop_io_fd(&q->io);
}

void quic_drain(struct quic *q)
{
	q->draining = true;
}

void quic_close(struct quic *q)
{
	quic_ghosts_free(q);
	loop_io_watch(q->pool->loop, &q->io, 0);
	close(loop_io_fd(&q->io));
	idmap_free(&q->routes);
	free(q);
}

void quic_figures(const struct quic *q, struct quic_figures *figures)
{
	*figures = q->figures;
	figures->connections = q->connections;
}
