/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2: frames of a client. Bits of the first byte: 0-2 how the host answers, 3 the bytes are sent unchanged, else preface,
 * SETTINGS and the frames' lengths are corrected; 4 they arrive in small pieces; 5 the client's socket accepts few bytes at a
 * time.
 */
#include "parts/answering.h"
#include "parts/target.h"

enum { FRAME_HEAD_LEN = 9 };

static struct answering a;

static void frames(struct buf *wire, struct input *in)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct slice head, body;

	buf_append(wire, preface, sizeof preface - 1);
	while (in->left >= FRAME_HEAD_LEN) {
		head = input_bytes(in, FRAME_HEAD_LEN);
		body = input_bytes(in, (size_t)head.at[1] << 8 | head.at[2]);
		buf_append(wire, (uint8_t[]){0, (uint8_t)(body.len >> 8), (uint8_t)body.len}, 3);
		buf_append(wire, head.at + 3, FRAME_HEAD_LEN - 3);
		buf_append(wire, body.at, body.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t how = input_byte(&in);
	struct rig_client *k;
	struct buf wire = {0};

	if (how & 8)
		buf_append(&wire, in.at, in.left);
	else
		frames(&wire, &in);
	answering_start(&a, (how & 7) % ANSWERING_WAYS);
	k = rig_connect(&a.rig);
	answering_client(&a, k, slice_of(buf_at(&wire), buf_len(&wire)), how & 48 ? how : 0);
	if (how & 32)
		k->room = 1000;
	answering_turn(&a);
	rig_pass_time(&a.rig, 1000);
	answering_turn(&a);
	k->eof = how & 128;
	k->reset = (how & 192) == 64;
	answering_stop(&a);
	buf_free(&wire);
	return 0;
}
