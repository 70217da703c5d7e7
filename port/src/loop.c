/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <signal.h>
#include <time.h>

static void read_clock(struct loop *l)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t); /* libev's clock is the wall clock, which may be set */
	l->unix_sec = (uint64_t)ev_now(l->ev);
	l->now_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
	l->now = l->now_us / 1000;
}

/* The timer is moved only to an earlier time: deadlines mostly move later, so it is cheaper to let it fire once too early. */
static void arm_tick(struct loop *l)
{
	uint64_t next = wheel_next(&l->wheel), fine = wheel_next(&l->fine);

	if (fine != UINT64_MAX && fine * LOOP_FINE_US / 1000 < next)
		next = fine * LOOP_FINE_US / 1000;
	if (next >= l->tick_at)
		return;
	ev_timer_stop(l->ev, &l->tick);
	ev_timer_set(&l->tick, next > l->now ? (double)(next - l->now) / 1000 + 0.001 : 0.001, 0.);
	ev_timer_start(l->ev, &l->tick);
	l->tick_at = next;
}

static void on_before_wait(struct ev_loop *ev, ev_prepare *w, int revents)
{
	struct loop *l = w->data;

	(void)revents;
	read_clock(l);
	if (l->turn(l->ctx))
		ev_idle_start(ev, &l->busy);
	else
		ev_idle_stop(ev, &l->busy);
	arm_tick(l);
}

static void on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct loop *l = w->data;

	(void)ev;
	(void)revents;
	l->tick_at = UINT64_MAX;
}

static void on_busy(struct ev_loop *ev, ev_idle *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct loop *l = w->data;

	(void)ev;
	(void)revents;
	l->signalled = w->signum;
}

enum { HUPS_AT_ONCE = 64 };

static void take_hups(struct loop *l)
{
	struct hup told[HUPS_AT_ONCE];
	int count = hups_take(&l->hups, told, HUPS_AT_ONCE);

	for (int i = 0; i < count; i++) {
		struct loop_io *io = told[i].who;
		if (!told[i].gone)
			hups_watch_on(&l->hups, loop_io_fd(io), io);
		io->hup(io, told[i].gone);
	}
}

static void on_hups(struct ev_loop *ev, ev_io *w, int revents)
{
	(void)ev;
	(void)revents;
	take_hups(w->data);
}

static void on_hups_time(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	take_hups(w->data);
}

static void start_hups(struct loop *l)
{
	ev_io_init(&l->hups_ready, on_hups, l->hups.fd, EV_READ);
	ev_timer_init(&l->hups_time, on_hups_time, HUPS_MS / 1000., HUPS_MS / 1000.);
	l->hups_ready.data = l->hups_time.data = l;
	if (l->hups.fd >= 0)
		ev_io_start(l->ev, &l->hups_ready);
	else
		ev_timer_start(l->ev, &l->hups_time);
}

/* A turn follows anyway. */
static void on_soon(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;
}

void loop_soon(struct loop *l, unsigned ms)
{
	ev_timer_stop(l->ev, &l->soon);
	ev_timer_set(&l->soon, ms / 1000., 0.);
	ev_timer_start(l->ev, &l->soon);
}

bool loop_init(struct loop *l, loop_turn_fn *turn, void *ctx)
{
	static const int numbers[] = {SIGTERM, SIGINT};
	bool hups;

	*l = (struct loop){.turn = turn, .ctx = ctx, .tick_at = UINT64_MAX};
	hups = hups_open(&l->hups);
	l->ev = ev_loop_new(ev_recommended_backends() | EVFLAG_NOENV);
	if (!l->ev || !hups)
		return false;
	read_clock(l);
	wheel_init(&l->wheel, l->now);
	wheel_init(&l->fine, l->now_us / LOOP_FINE_US);
	ev_prepare_init(&l->before_wait, on_before_wait);
	ev_idle_init(&l->busy, on_busy);
	ev_timer_init(&l->tick, on_tick, 0., 0.);
	ev_timer_init(&l->soon, on_soon, 0., 0.);
	l->before_wait.data = l->busy.data = l->tick.data = l;
	start_hups(l);
	ev_prepare_start(l->ev, &l->before_wait);
	for (unsigned i = 0; i < 2; i++) {
		ev_signal_init(&l->signals[i], on_signal, numbers[i]);
		l->signals[i].data = l;
		ev_signal_start(l->ev, &l->signals[i]);
	}
	return true;
}

void loop_run(struct loop *l)
{
	ev_run(l->ev, 0);
}

void loop_stop(struct loop *l)
{
	ev_break(l->ev, EVBREAK_ALL);
}

void loop_free(struct loop *l)
{
	if (l->ev) {
		for (unsigned i = 0; i < 2; i++)
			ev_signal_stop(l->ev, &l->signals[i]);
		ev_loop_destroy(l->ev);
	}
	l->ev = NULL;
	hups_close(&l->hups);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	loop_ready_fn *ready = (loop_ready_fn *)w->data;

	(void)ev;
	ready((struct loop_io *)(void *)w, revents);
}

void loop_io_init(struct loop_io *io, loop_ready_fn *ready, loop_hup_fn *hup, int fd)
{
	ev_io_init(&io->io, on_io, fd, 0);
	io->hup = hup;
	io->io.data = (void *)ready;
}

void loop_io_watch(struct loop *l, struct loop_io *io, int events)
{
	if (events == loop_io_events(io))
		return;
	ev_io_stop(l->ev, &io->io);
	if (events == 0)
		return;
	ev_io_modify(&io->io, events);
	ev_io_start(l->ev, &io->io);
}

void loop_io_watch_hup(struct loop *l, struct loop_io *io, bool on)
{
	if (on)
		hups_watch(&l->hups, loop_io_fd(io), io);
	else
		hups_forget(&l->hups, loop_io_fd(io));
}
