#include "conn/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sm.h"
#include "proto/detect.h"

enum { IOV_MAX_COUNT = 64 };

static const char *const state_names[] = {"open", "linger", "closed"};
static const uint32_t state_next[] = {
	[CONN_OPEN] = SM_BIT(CONN_LINGER) | SM_BIT(CONN_CLOSED),
	[CONN_LINGER] = SM_BIT(CONN_CLOSED),
	[CONN_CLOSED] = 0,
};
static const struct sm machine = {"conn", state_names, state_next};

static void mark_dirty(struct conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	list_remove(&c->link);
	list_append(&c->pool->dirty, &c->link);
}

static void set_wait(struct conn *c, enum conn_wait wait)
{
	struct conn_waiting *waiting = c->pool->waiting;

	if (c->wait == wait)
		return;
	if (c->wait != CONN_WORKS) {
		list_remove(&c->waits);
		waiting[c->wait].count--;
	}
	c->wait = (uint8_t)wait;
	if (wait == CONN_WORKS)
		return;
	c->waits_since = c->pool->loop->now;
	list_append(&waiting[wait].list, &c->waits);
	waiting[wait].count++;
}

static void on_ready(struct loop_io *io, int ready)
{
	struct conn *c = container_of(io, struct conn, io);

	c->readable = c->readable || (ready & LOOP_READ);
	c->writable = c->writable || (ready & LOOP_WRITE);
	if (c->wait == CONN_IDLE && (ready & LOOP_READ))
		set_wait(c, CONN_WORKS); /* whoever needs room in this turn, its request has come */
	mark_dirty(c);
}

/* A peer that is not read from has left: the session's users are told, or it is all over. */
static void on_hup(struct loop_io *io, bool gone)
{
	struct conn *c = container_of(io, struct conn, io);

	if (c->state != CONN_OPEN)
		return;
	if (gone)
		conn_close(c, true, END_RESET);
	else
		c->session->ops->hangup(c->session);
	mark_dirty(c);
}

static void on_wake(struct session_owner *owner)
{
	mark_dirty(container_of(owner, struct conn, owner));
}

static void on_timer(struct wheel_node *node)
{
	struct conn *c = container_of(node, struct conn, timer);

	if (c->state == CONN_LINGER)
		conn_close(c, false, END_CLOSED);
	else
		c->session->ops->tick(c->session);
	mark_dirty(c);
}

/* ---- the pool ---- */

bool conn_pool_init(struct conn_pool *pool, struct loop *loop, const struct config *config, const struct stream_sink *sink)
{
	memset(pool, 0, sizeof *pool);
	pool->loop = loop;
	pool->env.config = config;
	pool->env.sink = sink;
	pool->env.now = &loop->now;
	pool->env.now_us = &loop->now_us;
	loop->on_hup = on_hup;
	list_init(&pool->all);
	list_init(&pool->dirty);
	list_init(&pool->paused);
	list_init(&pool->closed);
	for (unsigned i = 0; i < CONN_WAITS; i++)
		list_init(&pool->waiting[i].list);
	pool->scratch = malloc(CONN_READ_SIZE);
	return pool->scratch != NULL;
}

void conn_pool_free(struct conn_pool *pool)
{
	conn_pool_reap(pool);
	detect_env_free(&pool->env);
	free(pool->scratch);
	pool->scratch = NULL;
}

static void wake_paused(struct conn_pool *pool)
{
	list_splice(&pool->dirty, &pool->paused);
}

void conn_pool_pause(struct conn_pool *pool, bool pause)
{
	if (pool->read_paused && !pause)
		wake_paused(pool);
	pool->read_paused = pause;
}

void conn_pool_hold(struct conn_pool *pool, bool hold)
{
	if (pool->env.paused && !hold)
		wake_paused(pool);
	pool->env.paused = hold;
}

void conn_pool_reap(struct conn_pool *pool)
{
	struct list *l;

	while ((l = list_pop(&pool->closed)))
		free(container_of(l, struct conn, link));
}

/* ---- who watches ---- */

static void begin_record(struct conn *c)
{
	struct conn_pool *pool = c->pool;

	if (!pool->watch.wanted || !pool->watch.wanted(pool->watch.ctx))
		return;
	c->record = calloc(1, sizeof *c->record);
	if (!c->record)
		return;
	c->record->id = ++pool->last_id;
	c->record->opened_us = pool->loop->now_us;
	pool->watch.opened(pool->watch.ctx, c->record->id, &c->owner.peer);
}

static void end_record(struct conn *c, enum stream_end why)
{
	const struct connection_watch *w = &c->pool->watch;
	struct conn_record *r = c->record;

	if (!r)
		return;
	w->ended(w->ctx, r->id, why, r->bytes_in, r->bytes_out, c->pool->loop->now_us - r->opened_us);
	free(r);
	c->record = NULL;
}

/* ---- beginning and end ---- */

struct conn *conn_open(struct conn_pool *pool, int fd, const struct transport_ops *transport, const struct peer *peer)
{
	struct conn *c = calloc(1, sizeof *c);

	if (!c) {
		close(fd);
		return NULL;
	}
	c->owner = (struct session_owner){&pool->env, on_wake, *peer};
	c->pool = pool;
	c->transport = transport;
	c->writable = true;
	loop_io_init(&c->io, on_ready, fd);
	list_init(&c->link);
	list_init(&c->waits);
	c->wait = CONN_WORKS;
	list_append(&pool->all, &c->all);
	wheel_node_init(&c->timer, on_timer);
	c->session = detect_start(&c->owner);
	pool->open++;
	begin_record(c);
	if (!c->session) {
		conn_close(c, true, END_RESET);
		return NULL;
	}
	c->readable = true; /* the request is mostly there already */
	mark_dirty(c);
	return c;
}

static void watch_hup(struct conn *c, bool on)
{
	if (c->hup_watched == on)
		return;
	c->hup_watched = on;
	loop_io_watch_hup(c->pool->loop, &c->io, on);
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
	if (c->state == CONN_CLOSED)
		return;
	sm_move(&machine, &c->state, CONN_CLOSED);
	set_wait(c, CONN_WORKS);
	end_session(c, why);
	end_record(c, why);
	wheel_cancel(&c->pool->loop->wheel, &c->timer);
	loop_io_watch(c->pool->loop, &c->io, 0);
	watch_hup(c, false);
	c->transport->close(loop_io_fd(&c->io), c->transport_state, abort);
	list_remove(&c->all);
	list_remove(&c->link);
	list_append(&c->pool->closed, &c->link);
	c->pool->open--;
}

bool conn_pool_spare(struct conn_pool *pool)
{
	struct conn *longest = NULL;

	for (unsigned i = 0; i < CONN_WAITS; i++) {
		struct list *first = pool->waiting[i].list.next;
		struct conn *c = container_of(first, struct conn, waits);
		if (first != &pool->waiting[i].list && (!longest || c->waits_since <= longest->waits_since))
			longest = c;
	}
	if (longest)
		conn_close(longest, false, END_CLOSED);
	return longest;
}

void conn_drain(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->session->ops->drain(c->session);
	mark_dirty(c);
}

/* All was written; the peer may still be sending, and closing now would make the kernel reset what it has not yet read. */
static void linger(struct conn *c)
{
	sm_move(&machine, &c->state, CONN_LINGER);
	c->transport->shutdown(loop_io_fd(&c->io), c->transport_state);
	watch_hup(c, false);
	end_session(c, END_CLOSED);
	set_wait(c, CONN_LINGERS);
	wheel_set(&c->pool->loop->wheel, &c->timer, c->pool->loop->now + c->owner.env->config->linger_timeout);
	loop_io_watch(c->pool->loop, &c->io, LOOP_READ);
	c->readable = true;
	mark_dirty(c);
}

/* One read a turn: who is to be rid of must not take the time of the others. */
static void run_linger(struct conn *c)
{
	struct io_result r = c->transport->read(loop_io_fd(&c->io), c->transport_state, c->pool->scratch, CONN_READ_SIZE);

	if (r.status == IO_EOF || r.status == IO_ERROR)
		conn_close(c, false, END_CLOSED);
}

/* ---- reading ---- */

/* The first bytes say which protocol is spoken. False: they do not say it yet, or the connection is closed. */
static bool settle_protocol(struct conn *c, const uint8_t *bytes, size_t n)
{
	enum detected what = detect_protocol(bytes, n);

	if (what == DETECT_MORE && !c->eof)
		return false;
	c->settled = true;
	if (what == DETECT_H2)
		c->session = detect_switch_to_h2(c->session);
	if (!c->session)
		conn_close(c, true, END_RESET);
	return c->session;
}

/* Offers what was read; what the session does not use is kept in tail. */
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

/* Reads into tail if something is kept there, so that what belongs together lies together; else into scratch. */
static struct io_result read_some(struct conn *c, uint8_t **bytes, size_t *room)
{
	*bytes = c->pool->scratch;
	*room = CONN_READ_SIZE;
	if (buf_len(&c->tail)) {
		*room = CONN_PEEK_SIZE;
		if (!buf_reserve(&c->tail, *room))
			return (struct io_result){.status = IO_ERROR, .error = ENOMEM};
		*bytes = c->tail.data + c->tail.tail;
	}
	return c->transport->read(loop_io_fd(&c->io), c->transport_state, *bytes, *room);
}

static void took(struct conn *c, uint8_t *bytes, size_t n)
{
	c->pool->bytes_in += n;
	if (c->record)
		c->record->bytes_in += n;
	if (bytes == c->pool->scratch) {
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
		c->readable = r.n == room || c->transport->pending(c->transport_state);
		took(c, bytes, r.n);
		return c->readable;
	case IO_AGAIN:
		break;
	case IO_EOF:
		c->eof = true;
		offer(c, buf_len(&c->tail) ? buf_at(&c->tail) : c->pool->scratch, buf_len(&c->tail));
		break;
	case IO_ERROR:
		conn_close(c, true, END_RESET);
		break;
	}
	c->readable = false;
	return false;
}

static bool may_read(const struct conn *c, const struct session_wants *w)
{
	if (c->eof || c->pool->read_paused)
		return false;
	return w->read || (w->peek && buf_len(&c->tail) < CONN_PEEK_SIZE);
}

/* What is kept may be of use by now. */
static void offer_tail(struct conn *c)
{
	if (buf_len(&c->tail) && c->session->ops->wants(c->session).read)
		offer(c, buf_at(&c->tail), buf_len(&c->tail));
}

static void run_input(struct conn *c, size_t *budget)
{
	uint64_t before = c->pool->bytes_in;

	if (c->session->ops->deliver)
		c->session->ops->deliver(c->session);
	offer_tail(c);
	while (c->state == CONN_OPEN && c->readable && *budget > 0) {
		struct session_wants w = c->session->ops->wants(c->session);
		uint64_t took_bytes;
		if (!may_read(c, &w) || !read_once(c))
			return;
		took_bytes = c->pool->bytes_in - before;
		if (took_bytes >= *budget)
			*budget = 0;
	}
}

/* ---- writing ---- */

static bool write_once(struct conn *c)
{
	struct iovec iov[IOV_MAX_COUNT];
	int count = c->session->ops->output(c->session, iov, IOV_MAX_COUNT);
	struct io_result r;
	size_t offered = 0;

	if (count == 0)
		return false;
	for (int i = 0; i < count; i++)
		offered += iov[i].iov_len;
	r = c->transport->writev(loop_io_fd(&c->io), c->transport_state, iov, count);
	if (r.status == IO_OK) {
		c->pool->bytes_out += r.n;
		if (c->record)
			c->record->bytes_out += r.n;
		c->session->ops->sent(c->session, r.n);
		c->writable = r.n == offered;
		return true;
	}
	if (r.status == IO_AGAIN)
		c->writable = false;
	else
		conn_close(c, true, END_RESET);
	return false;
}

static void run_output(struct conn *c)
{
	while (c->state == CONN_OPEN && c->writable && write_once(c))
		;
}

/* ---- what it waits for: the one place ---- */

static void set_timer(struct conn *c, uint64_t deadline)
{
	struct wheel *wheel = &c->pool->loop->wheel;

	if (deadline == 0)
		wheel_cancel(wheel, &c->timer);
	else if (!wheel_pending(&c->timer) || c->timer.deadline != deadline)
		wheel_set(wheel, &c->timer, deadline);
}

static void set_interest(struct conn *c, const struct session_wants *w)
{
	int events = c->transport->wants(c->transport_state);

	if (may_read(c, w))
		events |= LOOP_READ;
	if (w->write && !c->writable)
		events |= LOOP_WRITE;
	if (!(events & LOOP_READ) && (c->pool->read_paused || c->owner.env->paused) && !list_linked(&c->link))
		list_append(&c->pool->paused, &c->link);
	loop_io_watch(c->pool->loop, &c->io, events);
	watch_hup(c, w->alert && !(events & LOOP_READ));
	set_timer(c, w->deadline);
	set_wait(c, w->idle ? CONN_IDLE : w->begun ? CONN_BEGUN : CONN_WORKS);
}

static void finish(struct conn *c, enum session_close how)
{
	if (how == CLOSE_LINGER)
		linger(c);
	else
		conn_close(c, how == CLOSE_CUT, END_CLOSED);
}

/* True if it has more to do in the next turn. */
static bool conn_run(struct conn *c)
{
	size_t budget = CONN_TURN_BUDGET;
	struct session_wants w;
	bool took_all;

	if (c->state == CONN_LINGER) {
		run_linger(c);
		return false;
	}
	run_input(c, &budget);
	if (c->state != CONN_OPEN)
		return false;
	took_all = c->session->ops->wants(c->session).read;
	run_output(c);
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
		mark_dirty(c); /* output made room for what is kept */
		return true;
	}
	set_interest(c, &w);
	if (budget == 0 && may_read(c, &w)) {
		mark_dirty(c);
		return true;
	}
	return false;
}

bool conn_pool_run(struct conn_pool *pool)
{
	struct list now, *l;
	bool more = false;

	list_init(&now);
	list_splice(&now, &pool->dirty);
	while ((l = list_pop(&now)))
		more |= conn_run(container_of(l, struct conn, link));
	return more || !list_empty(&pool->dirty);
}
