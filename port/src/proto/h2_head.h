/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of header blocks that come in; some of it is kept. */
#ifndef SPARX_PROTO_H2_HEAD_H
#define SPARX_PROTO_H2_HEAD_H

#include "proto/h2_session.h"

/* NULL: out of memory. */
struct h2_head *h2_head_new(struct h2 *h2);
void h2_head_free(struct h2 *h2, struct h2_head *head);
/* Gives back what is kept. */
void h2_heads_free(struct h2_env *shared);

#endif
