/* SPDX-License-Identifier: Apache-2.0 */
/* One connection over QUIC: a member of the pool, like those over TCP. */
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sm.h"
#include "platform/platform.h"
#include "quic/parts.h"

enum {
	TURN_BUDGET = 256 * 1024, /* bytes that it sends in a turn */
	VECTORS = 16,
	PROGRESS_EACH = 100, /* bytes of streams that justify one more packet */
	TOKENS_MAX = 2000,
	IDS_OF_CLIENT = 4,
	WIDENS = 16384,          /* bytes after which larger packets are worth trying, */
	WIDENS_FURTHER = 262144, /* and very large ones */
	SILENT_TIMEOUTS = 3,     /* without a packet of the client, and at least this long in ms, until packets get small, */
	SILENT_MS = 1000,
	NARROW_MS = 600000, /* and for how long (RFC 8899 5.1.1) */
	MOVES = 4096,       /* fewer bytes moved (in both directions together) count as waiting for the client */
	CLOSE_SHORT = 1200,
	PING_MS = 50,
	PATIENT_PACKETS = 2,
	PATIENCE_MS = 10,     /* time that an acknowledgement waits for a response; clients expect up to 25 */
	CRYPTO_ERROR = 0x100, /* plus the number of an alert: RFC 9001 4.8 */
};

static const char *const state_names[] = {"handshake", "open", "closed"};
static const uint32_t state_next[] = {
	[QUIC_HANDSHAKE] = SM_BIT(QUIC_OPEN) | SM_BIT(QUIC_CLOSED),
	[QUIC_OPEN] = SM_BIT(QUIC_CLOSED),
	[QUIC_CLOSED] = 0,
};
static const struct sm machine = {"quic", state_names, state_next};

/* ---- the end ---- */

/* The alert that ends it, ours or the client's; -1: none does. */
static int alert_of(const struct quic_conn *c)
{
	const ngtcp2_ccerr *e = c->silent ? ngtcp2_conn_get_ccerr(c->ng) : &c->error;

	if (e->type != NGTCP2_CCERR_TYPE_TRANSPORT || e->error_code < CRYPTO_ERROR || e->error_code > CRYPTO_ERROR + UINT8_MAX)
		return -1;
	return (int)(e->error_code - CRYPTO_ERROR);
}

/* As over TCP: a client that only leaves has not failed; one that rejects our certificate has. */
static void note_failure(struct quic_conn *c)
{
	bool shakes = c->state == QUIC_HANDSHAKE && c->failed && !c->silent;
	int alert = alert_of(c);
	char text[48];

	if (!shakes && alert < 0)
		return;
	c->quic->figures.failed++;
	snprintf(text, sizeof text, "error %#llx of QUIC", (unsigned long long)c->error.error_code);
	conn_record_secured(c->member.pool, c->record, NULL, alert < 0 ? text : tls_alert_name((unsigned)alert));
}

/* Writes the packet with the reason; returns its length, 0 for none. */
static size_t close_packet(struct quic_conn *c, ngtcp2_path_storage *path, uint8_t *packet)
{
	ngtcp2_pkt_info info;
	ngtcp2_ssize n;

	ngtcp2_path_storage_zero(path);
	if (c->silent)
		return 0;
	n = ngtcp2_conn_write_connection_close(c->ng, &path->path, &info, packet, CLOSE_SHORT, &c->error, quic_now(c->quic));
	return n > 0 ? (size_t)n : 0;
}

/* Leaves a ghost behind, unless the client has received nothing from us. */
static void leave(struct quic_conn *c)
{
	struct quic *q = c->quic;
	ngtcp2_cid ids[QUIC_CIDS_MAX];
	uint8_t packet[CLOSE_SHORT];
	ngtcp2_path_storage path;
	size_t n = close_packet(c, &path, packet), sent, count = ngtcp2_conn_get_scid(c->ng, NULL);
	uint64_t time = 3 * ngtcp2_conn_get_pto(c->ng) / NGTCP2_MILLISECONDS;

	if (n && quic_socket_send(q, &path.path, 0, packet, n, n, &sent))
		q->pool->bytes_out += sent;
	count = count < QUIC_CIDS_MAX ? count : 0;
	if (count)
		ngtcp2_conn_get_scid(c->ng, ids);
	quic_route_remove_initial(q, c->initial_key);
	if (c->silent && !c->tls && buf_len(&c->hello) == 0) {
		for (size_t i = 0; i < count; i++)
			quic_route_remove(q, &ids[i]);
		return;
	}
	quic_ghost_make(q, ids, count, packet, n, time < 100 ? 100 : time < 10000 ? time : 10000);
}

static void conn_end(struct quic_conn *c, enum stream_end why)
{
	struct quic *q = c->quic;
	struct loop *loop = q->pool->loop;

	if (c->state == QUIC_CLOSED)
		return;
	note_failure(c);
	if (c->h3)
		h3_close(c->h3, why);
	c->h3 = NULL;
	sm_move(&machine, &c->state, QUIC_CLOSED);
	conn_record_end(q->pool, c->record, why);
	conn_pool_unshare(q->pool, &c->owner.peer);
	wheel_cancel(&loop->fine, &c->expiry);
	wheel_cancel(&loop->wheel, &c->deadline);
	list_remove(&c->blocked);
	leave(c);
	ngtcp2_conn_del(c->ng);
	tls_session_free(c->tls);
	buf_free(&c->hello);
	buf_free(&c->unsent);
	if (!c->validated)
		q->half_open--;
	q->connections--;
	member_leave(&c->member);
}

/* Closes with HTTP/3's error, if it has one. */
static void end_failed(struct quic_conn *c)
{
	bool lost = c->silent;

	if (c->h3 && h3_wants(c->h3).close != CLOSE_NOT && !lost)
		ngtcp2_ccerr_set_application_error(&c->error, h3_code(c->h3), NULL, 0);
	conn_end(c, lost ? END_CLOSED : END_ERROR);
}

static void member_close(struct member *m, bool abort, enum stream_end why)
{
	struct quic_conn *c = container_of(m, struct quic_conn, member);

	(void)abort;
	if (c->h3)
		ngtcp2_ccerr_set_application_error(&c->error, h3_code(c->h3), NULL, 0);
	conn_end(c, why);
}

static void member_drain(struct member *m)
{
	struct quic_conn *c = container_of(m, struct quic_conn, member);

	if (c->h3)
		h3_drain(c->h3);
	member_is_dirty(m);
}

static void member_release(struct member *m)
{
	free(container_of(m, struct quic_conn, member));
}

/* ---- packets to the client ---- */

static void wait_for_socket(struct quic_conn *c)
{
	struct quic *q = c->quic;

	list_remove(&c->blocked);
	list_append(&q->blocked, &c->blocked);
	loop_io_watch(q->pool->loop, &q->io, LOOP_READ | LOOP_WRITE);
}

/* Sends packets that wait for the socket. False: they still wait. */
static bool send_unsent(struct quic_conn *c)
{
	size_t sent;
	bool all;

	if (buf_len(&c->unsent) == 0)
		return true;
	all = quic_socket_send(c->quic, &c->unsent_path.path, c->unsent_ecn, buf_at(&c->unsent), buf_len(&c->unsent), c->segment,
			       &sent);
	c->quic->pool->bytes_out += sent;
	buf_consume(&c->unsent, sent);
	if (!all) {
		wait_for_socket(c); /* others may have filled it again */
		return false;
	}
	buf_free(&c->unsent);
	return true;
}

/* Packets of one path, all of one size except the last. */
struct burst {
	ngtcp2_path_storage path;
	uint8_t ecn;
	uint8_t *bytes;
	size_t n, segment;
	unsigned count;
};

/* False: the socket does not accept all of them now. */
static bool send_burst(struct quic_conn *c, struct burst *b)
{
	struct quic *q = c->quic;
	size_t sent, n = b->n;
	bool all;

	b->n = 0;
	b->count = 0;
	if (n == 0)
		return true;
	all = quic_socket_send(q, &b->path.path, b->ecn, b->bytes, n, b->segment, &sent);
	q->pool->bytes_out += sent;
	if (c->record)
		c->record->bytes_out += n;
	if (all)
		return true;
	if (!buf_append(&c->unsent, b->bytes + sent, n - sent))
		return true; /* lost like any packet on the network */
	c->segment = b->segment;
	c->unsent_ecn = b->ecn;
	ngtcp2_path_storage_zero(&c->unsent_path);
	ngtcp2_path_copy(&c->unsent_path.path, &b->path.path);
	wait_for_socket(c);
	return false;
}

/* Output of HTTP/3; when all of it is in packets, HTTP/3 is asked for more. */
struct output {
	int64_t id; /* of the stream; -1: there is nothing */
	bool end;
	ngtcp2_vec vec[VECTORS], *next;
	size_t count, left; /* pieces, and their bytes, that are not in a packet yet */
	size_t used;        /* bytes that are, and were not reported to HTTP/3 */
};

static void fill_output(struct quic_conn *c, struct output *o)
{
	struct iovec iov[VECTORS];
	int count;

	*o = (struct output){.id = -1, .next = o->vec};
	count = c->h3 ? h3_output(c->h3, &o->id, &o->end, iov, VECTORS) : 0;
	for (int i = 0; i < count; i++) {
		o->vec[o->count++] = (ngtcp2_vec){iov[i].iov_base, iov[i].iov_len};
		o->left += iov[i].iov_len;
	}
}

/* Reports to HTTP/3 the bytes that are in packets (done: all of them), and asks again. */
static void settle_output(struct quic_conn *c, struct output *o, bool done)
{
	if (o->id >= 0 && (o->used > 0 || done))
		h3_written(c->h3, o->id, o->used, done && o->end);
	o->id = -1;
}

static void use_output(struct quic_conn *c, struct output *o, size_t n)
{
	o->left -= n;
	o->used += n;
	for (; o->count > 0 && n >= o->next->len; o->count--)
		n -= o->next++->len;
	if (n > 0)
		*o->next = (ngtcp2_vec){o->next->base + n, o->next->len - n};
	if (o->left == 0)
		settle_output(c, o, true);
}

/* The rest of it cannot be sent. */
static void refuse_output(struct quic_conn *c, struct output *o, void (*why)(struct h3 *h3, int64_t id))
{
	int64_t id = o->id;

	settle_output(c, o, false);
	why(c->h3, id);
}

/* How long a packet may be. ngtcp2 stays within the known size of the path, except for probes, which wait for room. */
static size_t packet_room(const struct quic_conn *c, uint64_t now)
{
	if (c->sent < WIDENS || now < c->narrow_until)
		return QUIC_PACKET_MIN;
	return c->sent < WIDENS_FURTHER ? QUIC_PACKET : QUIC_PACKET_MAX;
}

/* Fills one packet. 0: there is none to send now. */
static ngtcp2_ssize write_packet(struct quic_conn *c, struct output *o, ngtcp2_path *path, uint8_t *at, uint8_t *ecn, uint64_t now)
{
	for (;;) {
		ngtcp2_pkt_info info;
		ngtcp2_ssize n, used = -1;

		if (o->id < 0)
			fill_output(c, o);
		n = ngtcp2_conn_writev_stream(c->ng, path, &info, at, packet_room(c, now), &used,
					      NGTCP2_WRITE_STREAM_FLAG_MORE | (o->end ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0), o->id,
					      o->next, o->count, now);
		*ecn = info.ecn;
		if (used >= 0 && o->id >= 0)
			use_output(c, o, (size_t)used);
		switch (n) {
		case NGTCP2_ERR_STREAM_DATA_BLOCKED:
			refuse_output(c, o, h3_blocked);
			continue;
		case NGTCP2_ERR_STREAM_SHUT_WR:
		case NGTCP2_ERR_STREAM_NOT_FOUND:
			refuse_output(c, o, h3_shut);
			continue;
		case NGTCP2_ERR_WRITE_MORE:
			continue;
		default:
			if (n < 0)
				quic_failed(c, (int)n);
			return n;
		}
	}
}

/* Whether a packet can be sent together with the gathered ones. */
static bool goes_with(const struct burst *b, const ngtcp2_path *path, uint8_t ecn, size_t n)
{
	return b->ecn == ecn && n <= b->segment && ngtcp2_path_eq(&b->path.path, path);
}

static void begin_burst(struct burst *b, const ngtcp2_path *path, uint8_t ecn, size_t n)
{
	ngtcp2_path_copy(&b->path.path, path);
	b->ecn = ecn;
	b->segment = n;
}

/* Whether there is anything of a response to send. The server's own streams come first: the control stream and QPACK's. */
static bool has_response(struct quic_conn *c)
{
	enum { OWN_STREAMS = 3 };
	int64_t passed[OWN_STREAMS];
	unsigned count = 0;
	struct output o;

	c->looks = true;
	for (fill_output(c, &o); o.id >= 0 && !ngtcp2_is_bidi_stream(o.id) && count < OWN_STREAMS; fill_output(c, &o)) {
		passed[count++] = o.id;
		h3_blocked(c->h3, o.id);
	}
	for (unsigned i = 0; i < count; i++)
		h3_unblocked(c->h3, passed[i]);
	c->looks = false;
	return o.id >= 0;
}

/*
 * A packet that would only acknowledge a request (also in QPACK) waits a moment for the response, whose packet can do it too.
 * More than two packets must be acknowledged at once (RFC 9000 13.2.2): of two, one often only acknowledges the previous
 * response.
 */
static bool is_patient(struct quic_conn *c, uint64_t now)
{
	if (c->unanswered == 0 || c->unanswered > PATIENT_PACKETS || !c->h3 || h3_wants(c->h3).idle || has_response(c))
		return false;
	if (c->patient_until == 0)
		c->patient_until = now + PATIENCE_MS * NGTCP2_MILLISECONDS;
	return now < c->patient_until;
}

/* True: its share of the turn is spent, and there may be more packets. */
static bool write_packets(struct quic_conn *c, uint64_t now)
{
	struct burst b = {.bytes = quic_scratch()};
	struct output output = {.id = -1};
	size_t total = 0;
	bool more = false;

	ngtcp2_path_storage_zero(&b.path);
	if (send_unsent(c) && is_patient(c, now))
		return false;
	c->patient_until = 0;
	if (buf_len(&c->unsent) > 0)
		return false;
	c->unanswered = 0;
	for (;;) {
		ngtcp2_path_storage path;
		uint8_t ecn = 0;
		ngtcp2_ssize n;

		if ((b.count == QUIC_SEGMENTS || b.n + b.segment > QUIC_BURST) && !send_burst(c, &b))
			break;
		if (total >= TURN_BUDGET) {
			more = true;
			break;
		}
		ngtcp2_path_storage_zero(&path);
		n = write_packet(c, &output, &path.path, b.bytes + b.n, &ecn, now);
		if (n <= 0)
			break;
		total += (size_t)n;
		c->sent += (size_t)n;
		if (b.count > 0 && !goes_with(&b, &path.path, ecn, (size_t)n)) {
			uint8_t *packet = b.bytes + b.n;
			if (!send_burst(c, &b)) {
				break; /* this packet is lost */
			}
			memmove(b.bytes, packet, (size_t)n);
		}
		if (b.count == 0)
			begin_burst(&b, &path.path, ecn, (size_t)n);
		b.n += (size_t)n;
		b.count++;
		if ((size_t)n < b.segment && !send_burst(c, &b)) /* a shorter packet must be the last one of a call */
			break;
	}
	if (b.n > 0)
		send_burst(c, &b);
	settle_output(c, &output, false);
	if (total > 0) {
		c->silent_since = c->silent_since ? c->silent_since : now;
		c->moved += total;
		ngtcp2_conn_update_pkt_tx_time(c->ng, now);
	}
	return more;
}

/* ---- packets from the client ---- */

/* Packets without effect cost CPU time: earlier bytes and time justify some of them. */
static bool is_bearable(struct quic_conn *c)
{
	const struct config *config = c->owner.env->config;
	uint64_t progress = c->h3 ? h3_progress(c->h3) : 0, earned = (progress - c->progress) / PROGRESS_EACH;

	if (progress > c->progress) {
		c->progress = progress;
		c->tokens = c->tokens + earned < TOKENS_MAX ? c->tokens + earned : TOKENS_MAX;
		return true;
	}
	if (c->tokens > 0) {
		c->tokens--;
		return true;
	}
	return bucket_take(&c->packets, *c->owner.env->now_us, config->h3_packets,
			   config->h3_packets * 1000000 / config->h3_packet_rate);
}

static void conn_receive(struct quic_end *end, const struct quic_datagram *d)
{
	struct quic_conn *c = container_of(end, struct quic_conn, end);
	ngtcp2_path path = quic_path_of(d);
	ngtcp2_pkt_info info = {.ecn = d->ecn};
	int error;

	if (c->failed || c->state == QUIC_CLOSED)
		return;
	member_is_dirty(&c->member);
	c->unanswered++;
	c->silent_since = 0;
	c->timeouts = 0;
	c->member.pool->bytes_in += d->n;
	if (c->record)
		c->record->bytes_in += d->n;
	error = ngtcp2_conn_read_pkt(c->ng, &path, &info, d->bytes, d->n, quic_now(c->quic));
	if (error)
		quic_failed(c, error);
	if (!c->failed && !is_bearable(c)) {
		c->failed = true;
		ngtcp2_ccerr_set_application_error(&c->error, H3_EXCESSIVE, NULL, 0);
	}
	if (c->h3 && c->member.wait == CONN_IDLE && !h3_wants(c->h3).idle)
		member_waits(&c->member,
			     CONN_WORKS); /* it has sent its request, so it must not be closed to make room in this turn */
}

/* ---- a turn ---- */

/* The client is silent, perhaps because larger packets are lost since its route has changed (RFC 9000 14.3). The smallest may still arrive. */
static void look_for_black_hole(struct quic_conn *c, uint64_t now)
{
	ngtcp2_conn_info info;

	if (c->silent_since == 0 || ++c->timeouts < SILENT_TIMEOUTS || now - c->silent_since < SILENT_MS * NGTCP2_MILLISECONDS)
		return;
	ngtcp2_conn_get_conn_info(c->ng, &info);
	if (info.bytes_in_flight > 0 && c->sent >= WIDENS)
		c->narrow_until = now + NARROW_MS * NGTCP2_MILLISECONDS;
	c->silent_since = 0;
}

/* Packets that are in the socket came in time, even if this process was not running then: quic_run reads them first. */
static void time_passes(struct quic_conn *c)
{
	c->quic->readable = true;
	member_is_dirty(&c->member);
}

static void on_expiry(struct wheel_node *node)
{
	time_passes(container_of(node, struct quic_conn, expiry));
}

static void on_deadline(struct wheel_node *node)
{
	struct quic_conn *c = container_of(node, struct quic_conn, deadline);

	c->due = true;
	time_passes(c);
}

static void set_timers(struct quic_conn *c, uint64_t deadline)
{
	struct loop *loop = c->member.pool->loop;
	uint64_t expiry = ngtcp2_conn_get_expiry(c->ng);

	if (c->patient_until)
		expiry = c->patient_until;
	if (expiry == UINT64_MAX)
		wheel_cancel(&loop->fine, &c->expiry);
	else
		wheel_set(&loop->fine, &c->expiry, loop_fine(expiry / 1000));
	if (deadline == 0)
		wheel_cancel(&loop->wheel, &c->deadline);
	else if (!wheel_pending(&c->deadline) || c->deadline.deadline != deadline)
		wheel_set(&loop->wheel, &c->deadline, deadline);
}

/* When crowded: records whether the connection only waits for its client. Moving bytes restarts its time. */
static enum conn_wait wait_of(struct quic_conn *c, const struct session_wants *w)
{
	if (w->idle)
		return CONN_IDLE;
	if (w->begun)
		return CONN_BEGUN;
	if (!c->owner.env->crowded || !h3_stalled(c->h3))
		return CONN_WORKS;
	if (c->member.wait != CONN_STALLED || c->moved >= MOVES) {
		member_waits(&c->member, CONN_WORKS);
		c->moved = 0;
	}
	return CONN_STALLED;
}

/* The TLS session is not needed any more, only its results: this frees 10 kB. */
static void shrink(struct quic_conn *c)
{
	if (c->shrunk)
		return;
	c->shrunk = true;
	ngtcp2_conn_set_tls_native_handle(c->ng, NULL);
	tls_session_shrink(c->tls);
}

/*
 * While a request is in progress, silence does not end the connection: the client is pinged instead, before either side's idle
 * timeout. No client is pinged more often than PING_MS.
 */
static void keep_alive(struct quic_conn *c, bool idle)
{
	uint64_t time = c->owner.env->config->idle_timeout * NGTCP2_MILLISECONDS, least = PING_MS * NGTCP2_MILLISECONDS;
	const ngtcp2_transport_params *client = ngtcp2_conn_get_remote_transport_params(c->ng);

	if (client && client->max_idle_timeout && client->max_idle_timeout < time)
		time = client->max_idle_timeout;
	time = time / 3 > least ? time / 3 : least;
	ngtcp2_conn_set_keep_alive_timeout(c->ng, idle ? UINT64_MAX : time);
}

static bool run_open(struct quic_conn *c, uint64_t now)
{
	struct session_wants w;
	bool more, paused = c->member.pool->env.read_paused;

	if (!paused)
		h3_deliver(c->h3);
	else if (!list_linked(&c->member.link))
		list_append(&c->member.pool->paused, &c->member.link);
	more = write_packets(c, now);
	if (!paused && !c->failed)
		h3_deliver(c->h3); /* ROOM, and the ends of responses that have left */
	w = h3_wants(c->h3);
	if (w.close != CLOSE_NOT && !c->failed) {
		c->failed = true;
		ngtcp2_ccerr_set_application_error(&c->error, h3_code(c->h3), NULL, 0);
	}
	if (c->failed)
		return false;
	shrink(c);
	keep_alive(c, w.idle);
	set_timers(c, w.deadline);
	member_waits(&c->member, wait_of(c, &w));
	if (w.later)
		conn_pool_later(c->member.pool, &c->member);
	return more;
}

/* True if it has more to do in the next turn. */
static bool conn_run(struct member *m)
{
	struct quic_conn *c = container_of(m, struct quic_conn, member);
	uint64_t now = quic_now(c->quic);
	bool more = false;
	int error;

	if (c->state == QUIC_CLOSED)
		return false;
	if (!c->failed && now >= c->patient_until && ngtcp2_conn_get_expiry(c->ng) <= now) {
		look_for_black_hole(c, now);
		error = ngtcp2_conn_handle_expiry(c->ng, now);
		if (error)
			quic_failed(c, error);
	}
	if (!c->failed && c->h3 && c->due)
		h3_tick(c->h3);
	c->due = false;
	if (!c->failed && c->h3) {
		more = run_open(c, now);
	} else if (!c->failed) {
		more = write_packets(c, now);
		set_timers(c, 0);
	}
	if (c->failed) {
		end_failed(c);
		return false;
	}
	if (more)
		member_is_dirty(m);
	return more;
}

static const struct member_ops quic_member = {
	.run = conn_run,
	.close = member_close,
	.drain = member_drain,
	.release = member_release,
};

/* ---- its memory ---- */

/*
 * This is the only limit on everything that a client can make ngtcp2 store: bytes after gaps, the gaps themselves, unacknowledged
 * frames, ids. When it is used up, this connection fails, and no other.
 */
static bool may_have(const struct quic_conn *c, size_t n)
{
	return n <= c->owner.env->config->h3_memory && c->memory <= c->owner.env->config->h3_memory - n;
}

static void *counted(struct quic_conn *c, void *at)
{
	if (at)
		c->memory += platform_memory_size(at);
	return at;
}

static void *mem_malloc(size_t n, void *ctx)
{
	return may_have(ctx, n) ? counted(ctx, malloc(n)) : NULL;
}

static void *mem_calloc(size_t count, size_t n, void *ctx)
{
	return may_have(ctx, count * n) ? counted(ctx, calloc(count, n)) : NULL;
}

static void mem_free(void *at, void *ctx)
{
	struct quic_conn *c = ctx;

	if (at)
		c->memory -= platform_memory_size(at);
	free(at);
}

static void *mem_realloc(void *at, size_t n, void *ctx)
{
	struct quic_conn *c = ctx;
	size_t before = at ? platform_memory_size(at) : 0;
	void *moved = may_have(c, n) ? realloc(at, n) : NULL;

	if (moved)
		c->memory -= before;
	return counted(c, moved);
}

/* ---- the beginning ---- */

static void on_wake(struct session_owner *owner)
{
	struct quic_conn *c = container_of(owner, struct quic_conn, owner);

	if (!c->looks)
		member_is_dirty(&c->member);
}

static bool on_covers(struct session_owner *owner, struct slice host)
{
	return tls_session_covers(container_of(owner, struct quic_conn, owner)->tls, host);
}

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref)
{
	return ((struct quic_conn *)ref->user_data)->ng;
}

static void fill_peer(struct peer *peer, const struct quic *q, const struct quic_datagram *d)
{
	in_port_t port;
	struct slice octets = quic_octets(&d->from, &port);

	peer->listener = q->index;
	peer->address_len = (uint8_t)octets.len;
	memcpy(peer->address, octets.at, octets.len);
	peer->port = ntohs(port);
	octets = quic_octets(&d->to, &port);
	if (octets.len != peer->address_len)
		return;
	memcpy(peer->local, octets.at, octets.len);
	memcpy(peer->local + octets.len, &port, sizeof port);
}

static void fill_params(struct quic_conn *c, const ngtcp2_pkt_hd *hd, const ngtcp2_cid *id, const ngtcp2_cid *original,
			ngtcp2_transport_params *p)
{
	const struct config *config = c->owner.env->config;

	ngtcp2_transport_params_default(p);
	p->initial_max_stream_data_bidi_remote = config->h3_stream_window;
	p->initial_max_stream_data_uni = config->h3_stream_window;
	p->initial_max_data = config->h3_connection_window;
	p->initial_max_streams_bidi = config->h3_max_streams;
	p->initial_max_streams_uni = QUIC_UNI_MAX;
	p->max_idle_timeout = config->idle_timeout * NGTCP2_MILLISECONDS;
	p->max_udp_payload_size = QUIC_PACKET_MAX;
	p->active_connection_id_limit = IDS_OF_CLIENT;
	p->disable_active_migration = c->quic->places > 1; /* the kernel would give its packets to another port */
	p->original_dcid = original ? *original : hd->dcid;
	p->original_dcid_present = 1;
	p->retry_scid = hd->dcid;
	p->retry_scid_present = original != NULL;
	p->stateless_reset_token_present = quic_reset_token(c->quic, id, p->stateless_reset_token);
}

static void fill_settings(struct quic_conn *c, const ngtcp2_pkt_hd *hd, enum quic_token token, ngtcp2_settings *s)
{
	/* The most likely case comes first. Each is tried three times, unless a shorter one was lost. */
	static const uint16_t probes[] = {QUIC_PACKET, QUIC_PACKET_MAX, 1406, 1342, 1232};

	ngtcp2_settings_default(s);
	s->initial_ts = quic_now(c->quic);
	s->max_tx_udp_payload_size = c->quic->wide ? QUIC_PACKET_MAX : QUIC_PACKET;
	s->pmtud_probes = probes;
	s->pmtud_probeslen = sizeof probes / sizeof *probes;
	s->handshake_timeout = c->owner.env->config->handshake_timeout * NGTCP2_MILLISECONDS;
	if (token != QUIC_TOKEN_RETRY && token != QUIC_TOKEN_NEW)
		return;
	s->token = hd->token;
	s->tokenlen = hd->tokenlen;
	s->token_type = token == QUIC_TOKEN_RETRY ? NGTCP2_TOKEN_TYPE_RETRY : NGTCP2_TOKEN_TYPE_NEW_TOKEN;
}

/* False: out of memory. */
static bool make_transport(struct quic_conn *c, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, enum quic_token token,
			   const ngtcp2_cid *original)
{
	ngtcp2_path path = quic_path_of(d);
	ngtcp2_transport_params params;
	ngtcp2_settings settings;
	ngtcp2_cid id;

	if (!quic_cid_make(c->quic, &id))
		return false;
	fill_params(c, hd, &id, original, &params);
	fill_settings(c, hd, token, &settings);
	if (ngtcp2_conn_server_new(&c->ng, &hd->scid, &id, &path, hd->version, &quic_callbacks, &settings, &params, &c->mem, c) !=
	    0)
		return false;
	c->initial_key = quic_route_add_initial(c->quic, &hd->dcid, &c->end);
	if (c->initial_key && quic_route_add(c->quic, &id, &c->end))
		return true;
	quic_route_remove_initial(c->quic, c->initial_key);
	ngtcp2_conn_del(c->ng);
	return false;
}

void quic_conn_open(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, enum quic_token token,
		    const ngtcp2_cid *original)
{
	struct conn_pool *pool = q->pool;
	struct quic_conn *c = calloc(1, sizeof *c);
	bool admitted;

	if (!c)
		return;
	c->end.receive = conn_receive;
	c->owner = (struct session_owner){.env = &pool->env, .wake = on_wake, .covers = on_covers};
	c->quic = q;
	c->ref = (ngtcp2_crypto_conn_ref){get_conn, c};
	c->mem = (ngtcp2_mem){c, mem_malloc, mem_free, mem_calloc, mem_realloc};
	c->validated = token == QUIC_TOKEN_RETRY || token == QUIC_TOKEN_NEW;
	ngtcp2_ccerr_default(&c->error);
	fill_peer(&c->owner.peer, q, d);
	wheel_node_init(&c->expiry, on_expiry);
	wheel_node_init(&c->deadline, on_deadline);
	list_init(&c->blocked);
	admitted = conn_pool_share(pool, &c->owner.peer);
	if (!admitted)
		quic_say_close(q, hd, d, NGTCP2_CONNECTION_REFUSED);
	if (!admitted || !make_transport(c, hd, d, token, original)) {
		conn_pool_unshare(pool, &c->owner.peer);
		free(c);
		return;
	}
	q->figures.accepted++;
	q->connections++;
	q->half_open += !c->validated;
	member_join(&c->member, pool, &quic_member);
	c->record = conn_record_begin(pool, &c->owner.peer);
	member_shakes(&c->member);
	conn_receive(&c->end, d);
	if (c->unordered) { /* only connections of validated addresses may store bytes */
		quic_say_retry(q, hd, d, quic_now(q));
		conn_end(c, END_CLOSED);
	}
}
