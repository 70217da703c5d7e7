/* SPDX-License-Identifier: Apache-2.0 */
/* The host's requests in progress, counted for each peer: from REQUEST until the host's last message about it. */
#ifndef SPARX_BRIDGE_WORK_H
#define SPARX_BRIDGE_WORK_H

#include "bridge/exchange.h"

void work_init(struct bridge *b);
void work_free(struct bridge *b);

/* Takes a reference to the share of the request's peer. */
struct share *work_share(struct bridge *b, const struct request_head *h, bool *exempt);

/* A request is handed out; the host sends its last message about it; the host yields its place (YIELD), or takes one again
 * (RESUME). */
void work_begins(struct exchange *x);
void work_ends(struct exchange *x);
void work_yields(struct exchange *x);
void work_resumes(struct exchange *x);
/* The exchange has ended. If its handler is still running, it counts until it is released, or for h2_reset_hold. */
void work_forget(struct exchange *x);
/* The handler of an exchange that is gone has ended. */
void work_released(struct bridge *b, uint64_t id);

#endif
