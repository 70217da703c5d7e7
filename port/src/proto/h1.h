/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.0 and HTTP/1.1, RFC 9112. */
#ifndef SPARX_PROTO_H1_H
#define SPARX_PROTO_H1_H

#include "proto/session.h"

/* NULL: out of memory. */
struct session *h1_start(struct session_owner *owner);
/* Frees what the environment keeps for sessions of this kind. */
void h1_env_free(struct session_env *env);

#endif
