/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host: any bytes on the pipe, into link, bridge and real sessions with clients that wait.
 *
 * The first byte says which clients there are (a bit each), the second what HELLO contains. Pieces follow, each with a head of
 * two bytes: the two highest bits are its kind, the other fourteen a number n:
 *   0: a frame of n bytes   1: n ms pass   2: n raw bytes   3: client n % 8 sends more, closes, or resets
 */
#include "parts/rig.h"
#include "parts/target.h"

#include "frames/mp.h"

#define WS_HEAD \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
/* GET http://a/ and POST, from the static table */
#define GET_ON(id) "\0\0\6\1\5\0\0\0" id "\x82\x84\x86\x41\1a"
#define POST_ON(id) "\0\0\6\1\4\0\0\0" id "\x83\x84\x86\x41\1a"
#define DATA_ON(id, end) "\0\0\5\0" end "\0\0\0" id "hello"

struct script {
	struct slice first, then;
};

#define SCRIPT(first, then) \
	{ \
		SLICE_LIT(first), SLICE_LIT(then) \
	}

static const struct script scripts[RIG_CLIENTS] = {
	SCRIPT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
	SCRIPT("PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n", "hello, world"),
	SCRIPT("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "d\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03\xcb\x48\xcd\r\n",
	       "c\r\n\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00\r\n0\r\nx: y\r\n\r\n"),
	SCRIPT(WS_HEAD "\r\n", "\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0"),
	SCRIPT(WS_HEAD "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
	       "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00\x88\x82\0\0\0\0\x03\xe8"),
	SCRIPT("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nbytes", "more bytes"),
	SCRIPT("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"),
	SCRIPT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" SETTINGS GET_ON("\1") POST_ON("\3") DATA_ON("\3", "\0"),
	       DATA_ON("\3", "\1") GET_ON("\5") "\0\0\4\3\0\0\0\0\5\0\0\0\x08"),
};

static struct rig rig;
static uint8_t said[RIG_CLIENTS];
static struct rig_client *clients[RIG_CLIENTS];

static void begin(uint8_t who)
{
	for (unsigned i = 0; i < RIG_CLIENTS; i++) {
		said[i] = 0;
		clients[i] = (who >> i & 1) ? rig_connect(&rig) : NULL;
		if (clients[i])
			rig_client(clients[i], scripts[i].first.at, scripts[i].first.len);
	}
	rig_turn(&rig);
}

static void client_goes_on(unsigned n)
{
	struct rig_client *k = clients[n % RIG_CLIENTS];

	if (!k)
		return;
	if (said[n % RIG_CLIENTS]++ == 0)
		rig_client(k, scripts[n % RIG_CLIENTS].then.at, scripts[n % RIG_CLIENTS].then.len);
	else if (n & RIG_CLIENTS)
		k->reset = true;
	else
		k->eof = true;
	rig_turn(&rig);
}

/* Bits: 0 no HELLO at all, 1 reports, 2 no demand, 3 a small window, 4 a host that does not read. */
static void hello(uint8_t how)
{
	uint8_t bytes[64], *at = bytes;
	unsigned count = 0;

	if (how & 1)
		return;
	if (how & 2) {
		at = mp_str(at, SLICE_LIT("report"));
		at = mp_bool(at, true);
		count++;
	}
	if (how & 8) {
		at = mp_str(at, SLICE_LIT("window"));
		at = mp_uint(at, 4096);
		count++;
	}
	rig_hello(&rig, count, slice_of(bytes, (size_t)(at - bytes)), how & 4 ? 0 : 20);
	rig.deaf = how & 16;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	rig_start(&rig);
	{
		uint8_t who = input_byte(&in);
		hello(input_byte(&in));
		begin(who);
	}
	while (in.left && rig.server.state != SERVER_STOPPED) {
		unsigned head = (unsigned)input_byte(&in) << 8, n;
		struct slice bytes = {0};
		head |= input_byte(&in);
		n = head & 0x3fff;
		if (!(head & 0x4000))
			bytes = input_bytes(&in, n);
		switch (head >> 14) {
		case 0:
			rig_frame(&rig, bytes.at, bytes.len);
			break;
		case 1:
			rig_pass_time(&rig, n);
			break;
		case 2:
			rig_host(&rig, bytes.at, bytes.len);
			break;
		default:
			client_goes_on(n);
		}
	}
	rig_stop(&rig);
	return 0;
}
