/* Which protocol a client speaks: HTTP/2 by prior knowledge if its first bytes are the preface (RFC 9113 3.3), else HTTP/1. */
#ifndef SPARX_PROTO_DETECT_H
#define SPARX_PROTO_DETECT_H

#include "proto/session.h"

enum detected { DETECT_MORE, DETECT_H1, DETECT_H2, DETECT_WRONG };

/* What the two sides have agreed on before the first byte (ALPN). */
enum agreed { AGREED_NOT, AGREED_H1, AGREED_H2 };

/* By ALPN: over TLS HTTP/2 is agreed on, or not spoken (RFC 9113 3.2). NULL: a connection without. */
enum agreed detect_agreed(const struct secure *secure);

/*
 * What the first bytes of a connection say; DETECT_MORE as long as they are the beginning of a preface, and no more. All that
 * is no preface is HTTP/1's, to refuse it too, unless HTTP/2 was agreed on: then it is WRONG (RFC 9113 3.4).
 */
enum detected detect_protocol(const uint8_t *bytes, size_t len, enum agreed agreed);

/* Before its first byte a connection is HTTP/1's, which costs least to wait with. NULL: out of memory. */
struct session *detect_start(struct session_owner *owner);
/* In place of a session that has not seen a byte, which is closed. NULL: out of memory. */
struct session *detect_switch_to_h2(struct session *session);
/* Gives back what the environment keeps for sessions of all kinds. */
void detect_env_free(struct session_env *env);

#endif
