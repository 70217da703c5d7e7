/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-1 (RFC 3174) of a complete text, for the WebSocket handshake (RFC 6455 4.2.2). */
#ifndef SPARX_BASE_SHA1_H
#define SPARX_BASE_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_LEN = 20 };

void sha1(const void *bytes, size_t len, uint8_t digest[SHA1_LEN]);

#endif
