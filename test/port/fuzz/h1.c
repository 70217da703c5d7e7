/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1: the bytes of one client, first as a whole, then in small pieces and byte by byte to a port whose answers leave in
 * small pieces. Each time the host must get the same messages, and the client the same answers.
 *
 * The first byte says how the host answers and, in its highest bit, whether limits are narrow, the second where the cuts are; the
 * rest is for the socket.
 */
#include "parts/answering.h"
#include "parts/record.h"
#include "parts/target.h"

static struct answering a;

static enum answering_way way_of(unsigned how)
{
	return (how & 0x7f) % (ANSWER_UPGRADE + 1);
}

static void run(struct record *record, unsigned how, struct slice bytes, uint32_t cuts)
{
	struct rig_client *k;

	answering_begin(&a, way_of(how));
	a.narrow = how & 0x80;
	answering_hello(&a);
	k = rig_connect(&a.rig);
	answering_client(&a, k, bytes, cuts);
	k->eof = true;
	answering_turn(&a);
	record_take(record, &a);
	answering_stop(&a);
}

/* Whether the client gets 100 Continue depends on how much has arrived. */
static void drop_continue(struct buf *wire)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uint8_t *at;

	while (buf_len(wire) && (at = memmem(buf_at(wire), buf_len(wire), text, sizeof text - 1))) {
		memmove(at, at + sizeof text - 1, (size_t)(wire->data + wire->tail - at) - (sizeof text - 1));
		wire->tail -= sizeof text - 1;
	}
}

/* Waits for the whole body: otherwise the answer may or may not leave before a fault in the body is found. */
static bool waits(enum answering_way way)
{
	return way != ANSWER_AT_ONCE && way != ANSWER_DISCARD;
}

/* Not HTTP/2, whose frames show the pieces. */
static bool is_http1(const struct buf *wire)
{
	return buf_len(wire) == 0 || *buf_at(wire) == 'H';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct record whole, pieces;
	struct input in = {data, size};
	unsigned how = input_byte(&in);
	uint32_t cuts = input_byte(&in) + 1u;
	struct slice bytes = input_bytes(&in, SIZE_MAX);

	run(&whole, how, bytes, 0);
	drop_continue(&whole.wire);
	for (unsigned i = 0; i < 2; i++) {
		run(&pieces, how, bytes, i ? ANSWERING_BYTES : cuts);
		drop_continue(&pieces.wire);
		if (waits(way_of(how)) || !(whole.gone | pieces.gone))
			record_compare(&whole, &pieces, is_http1(&whole.wire));
		record_free(&pieces);
	}
	record_free(&whole);
	return 0;
}
