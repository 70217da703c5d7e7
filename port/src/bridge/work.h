/* SPDX-License-Identifier: Apache-2.0 */
/* What the host is at work on, counted for each peer: a request that was handed out, until the host has said its last word on it. */
#ifndef SPARX_BRIDGE_WORK_H
#define SPARX_BRIDGE_WORK_H

#include "bridge/exchange.h"

void work_init(struct bridge *b);
void work_free(struct bridge *b);

/* Whose request it is, referred to once more. */
struct share *work_share(struct bridge *b, const struct request_head *h, bool *exempt);

/* A request is handed out, its host has said its last word, its host gives the place free (YIELD), or takes one again (RESUME). */
void work_begins(struct exchange *x);
void work_ends(struct exchange *x);
void work_yields(struct exchange *x);
void work_resumes(struct exchange *x);
/* The exchange is over. What the host is still at work on counts until it is released, or for h2_reset_hold. */
void work_forget(struct exchange *x);
/* Nobody is at work for this one, which is gone. */
void work_released(struct bridge *b, uint64_t id);

#endif
