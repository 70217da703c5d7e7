/* What the host is at work on, counted for each peer: a request that was handed out, until the host has said its last word on it. */
#ifndef SPARX_BRIDGE_WORK_H
#define SPARX_BRIDGE_WORK_H

#include "bridge.h"

void bridge_work_init(struct bridge *b);
void bridge_work_free(struct bridge *b);

/* Whose request it is, referred to once more. */
struct share *bridge_share_of(struct bridge *b, const struct request_head *h);

/* The request is handed out; the host has said its last word; its work occupies none of its places for now; or does again. */
void bridge_work_begins(struct bridge *b, struct stream *s);
void bridge_work_ends(struct bridge *b, struct stream *s);
void bridge_work_yields(struct bridge *b, struct stream *s);
void bridge_work_resumes(struct bridge *b, struct stream *s);
/* The stream is over. What the host is still at work on counts until it is released, or for h2_reset_hold. */
void bridge_work_forget(struct bridge *b, struct stream *s);
/* Nobody is at work for this stream, which is gone. */
void bridge_work_released(struct bridge *b, uint64_t id);

#endif
