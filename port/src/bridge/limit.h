/* SPDX-License-Identifier: Apache-2.0 */
/* The limits on one peer's requests: requests beyond them are answered here, and the host is not told. */
#ifndef SPARX_BRIDGE_LIMIT_H
#define SPARX_BRIDGE_LIMIT_H

#include "bridge/exchange.h"

/* HELLO has been read. */
void limit_init(struct bridge *b);
/*
 * Whether a request of this share may begin. False: it was answered with 429, and the stream is detached. *counted: limit_ends
 * must be called for it.
 */
bool limit_begins(struct bridge *b, struct stream *s, const struct request_head *h, struct share *share, bool exempt,
		  bool *counted);
void limit_ends(struct share *share, bool counted);

/*
 * Rate limits on bodies. An exchange is shaped if its peer has such a limit. Call these when bytes have come, when bytes are to
 * leave or have left, and at the end. Bodies ahead of the rate wait: request bodies are not read, and responses get no allowance.
 */
void limit_shapes(struct exchange *x);
void limit_came(struct exchange *x, size_t n);
void limit_goes(struct exchange *x);
void limit_leaves(struct exchange *x);

#endif
