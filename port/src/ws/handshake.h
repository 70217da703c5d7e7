/* SPDX-License-Identifier: Apache-2.0 */
/* The opening handshake, RFC 6455 4.2 (HTTP/1.1) and RFC 8441 5 (HTTP/2): checks a request, and computes the answer. */
#ifndef SPARX_WS_HANDSHAKE_H
#define SPARX_WS_HANDSHAKE_H

#include "stream/stream.h"
#include "ws/deflate.h"

enum { WS_KEY_LEN = 24, WS_ACCEPT_LEN = 28 };

struct ws_handshake {
	bool valid;
	bool has_key;     /* HTTP/1.1: an accept value must be sent */
	uint16_t refusal; /* not valid: the status to refuse it with, 400 or 426 */
	char key[WS_KEY_LEN];
	uint8_t offered; /* offers */
	struct deflate_params offers[DEFLATE_OFFERS_MAX];
};

void ws_handshake_read(struct ws_handshake *h, const struct request_head *head);
void ws_accept_value(const char key[WS_KEY_LEN], char accept[WS_ACCEPT_LEN]);

#endif
