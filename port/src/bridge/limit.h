/* SPDX-License-Identifier: Apache-2.0 */
/* The limits on one peer's requests: what is beyond them is answered here, and the host does not hear of it. */
#ifndef SPARX_BRIDGE_LIMIT_H
#define SPARX_BRIDGE_LIMIT_H

#include "bridge/exchange.h"

/* HELLO has been read. */
void limit_init(struct bridge *b);
/*
 * Whether a request of this share may begin. False: it has its answer (429), and the stream is let go. *counted: limit_ends is to be
 * called for it.
 */
bool limit_begins(struct bridge *b, struct stream *s, const struct request_head *h, struct share *share, bool exempt,
		  bool *counted);
void limit_ends(struct share *share, bool counted);

/*
 * The rate of its bodies: an exchange whose peer has one is shaped. Bytes have come; bytes are to go, or have gone; it is over. Whatever is
 * ahead of the rate waits: nothing more is read for the one, and the stream has no allowance for the other.
 */
void limit_shapes(struct exchange *x);
void limit_came(struct exchange *x, size_t n);
void limit_goes(struct exchange *x);
void limit_leaves(struct exchange *x);

#endif
