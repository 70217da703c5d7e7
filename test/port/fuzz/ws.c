/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket: frames of a client, once as a whole and once in small pieces; both times the host must get the same messages. (The
 * client's answers may differ: only the newest ping is answered if the pongs cannot leave.)
 *
 * Bits of the first byte: 0 compression was negotiated, 1 without context takeover, 2 messages of at most 100 bytes, 3 the bytes
 * are sent unchanged, else a frame's length and mask are corrected; 4 they are masked. The second byte: where the cuts are.
 */
#include "parts/answering.h"
#include "parts/record.h"
#include "parts/target.h"

#define HEAD \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static struct answering a;

/* Makes frames from: the first byte unchanged, the length in two bytes, the payload. */
static void frames(struct buf *wire, struct input *in, bool masked)
{
	static const uint8_t masks[2][4] = {{0, 0, 0, 0}, {1, 2, 3, 4}};

	while (in->left > 3) {
		uint8_t first = input_byte(in);
		unsigned n = (unsigned)input_byte(in) << 8;
		struct slice body;
		n |= input_byte(in);
		body = input_bytes(in, n);
		if (body.len < 126)
			buf_append(wire, (uint8_t[]){first, (uint8_t)(128 | body.len)}, 2);
		else
			buf_append(wire, (uint8_t[]){first, 128 | 126, (uint8_t)(body.len >> 8), (uint8_t)body.len}, 4);
		buf_append(wire, masks[masked], 4);
		for (size_t i = 0; i < body.len; i++)
			buf_append(wire, (uint8_t[]){body.at[i] ^ masks[masked][i % 4]}, 1);
	}
}

static void run(struct record *record, uint8_t how, struct slice bytes, uint32_t cuts)
{
	static const struct slice heads[] = {
		SLICE_LIT(HEAD "\r\n"),
		SLICE_LIT(HEAD "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
		SLICE_LIT(HEAD "\r\n"),
		SLICE_LIT(HEAD "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
			       "server_no_context_takeover\r\n\r\n"),
	};
	struct rig_client *k;

	answering_start(&a, ANSWER_SOCKET);
	a.compress = how & 1;
	a.max_message = how & 4 ? 100 : 0;
	k = rig_connect(&a.rig);
	answering_client(&a, k, heads[how & 3], 0);
	answering_client(&a, k, bytes, cuts);
	record_take(record, &a);
	answering_stop(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct record whole, pieces;
	struct input in = {data, size};
	uint8_t how = input_byte(&in);
	uint32_t cuts = input_byte(&in) + 1u;
	struct buf wire = {0};

	if (how & 8)
		buf_append(&wire, in.at, in.left);
	else
		frames(&wire, &in, how & 16);
	run(&whole, how, slice_of(buf_at(&wire), buf_len(&wire)), 0);
	run(&pieces, how, slice_of(buf_at(&wire), buf_len(&wire)), cuts);
	record_compare(&whole, &pieces, false);
	record_free(&whole);
	record_free(&pieces);
	buf_free(&wire);
	return 0;
}
