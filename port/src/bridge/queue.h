/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on their way to the host. */
#ifndef SPARX_BRIDGE_QUEUE_H
#define SPARX_BRIDGE_QUEUE_H

#include "bridge/exchange.h"

/* Bytes of a REQUEST or a COMPLETE beside its head and its body. */
enum { QUEUE_OVERHEAD = 32 };

void queue_init(struct bridge *b);
void queue_free(struct bridge *b);

/* Bytes that the head of a REQUEST takes at most. */
size_t queue_head_bound(const struct bridge *b, const struct request_head *h);
/* Hands the request to the host, with its body if that goes along, or keeps both, encoded, until there is demand. False: it is to be turned away, which is counted. */
bool queue_take(struct exchange *x, const struct request_head *h);
/* There may be demand for what waits: hands it out, to the peer with the least in progress first. */
void queue_hand_out(struct bridge *b);

#endif
