/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges that wait for demand, and their heads. */
#ifndef SPARX_BRIDGE_WAITING_H
#define SPARX_BRIDGE_WAITING_H

#include "bridge/exchange.h"

/* A head of at most this many bytes is kept in memory of this size, some of which is kept for the next one. */
enum { WAITING_SHORT = 512 };

/* Makes room for its head: at most n bytes, with the body that is sent along. NULL: out of memory. */
uint8_t *waiting_room(struct exchange *x, size_t n);
/* It waits: its room has the encoded head of its REQUEST (len bytes), followed by the body; the waiting time has to be written at
 * `waited_at`. */
void waiting_begin(struct exchange *x, uint32_t len, uint32_t waited_at);
/* Called if an empty body ends while its head waits: stores the trailers, or nil, after the head. False: out of memory. */
bool waiting_ended(struct exchange *x, const struct field *trailers, unsigned count);
/* Stops waiting, but keeps its head. */
void waiting_leave(struct exchange *x);
/* Frees the head. */
void waiting_drop(struct exchange *x);
/* Both, if it waited. */
void waiting_forget(struct exchange *x);
/* µs that the oldest one has waited. */
uint64_t waiting_longest(const struct bridge *b);

#endif
