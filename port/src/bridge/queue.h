/* The queue of heads that wait for demand. */
#ifndef SPARX_BRIDGE_QUEUE_H
#define SPARX_BRIDGE_QUEUE_H

#include "bridge.h"

void bridge_queue_init(struct bridge *b);
void bridge_queue_free(struct bridge *b);

/* Bytes that the head of a REQUEST takes at most. */
size_t bridge_head_bound(const struct request_head *h);
/* Hands the request to the host, or keeps its head, encoded, until there is demand. False: it is to be turned away, which is counted. */
bool bridge_queue_take(struct bridge *b, struct stream *s, const struct request_head *h);
/* A body may end while its head waits, if it is empty: the trailers, or nil, are kept behind the head. False: out of memory. */
bool bridge_queue_end(struct stream *s, const struct field *trailers, unsigned count);
/* There may be demand for what waits: hands it out, to the peer with the least in progress first. */
void bridge_send_queued(struct bridge *b);
/* A stream waits no more, if it did. */
void bridge_queue_forget(struct bridge *b, struct stream *s);
/* µs for which the first of the queue has waited. */
uint64_t bridge_queue_longest_wait(const struct bridge *b);

#endif
