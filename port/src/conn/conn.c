/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sm.h"
#include "conn/greeting.h"
#include "proto/detect.h"

enum { LOOK_MS = 1000, IOV_MAX_COUNT = 64 };
/* The least that a read is charged: reads that yield few bytes (TLS in records of one byte) cost time too. */
enum { READ_LEAST = 16384 };

static const char *const state_names[] = {"greets", "handshake", "open", "linger", "closed"};
static const uint32_t state_next[] = {
	[CONN_GREETS] = SM_BIT(CONN_HANDSHAKE) | SM_BIT(CONN_OPEN) | SM_BIT(CONN_CLOSED),
	[CONN_HANDSHAKE] = SM_BIT(CONN_OPEN) | SM_BIT(CONN_LINGER) | SM_BIT(CONN_CLOSED),
	[CONN_OPEN] = SM_BIT(CONN_LINGER) | SM_BIT(CONN_CLOSED),
	[CONN_LINGER] = SM_BIT(CONN_CLOSED),
	[CONN_CLOSED] = 0,
};
static const struct sm machine = {"conn", state_names, state_next};

_Static_assert((int)IO_READ == (int)LOOP_READ && (int)IO_WRITE == (int)LOOP_WRITE, "a direction is what the loop watches for");

static void on_ready(struct loop_io *io, int ready)
{
	struct conn *c = container_of(io, struct conn, io);

	c->readable = c->readable || (ready & c->read_on);
	c->writable = c->writable || (ready & c->write_on);
	if (c->member.wait == CONN_IDLE && (ready & LOOP_READ))
		member_waits(&c->member,
			     CONN_WORKS); /* it has sent its request, so it must not be closed to make room in this turn */
	member_is_dirty(&c->member);
}

/* The peer hung up while we were not reading: notify the session, or close on a reset. */
static void on_hup(struct loop_io *io, bool gone)
{
	struct conn *c = container_of(io, struct conn, io);

	if (c->state != CONN_OPEN)
		return;
	if (gone)
		conn_close(c, true, END_RESET);
	else
		c->session->ops->hangup(c->session);
	member_is_dirty(&c->member);
}

static void on_wake(struct session_owner *owner)
{
	member_is_dirty(&container_of(owner, struct conn, owner)->member);
}

static bool on_covers(struct session_owner *owner, struct slice host)
{
	struct conn *c = container_of(owner, struct conn, owner);

	return c->transport->covers(c->transport_state, host);
}

/* The kernel reports room rarely, and then for many bytes: how fast a slow peer takes them must be asked for. */
static uint64_t look_at_taken(struct conn *c)
{
	size_t unsent = c->transport->unsent ? c->transport->unsent(loop_io_fd(&c->io), c->transport_state) : SIZE_MAX;
	uint64_t before = c->taken;

	c->looked = c->member.pool->loop->now;
	if (unsent > c->written)
		return 0;
	c->taken = c->written - unsent;
	return c->taken > before ? c->taken - before : 0;
}

/* Bytes that are in the socket came in time, even if this process was not running then: conn_run reads them first. */
static void on_timer(struct wheel_node *node)
{
	struct conn *c = container_of(node, struct conn, timer);

	c->due = c->readable = true;
	member_is_dirty(&c->member);
}

/* Its time has passed, and what had arrived by then was read. */
static void run_out_of_time(struct conn *c)
{
	if (!c->due || c->state == CONN_CLOSED)
		return;
	c->due = false;
	if (c->state != CONN_OPEN) {
		conn_close(c, c->state < CONN_OPEN, c->state < CONN_OPEN ? END_TIMEOUT : END_CLOSED);
		return;
	}
	if (!c->writable)
		c->session->ops->taken(c->session, look_at_taken(c));
	c->session->ops->tick(c->session);
}

/* The TLS handshake is complete, or TLS has failed. */
static void tell_secured(struct conn *c, const struct secure *s, const char *fault)
{
	conn_record_secured(c->member.pool, c->record, s, fault);
}

/* ---- beginning and end ---- */

static const struct member_ops conn_member;

static void start_timer(struct conn *c, uint64_t ms)
{
	struct loop *loop = c->member.pool->loop;

	c->due = false;
	wheel_set(&loop->wheel, &c->timer, loop->now + ms);
}

/* The connection is ready for its protocol. False: it is closed. */
static bool begin_session(struct conn *c)
{
	if (c->transport->secure)
		c->owner.secure = c->transport->secure(c->transport_state);
	if (c->owner.secure)
		tell_secured(c, c->owner.secure, "");
	c->session = detect_start(&c->owner);
	if (!c->session) {
		conn_close(c, true, END_RESET);
		return false;
	}
	if (c->state != CONN_OPEN)
		sm_move(&machine, &c->state, CONN_OPEN);
	c->readable = true; /* most clients have sent their request already */
	c->due = false;
	return true;
}

static void begin_handshake(struct conn *c)
{
	sm_move(&machine, &c->state, CONN_HANDSHAKE);
	member_shakes(&c->member);
	start_timer(c, c->owner.env->config->handshake_timeout);
}

/* The peer is known now. False: the connection is closed. */
static bool begin_transport(struct conn *c)
{
	c->record = conn_record_begin(c->member.pool, &c->owner.peer);
	if (!c->transport->handshake)
		return begin_session(c);
	begin_handshake(c);
	return true;
}

/* ---- the PROXY header ---- */

static const struct listener_config *listener_of(const struct conn_pool *pool, const struct peer *peer)
{
	return &pool->env.config->listeners[peer->listener];
}

/* Whether to look for a header: it may or must be there, and the peer is a trusted proxy. */
static bool is_greeted(const struct conn_pool *pool, const struct peer *peer)
{
	enum proxy_mode mode = (enum proxy_mode)listener_of(pool, peer)->proxy_protocol;
	struct ip ip = ip_of(peer->address, peer->address_len);

	return mode == PROXY_REQUIRED || (mode == PROXY_OPTIONAL && conn_pool_trusts(pool, &ip));
}

/* At most one log line per second. */
static void refuse_greeting(struct conn *c, const char *why)
{
	struct conn_pool *pool = c->member.pool;

	pool->misproxied++;
	if (pool->misproxied_second != pool->loop->now / 1000) {
		pool->misproxied_second = pool->loop->now / 1000;
		log_line(LOG_WARNING, "listener %u: a connection was closed for its PROXY header: %s", c->owner.peer.listener, why);
	}
	conn_close(c, true, END_ERROR);
}

static bool begin_greeting(struct conn *c)
{
	struct ip ip = ip_of(c->owner.peer.address, c->owner.peer.address_len);

	if (!conn_pool_trusts(c->member.pool, &ip)) {
		refuse_greeting(c, "it comes from none of trusted_proxies");
		return false;
	}
	c->greeting = greeting_new();
	if (!c->greeting) {
		conn_close(c, true, END_RESET);
		return false;
	}
	c->readable = true;
	member_shakes(&c->member);
	start_timer(c, c->owner.env->config->header_timeout);
	return true;
}

/* There is no header, which is allowed. Bytes that looked like its beginning belong to HTTP; TLS does not begin like one. */
static bool goes_without(struct conn *c)
{
	struct slice taken = slice_of(buf_at(&c->greeting->bytes), buf_len(&c->greeting->bytes));
	bool kept = taken.len == 0 || (!c->transport->handshake && buf_append(&c->tail, taken.at, taken.len));

	if (listener_of(c->member.pool, &c->owner.peer)->proxy_protocol == PROXY_REQUIRED || !kept) {
		refuse_greeting(c, "there is none");
		return false;
	}
	greeting_free(c->greeting);
	c->greeting = NULL;
	return true;
}

/* False: it is incomplete, or the connection is closed. */
static bool run_greeting(struct conn *c)
{
	struct conn_pool *pool = c->member.pool;
	enum proxied_step step;
	struct io_result r = greeting_read(c->greeting, loop_io_fd(&c->io), pool->scratch,
					   (size_t)c->owner.env->config->max_proxy_header, &step);

	if (r.status == IO_AGAIN) {
		loop_io_watch(pool->loop, &c->io, LOOP_READ);
		return false;
	}
	if (r.status != IO_OK) {
		conn_close(c, r.status == IO_ERROR, r.status == IO_ERROR ? END_RESET : END_CLOSED);
		return false;
	}
	if (step == PROXIED_BAD) {
		refuse_greeting(c, c->greeting->why);
		return false;
	}
	if (step == PROXIED_NOT && !goes_without(c))
		return false;
	if (c->greeting)
		greeting_apply(c->greeting, &c->owner.peer);
	member_waits(&c->member, CONN_WORKS);
	wheel_cancel(&pool->loop->wheel, &c->timer);
	if (conn_pool_share(pool, &c->owner.peer))
		return begin_transport(c);
	conn_close(c, true, END_RESET);
	return false;
}

/* ---- the beginning ---- */

struct conn *conn_open(struct conn_pool *pool, int fd, const struct transport_ops *transport, void *state, const struct peer *peer)
{
	struct peer known = *peer;
	bool greeted = is_greeted(pool, &known);
	struct conn *c = NULL;

	if (greeted || conn_pool_share(pool, &known))
		c = calloc(1, sizeof *c);
	if (!c) {
		conn_pool_unshare(pool, &known);
		transport->close(fd, state, true);
		return NULL;
	}
	c->owner = (struct session_owner){
		.env = &pool->env, .wake = on_wake, .covers = on_covers, .peer = known, .max_steps = CONN_TURN_STEPS};
	c->owner.sends_files = transport->send_file != NULL;
	c->transport = transport;
	c->transport_state = state;
	c->state = CONN_GREETS;
	c->writable = true;
	c->read_on = IO_READ;
	c->write_on = IO_WRITE;
	loop_io_init(&c->io, on_ready, on_hup, fd);
	wheel_node_init(&c->timer, on_timer);
	member_join(&c->member, pool, &conn_member);
	if (!(greeted ? begin_greeting(c) : begin_transport(c)))
		return NULL;
	member_is_dirty(&c->member);
	return c;
}

static void watch_hup(struct conn *c, bool on)
{
	if (c->hup_watched == on)
		return;
	c->hup_watched = on;
	loop_io_watch_hup(c->member.pool->loop, &c->io, on);
}

static void end_session(struct conn *c, enum stream_end why)
{
	struct session *s = c->session;

	c->session = NULL;
	if (s)
		s->ops->close(s, why);
	buf_free(&c->tail);
}

void conn_close(struct conn *c, bool abort, enum stream_end why)
{
	struct loop *loop = c->member.pool->loop;

	if (c->state == CONN_CLOSED)
		return;
	sm_move(&machine, &c->state, CONN_CLOSED);
	end_session(c, why);
	conn_record_end(c->member.pool, c->record, why);
	c->record = NULL;
	greeting_free(c->greeting);
	c->owner.peer.proxied = NULL;
	conn_pool_unshare(c->member.pool, &c->owner.peer);
	wheel_cancel(&loop->wheel, &c->timer);
	loop_io_watch(loop, &c->io, 0);
	watch_hup(c, false);
	c->transport->close(loop_io_fd(&c->io), c->transport_state, abort);
	member_leave(&c->member);
}

/* Everything was written, but the peer may still be sending: closing now would make the kernel send a reset, which may destroy
 * what the peer has not read yet. */
static void linger(struct conn *c, enum stream_end why)
{
	sm_move(&machine, &c->state, CONN_LINGER);
	watch_hup(c, false);
	end_session(c, why);
	member_waits(&c->member, CONN_LINGERS);
	start_timer(c, c->owner.env->config->linger_timeout);
	member_is_dirty(&c->member);
}

/* Closes our side as soon as the socket takes it. Reads at most once per turn: a lingering connection must not starve the
 * others. */
static void run_linger(struct conn *c)
{
	int fd = loop_io_fd(&c->io), events = LOOP_READ;
	struct io_result r;

	if (!c->shut) {
		r = c->transport->shutdown(fd, c->transport_state);
		c->shut = r.status != IO_AGAIN;
		if (!c->shut)
			events |= r.until;
	}
	r = c->transport->read(fd, c->transport_state, c->member.pool->scratch, CONN_READ_SIZE);
	if (r.status == IO_EOF || r.status == IO_ERROR)
		conn_close(c, false, END_CLOSED);
	else
		loop_io_watch(c->member.pool->loop, &c->io, events);
}

/* A peer that broke the transport's rules should receive the alert; after other errors there is no peer left to read. */
static void transport_failed(struct conn *c, int error)
{
	if (error == EPROTO && c->transport->why)
		tell_secured(c, NULL, c->transport->why(c->transport_state));
	if (error == EPROTO)
		linger(c, END_ERROR);
	else
		conn_close(c, true, END_RESET);
}

/* ---- before the first byte ---- */

/* False: the connection is closed, or not open yet. */
static bool run_handshake(struct conn *c, bool *more)
{
	struct io_result r;

	*more = !conn_pool_may_shake(c->member.pool);
	if (*more) {
		member_is_dirty(&c->member);
		return false;
	}
	r = c->transport->handshake(loop_io_fd(&c->io), c->transport_state);
	switch (r.status) {
	case IO_OK:
		member_waits(&c->member, CONN_WORKS);
		return begin_session(c);
	case IO_AGAIN:
		loop_io_watch(c->member.pool->loop, &c->io, r.until);
		return false;
	case IO_EOF:
		conn_close(c, false, END_CLOSED);
		return false;
	case IO_ERROR:
		transport_failed(c, r.error);
		return false;
	}
	return false;
}

/* ---- reading ---- */

/* Detects the protocol from the first bytes. False: there are not enough, or the connection is closed. */
static bool settle_protocol(struct conn *c, const uint8_t *bytes, size_t n)
{
	enum detected what = detect_protocol(bytes, n, detect_agreed(c->owner.secure));

	if (what == DETECT_MORE && !c->eof)
		return false;
	c->settled = true;
	if (what == DETECT_H2)
		c->session = detect_switch_to_h2(c->session);
	if (what == DETECT_WRONG || !c->session)
		conn_close(c, what != DETECT_WRONG, END_RESET);
	return c->state == CONN_OPEN;
}

/* Offers the bytes that were read; those that the session does not use are kept in tail. */
static void offer(struct conn *c, uint8_t *bytes, size_t n)
{
	size_t used = 0;

	if (c->settled || settle_protocol(c, bytes, n))
		used = c->session->ops->input(c->session, bytes, n, c->eof);
	if (c->state != CONN_OPEN)
		return;

	if (bytes != buf_at(&c->tail)) {
		if (used < n && !buf_append(&c->tail, bytes + used, n - used))
			conn_close(c, true, END_RESET);
		return;
	}
	buf_consume(&c->tail, used);
	if (buf_len(&c->tail) == 0)
		buf_free(&c->tail);
}

/* Reads into tail if bytes are kept there, so that they stay contiguous; else into scratch. */
static struct io_result read_some(struct conn *c, uint8_t **bytes, size_t *room)
{
	*bytes = c->member.pool->scratch;
	*room = CONN_READ_SIZE;
	if (buf_len(&c->tail)) {
		*room = CONN_PEEK_SIZE;
		if (!buf_reserve(&c->tail, *room))
			return io_failed(ENOMEM);
		*bytes = c->tail.data + c->tail.tail;
	}
	return c->transport->read(loop_io_fd(&c->io), c->transport_state, *bytes, *room);
}

static void took(struct conn *c, uint8_t *bytes, size_t n)
{
	c->member.pool->bytes_in += n;
	c->moved += n;
	if (c->record)
		c->record->bytes_in += n;
	if (bytes == c->member.pool->scratch) {
		offer(c, bytes, n);
		return;
	}
	buf_filled(&c->tail, n);
	offer(c, buf_at(&c->tail), buf_len(&c->tail));
}

/* One read. True if there may be more. */
static bool read_once(struct conn *c)
{
	uint8_t *bytes;
	size_t room;
	struct io_result r = read_some(c, &bytes, &room);

	switch (r.status) {
	case IO_OK:
		c->readable = r.more;
		c->read_on = IO_READ;
		took(c, bytes, r.n);
		return c->readable;
	case IO_AGAIN:
		c->read_on = r.until;
		break;
	case IO_EOF:
		c->eof = true;
		offer(c, buf_len(&c->tail) ? buf_at(&c->tail) : c->member.pool->scratch, buf_len(&c->tail));
		break;
	case IO_ERROR:
		transport_failed(c, r.error);
		break;
	}
	c->readable = false;
	return false;
}

static bool may_read(const struct conn *c, const struct session_wants *w)
{
	if (c->eof || c->owner.env->read_paused)
		return false;
	return w->read || (w->peek && buf_len(&c->tail) < CONN_PEEK_SIZE);
}

static bool may_read_now(const struct conn *c)
{
	struct session_wants w = {.read = c->session->ops->reads(c->session)};

	if (!w.read)
		w = c->session->ops->wants(c->session);
	return may_read(c, &w);
}

/* Offers the kept bytes again: the session may use them by now. */
static void offer_tail(struct conn *c)
{
	if (buf_len(&c->tail) && c->session->ops->reads(c->session))
		offer(c, buf_at(&c->tail), buf_len(&c->tail));
}

static void run_input(struct conn *c, size_t *budget)
{
	if (c->session->ops->deliver)
		c->session->ops->deliver(c->session);
	offer_tail(c);
	while (c->state == CONN_OPEN && c->readable && *budget > 0 && !session_is_tired(&c->owner)) {
		uint64_t before = c->member.pool->bytes_in, took;
		if (!may_read_now(c) || !read_once(c))
			return;
		took = c->member.pool->bytes_in - before;
		took = took < READ_LEAST ? READ_LEAST : took;
		*budget -= took < *budget ? (size_t)took : *budget;
	}
}

/* ---- writing ---- */

/* A file that cannot be sent with sendfile is read, as with transports that never can. */
static bool is_for_the_file(int error)
{
	return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

static void widen(struct conn *c, bool on)
{
	if (c->wide == on || !c->transport->widen)
		return;
	c->wide = on;
	c->transport->widen(loop_io_fd(&c->io), on);
}

/* Gets the next bytes to write. AGAIN with no direction: there are none. */
static struct io_result write_next(struct conn *c)
{
	struct iovec iov[IOV_MAX_COUNT];
	int count = c->session->ops->output(c->session, iov, IOV_MAX_COUNT);
	struct bufq_file f;
	struct io_result r;

	if (count > 0) {
		widen(c, false);
		return c->transport->writev(loop_io_fd(&c->io), c->transport_state, iov, count);
	}
	if (!c->owner.sends_files || !c->session->ops->file || !c->session->ops->file(c->session, &f))
		return (struct io_result){.status = IO_AGAIN};
	widen(c, true);
	r = c->transport->send_file(loop_io_fd(&c->io), c->transport_state, f.file->fd, f.offset, f.len);
	if (r.status != IO_ERROR || !is_for_the_file(r.error))
		return r;
	f.file->unsendable = true;
	return write_next(c);
}

static bool write_once(struct conn *c, size_t *budget)
{
	struct io_result r = write_next(c);

	if (r.status == IO_AGAIN && r.until == 0)
		return false;
	if (r.status == IO_OK) {
		*budget -= r.n < *budget ? r.n : *budget;
		c->member.pool->bytes_out += r.n;
		c->moved += r.n;
		c->written += r.n;
		if (c->record)
			c->record->bytes_out += r.n;
		c->writable = r.more;
		c->write_on = IO_WRITE;
		return c->session->ops->sent(c->session, r.n);
	}
	c->writable = false;
	if (r.status == IO_AGAIN)
		c->write_on = r.until;
	else
		transport_failed(c, r.error);
	return false;
}

static void run_output(struct conn *c, size_t *budget)
{
	while (c->state == CONN_OPEN && c->writable && *budget > 0 && write_once(c, budget))
		;
	if (!c->writable && c->looked + LOOK_MS <= c->member.pool->loop->now)
		look_at_taken(c); /* bytes that the peer takes from now on count */
}

/* ---- readiness that it waits for: set only here ---- */

static void set_timer(struct conn *c, uint64_t deadline)
{
	struct wheel *wheel = &c->member.pool->loop->wheel;

	if (deadline == 0)
		wheel_cancel(wheel, &c->timer);
	else if (!wheel_pending(&c->timer) || c->timer.deadline != deadline)
		wheel_set(wheel, &c->timer, deadline);
}

/* When crowded: records whether the connection only waits for its client. Moving bytes restarts its time. */
static enum conn_wait wait_of(struct conn *c, const struct session_wants *w)
{
	if (w->idle)
		return CONN_IDLE;
	if (w->begun)
		return CONN_BEGUN;
	if (!c->owner.env->crowded || c->owner.env->read_paused) /* what the client has sent may wait in the socket */
		return CONN_WORKS;
	if (!c->session->ops->stalled || !c->session->ops->stalled(c->session))
		return CONN_WORKS;
	if (c->member.wait != CONN_STALLED || c->moved >= CONN_MOVES) {
		member_waits(&c->member, CONN_WORKS);
		c->moved = 0;
	}
	return CONN_STALLED;
}

static void set_interest(struct conn *c, const struct session_wants *w)
{
	int events = 0;

	if (may_read(c, w))
		events |= c->read_on;
	if (w->write && !c->writable)
		events |= c->write_on;
	if (!may_read(c, w) && !w->later && (c->owner.env->read_paused || c->owner.env->paused) && !list_linked(&c->member.link))
		list_append(&c->member.pool->paused, &c->member.link);
	if (events != loop_io_events(&c->io))
		loop_io_watch(c->member.pool->loop, &c->io, events);
	watch_hup(c, w->alert && !(events & LOOP_READ));
	set_timer(c, w->deadline);
	member_waits(&c->member, wait_of(c, w));
}

static void finish(struct conn *c, enum session_close how)
{
	if (how == CLOSE_LINGER)
		linger(c, END_CLOSED);
	else
		conn_close(c, how == CLOSE_CUT, END_CLOSED);
}

/* True if it has more to do in the next turn. */
static bool conn_run(struct member *m)
{
	struct conn *c = container_of(m, struct conn, member);
	size_t budget = CONN_TURN_BUDGET, out_budget = CONN_TURN_OUTPUT;
	struct session_wants w;
	bool took_all, more;

	c->owner.steps = 0;
	if (c->state == CONN_GREETS && !run_greeting(c)) {
		run_out_of_time(c);
		return false;
	}
	if (c->state == CONN_HANDSHAKE && !run_handshake(c, &more)) {
		if (!more)
			run_out_of_time(c);
		return more;
	}
	if (c->state == CONN_LINGER)
		run_linger(c);
	else
		run_input(c, &budget);
	run_out_of_time(c);
	if (c->state != CONN_OPEN)
		return false;
	if (c->drains)
		c->session->ops->drain(c->session);
	c->drains = false;
	took_all = buf_len(&c->tail) == 0 || c->session->ops->reads(c->session);
	run_output(c, &out_budget);
	if (c->state != CONN_OPEN)
		return false;
	if (c->session->ops->own)
		c->session->ops->own(c->session);
	w = c->session->ops->wants(c->session);
	if (w.close != CLOSE_NOT) {
		finish(c, w.close);
		return false;
	}
	if (w.read && !took_all && buf_len(&c->tail)) {
		member_is_dirty(&c->member); /* after output the session may be able to use the kept bytes */
		return true;
	}
	set_interest(c, &w);
	if (w.later)
		conn_pool_later(c->member.pool, &c->member);
	if ((budget == 0 && may_read(c, &w)) || (session_is_tired(&c->owner) && w.read) ||
	    (out_budget == 0 && w.write && c->writable)) {
		member_is_dirty(&c->member);
		return true;
	}
	return false;
}

static void member_close(struct member *m, bool abort, enum stream_end why)
{
	conn_close(container_of(m, struct conn, member), abort, why);
}

/* A handshake goes on; the request that follows it is answered, and then the connection is closed. So is a request that is in the
 * socket already: conn_run reads it first. */
static void member_drain(struct member *m)
{
	struct conn *c = container_of(m, struct conn, member);

	if (c->state != CONN_OPEN)
		return;
	c->drains = c->readable = true;
	member_is_dirty(m);
}

static void member_release(struct member *m)
{
	free(container_of(m, struct conn, member));
}

static const struct member_ops conn_member = {
	.run = conn_run,
	.close = member_close,
	.drain = member_drain,
	.release = member_release,
};
