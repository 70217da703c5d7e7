/* SPDX-License-Identifier: Apache-2.0 */
/* Which protocol a client speaks: HTTP/2 by prior knowledge if its first bytes are the preface (RFC 9113 3.3), else HTTP/1. */
#ifndef SPARX_PROTO_DETECT_H
#define SPARX_PROTO_DETECT_H

#include "proto/session.h"

enum detected { DETECT_MORE, DETECT_H1, DETECT_H2, DETECT_WRONG };

/* The protocol negotiated before the first byte (ALPN). */
enum agreed { AGREED_NOT, AGREED_H1, AGREED_H2 };

/* By ALPN: over TLS, HTTP/2 must be negotiated (RFC 9113 3.2). NULL: a connection without TLS. */
enum agreed detect_agreed(const struct secure *secure);

/*
 * The protocol that the first bytes of a connection show; DETECT_MORE while they are an incomplete preface. Anything else is left
 * to HTTP/1, which may refuse it; if HTTP/2 was negotiated, it is WRONG (RFC 9113 3.4).
 */
enum detected detect_protocol(const uint8_t *bytes, size_t len, enum agreed agreed);

/* A connection begins as HTTP/1, whose idle session is the smallest. NULL: out of memory. */
struct session *detect_start(struct session_owner *owner);
/* Replaces, and closes, a session that has not seen a byte. NULL: out of memory. */
struct session *detect_switch_to_h2(struct session *session);
/* Frees what the environment keeps for sessions of all kinds. */
void detect_env_free(struct session_env *env);

#endif
