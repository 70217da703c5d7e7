/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks of HTTP/3 that come in: their memory is used again. */
#ifndef SPARX_PROTO_H3_HEAD_H
#define SPARX_PROTO_H3_HEAD_H

#include "proto/h3_session.h"

/* NULL: out of memory. */
struct h3_head *h3_head_new(struct h3 *h3);
void h3_head_free(struct h3 *h3, struct h3_head *head);
void h3_heads_free(struct h3_env *shared);

#endif
