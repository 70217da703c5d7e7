/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges that wait for demand, and their heads. */
#ifndef SPARX_BRIDGE_WAITING_H
#define SPARX_BRIDGE_WAITING_H

#include "bridge/exchange.h"

/* Takes the head of its REQUEST, encoded (malloc's, len bytes of it in use), behind which is the body that goes with it; the time that it waited is to be put at `waited_at`. */
void waiting_begin(struct exchange *x, uint8_t *head, uint32_t len, uint32_t waited_at);
/* A body may end while its head waits, if it is empty: keeps the trailers, or nil, behind the head. False: out of memory. */
bool waiting_ended(struct exchange *x, const struct field *trailers, unsigned count);
/* Stops waiting, but keeps its head. */
void waiting_leave(struct exchange *x);
/* Stops waiting, if it waited. */
void waiting_forget(struct exchange *x);
/* µs that the first one has waited. */
uint64_t waiting_longest(const struct bridge *b);

#endif
