/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on their way to the host. */
#ifndef SPARX_BRIDGE_QUEUE_H
#define SPARX_BRIDGE_QUEUE_H

#include "bridge/exchange.h"

/* Bytes of a REQUEST or a COMPLETE in addition to its head and its body. */
enum { QUEUE_OVERHEAD = 32 };

void queue_init(struct bridge *b);
void queue_free(struct bridge *b);

/* The most bytes that the head of a REQUEST may take. */
size_t queue_head_bound(const struct bridge *b, const struct request_head *h);
/* Hands the request (and its body, if that is sent along) to the host, or keeps both, encoded, until there is demand. bound:
 * queue_head_bound. False: it must be turned away; it was counted. */
bool queue_take(struct exchange *x, const struct request_head *h, size_t bound);
/* There may be demand: hands out waiting requests, for the peer with the fewest in progress first. */
void queue_hand_out(struct bridge *b);

#endif
