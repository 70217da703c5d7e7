/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: libev underneath, and one turn of our own before each wait. libev's callbacks only note readiness; all work is
 * done in the turn, by the function given to loop_init.
 */
#ifndef SPARX_LOOP_H
#define SPARX_LOOP_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/wheel.h"
#include "platform/platform.h"

enum { LOOP_FINE_US = 32 };
enum { LOOP_READ = EV_READ, LOOP_WRITE = EV_WRITE };

struct loop;
struct loop_io;

typedef void loop_ready_fn(struct loop_io *io, int ready);
/* Returns true if there is more to do that needs no event: the loop then polls without waiting. */
typedef bool loop_turn_fn(void *ctx);
/* The peer of a descriptor that is not read has closed its side, or (gone) reset the connection. Each is reported once. */
typedef void loop_hup_fn(struct loop_io *io, bool gone);

/* A descriptor's readiness. `io.fd` is the descriptor. */
struct loop_io {
	ev_io io;
	loop_hup_fn *hup;
};

struct loop {
	struct ev_loop *ev;
	ev_prepare before_wait;
	ev_idle busy;
	ev_timer tick;
	ev_timer soon;
	ev_signal signals[2];
	struct hups hups; /* reports peers that hang up while their descriptor is not read, which libev cannot do */
	ev_io hups_ready;
	ev_timer hups_time; /* polls for that on systems that do not report it */
	loop_turn_fn *turn;
	void *ctx;
	uint64_t now;      /* ms, monotonic; the same during one turn */
	uint64_t now_us;   /* the same moment in µs */
	uint64_t unix_sec; /* wall clock */
	uint64_t tick_at;  /* when the timer fires; UINT64_MAX: it does not run */
	struct wheel wheel;
	struct wheel fine; /* a wheel for short deadlines: its unit is LOOP_FINE_US, so that a slot is about 1 ms */
	int signalled;     /* the last signal seen, 0 for none */
};

/* Converts a time in µs to the unit of loop.fine, rounded up. */
static inline uint64_t loop_fine(uint64_t us)
{
	return (us + LOOP_FINE_US - 1) / LOOP_FINE_US;
}

/* False: libev could not start. */
bool loop_init(struct loop *l, loop_turn_fn *turn, void *ctx);
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
void loop_free(struct loop *l);
/* Requests a turn in `ms`, more precisely than the wheel does. */
void loop_soon(struct loop *l, unsigned ms);

/* hup: NULL if hang-ups are not watched. */
void loop_io_init(struct loop_io *io, loop_ready_fn *ready, loop_hup_fn *hup, int fd);
/* The only way to change what a descriptor is watched for; 0 for nothing. */
void loop_io_watch(struct loop *l, struct loop_io *io, int events);
/* Turns hup of this descriptor on or off. It must be off before the descriptor is closed. */
void loop_io_watch_hup(struct loop *l, struct loop_io *io, bool on);
static inline int loop_io_fd(const struct loop_io *io)
{
	return io->io.fd;
}
static inline int loop_io_events(const struct loop_io *io)
{
	return ev_is_active(&io->io) ? io->io.events & (EV_READ | EV_WRITE) : 0;
}

#endif
