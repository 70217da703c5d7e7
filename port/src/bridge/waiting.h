/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges that wait for demand, and their heads. */
#ifndef SPARX_BRIDGE_WAITING_H
#define SPARX_BRIDGE_WAITING_H

#include "bridge/exchange.h"

/* Takes over the encoded head of its REQUEST (from malloc, len bytes of it used), followed by the body that is sent along; the
 * waiting time has to be written at `waited_at`. */
void waiting_begin(struct exchange *x, uint8_t *head, uint32_t len, uint32_t waited_at);
/* Called if an empty body ends while its head waits: stores the trailers, or nil, after the head. False: out of memory. */
bool waiting_ended(struct exchange *x, const struct field *trailers, unsigned count);
/* Stops waiting, but keeps its head. */
void waiting_leave(struct exchange *x);
/* Stops waiting, if it waited. */
void waiting_forget(struct exchange *x);
/* µs that the oldest one has waited. */
uint64_t waiting_longest(const struct bridge *b);

#endif
