/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2, RFC 9113. */
#ifndef SPARX_PROTO_H2_H
#define SPARX_PROTO_H2_H

#include "proto/session.h"

/* The first input begins with the client's preface. NULL: out of memory. */
struct session *h2_start(struct session_owner *owner);
/* Frees what the environment keeps for sessions of this kind. */
void h2_env_free(struct session_env *env);

#endif
