/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: the input is a program; its instructions are actions of clients, the host, the kernel and the clock, so that every
 * pair of messages that can cross does cross. The host's messages are mostly well-formed; the port must not exceed its credits.
 */
#include "parts/rig.h"
#include "parts/target.h"

#include "frames/mp.h"

enum { STREAMS = 32, GATHER_MAX = 60000 };

static struct rig rig;
static struct input in;
static struct buf gathered; /* messages that leave in one frame */
static uint64_t demand, asked;
static struct {
	uint64_t chunks, taken, max;
} credit[STREAMS];
static uint32_t next_stream[RIG_CLIENTS]; /* of HTTP/2 */

/* ---- what the port may do ---- */

static void on_message(struct rig *r, const struct message *m)
{
	uint64_t id = m->stream;

	(void)r;
	if (m->kind == MSG_REQUEST || m->kind == MSG_COMPLETE)
		MUST(++asked <= demand);
	if (id >= STREAMS || (m->kind != MSG_BODY && m->kind != MSG_RECV))
		return;
	if (m->kind == MSG_BODY)
		MUST(m->body.data.len > 0 && m->body.data.len <= credit[id].max);
	if (m->kind == MSG_BODY || m->recv.left == 0)
		MUST(++credit[id].taken <= credit[id].chunks);
}

/* ---- the host ---- */

static uint64_t number(void)
{
	static const uint64_t numbers[] = {0, 1, 2, 3, 5, 9, 10, 100, 200, 204, 304, 404, 1000, 65000, 262144, UINT64_C(1) << 32};

	return numbers[input_byte(&in) % (sizeof numbers / sizeof *numbers)];
}

static struct slice word(void)
{
	static const struct slice words[] = {
		SLICE_LIT("websocket"), SLICE_LIT(""),           SLICE_LIT("/pushed?x"), SLICE_LIT("content-length"),
		SLICE_LIT("5"),         SLICE_LIT("connection"), SLICE_LIT("close"),     SLICE_LIT("hello"),
		SLICE_LIT("x-y"),       SLICE_LIT("b\xc3\xa4r"), SLICE_LIT("bad\r\n"),   SLICE_LIT("link"),
		SLICE_LIT("date"),      SLICE_LIT("upgrade"),    SLICE_LIT("chat/1"),    SLICE_LIT("transfer-encoding"),
	};

	return words[input_byte(&in) % (sizeof words / sizeof *words)];
}

static uint8_t *put_fields(uint8_t *at)
{
	unsigned pairs = input_byte(&in) % 4;

	at = mp_array(at, 2 * pairs);
	for (unsigned i = 0; i < 2 * pairs; i++)
		at = mp_str(at, word());
	return at;
}

static uint8_t *put_bytes(uint8_t *at)
{
	static uint8_t zeros[5000];
	uint8_t n = input_byte(&in);

	if (n < 200)
		return mp_bin(at, input_bytes(&in, n));
	return mp_bin(at, slice_of(zeros, (size_t)(n - 200) * 90));
}

static uint8_t *put_map(uint8_t *at)
{
	uint8_t how = input_byte(&in);

	at = mp_map(at, (how & 1) + (how >> 1 & 1));
	if (how & 1) {
		at = mp_str(at, SLICE_LIT("max_message"));
		at = mp_uint(at, 1 + how);
	}
	if (how & 2) {
		at = mp_str(at, SLICE_LIT("compress"));
		at = mp_map(at, how >> 2 & 1);
	}
	if ((how & 6) == 6) {
		at = mp_str(at, SLICE_LIT("server_no_context_takeover"));
		at = mp_bool(at, how & 8);
	}
	return at;
}

static uint8_t *put_field(uint8_t *at, char letter)
{
	switch (letter) {
	case 'U':
		return input_byte(&in) & 1 ? mp_nil(at) : mp_uint(at, number());
	case 'b':
		return put_bytes(at);
	case 't':
		return mp_str(at, word());
	case 'f':
		return put_fields(at);
	case 'F':
		return input_byte(&in) & 1 ? mp_nil(at) : put_fields(at);
	case 'm':
		return put_map(at);
	default:
		return mp_uint(at, number());
	}
}

static void send_gathered(void)
{
	if (buf_len(&gathered))
		rig_frame(&rig, buf_at(&gathered), buf_len(&gathered));
	buf_consume(&gathered, buf_len(&gathered));
}

/* The port may use credits once it has read them. */
static void note_credit(const uint8_t *from, const uint8_t *to)
{
	struct slice bytes = slice_of(from, (size_t)(to - from));
	struct message_fault fault;
	struct message m;

	if (!message_read(&bytes, FROM_HOST, &m, &fault))
		return;
	if (m.kind == MSG_DEMAND && m.demand.count <= UINT32_MAX)
		demand += m.demand.count;
	if (m.kind != MSG_READ || m.stream >= STREAMS || m.read.chunks > UINT32_MAX || m.read.max > UINT32_MAX)
		return;
	credit[m.stream].chunks += m.read.chunks;
	if (m.read.max > credit[m.stream].max)
		credit[m.stream].max = m.read.max;
}

static void host_message(bool at_once)
{
	static uint8_t bytes[8192];
	uint8_t *at = bytes;
	unsigned kind = input_byte(&in) % (MSG_FILE + 1);
	const struct message_def *def = message_def(kind);

	if (!def || kind == MSG_HELLO)
		return;
	at = mp_array(at, (uint32_t)strlen(def->format) + 1);
	at = mp_uint(at, kind);
	for (const char *letter = def->format; *letter; letter++)
		at = *letter == 's' ? mp_uint(at, input_byte(&in) % STREAMS) : put_field(at, *letter);
	note_credit(bytes, at);
	MUST(buf_append(&gathered, bytes, (size_t)(at - bytes)));
	if (at_once || buf_len(&gathered) > GATHER_MAX)
		send_gathered();
}

/* ---- clients ---- */

#define WS_HEAD \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static const struct slice requests[] = {
	SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
	SLICE_LIT("HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
	SLICE_LIT("PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"),
	SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"),
	SLICE_LIT("5\r\nhello\r\n"),
	SLICE_LIT("0\r\n\r\n"),
	SLICE_LIT("0\r\nx: y\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"),
	SLICE_LIT(WS_HEAD "\r\n"),
	SLICE_LIT(WS_HEAD "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"),
	SLICE_LIT("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nbytes"),
	SLICE_LIT("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
	SLICE_LIT("GET / HTTP/1.1\r\nHost: a"),
	SLICE_LIT("OPTIONS * HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
	SLICE_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
	SLICE_LIT("\0\0\0\4\1\0\0\0\0"),
	SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
};

static struct rig_client *some_client(unsigned *i)
{
	*i = rig.client_count ? input_byte(&in) % rig.client_count : 0;
	return &rig.clients[*i];
}

static void websocket_frame(struct rig_client *k)
{
	uint8_t first = input_byte(&in), n = input_byte(&in) % 126;
	struct slice payload = input_bytes(&in, n);

	rig_client(k, (uint8_t[]){first, (uint8_t)(128 | payload.len), 0, 0, 0, 0}, 6);
	rig_client(k, payload.at, payload.len);
}

static void h2_frame(struct rig_client *k, uint8_t type, uint8_t flags, uint8_t stream, struct slice payload)
{
	rig_client(k, (uint8_t[]){0, 0, (uint8_t)payload.len, type, flags, 0, 0, 0, stream}, 9);
	rig_client(k, payload.at, payload.len);
}

static void h2_any(struct rig_client *k)
{
	uint8_t type = input_byte(&in) % 12, flags = input_byte(&in), stream = input_byte(&in) % 16, n = input_byte(&in);

	h2_frame(k, type, flags, stream, input_bytes(&in, n));
}

static void h2_request(struct rig_client *k, unsigned i)
{
	static const struct slice heads[] = {
		SLICE_LIT("\x82\x84\x86\x41\1a"),                                          /* GET / */
		SLICE_LIT("\x83\x84\x86\x41\1a"),                                          /* POST / */
		SLICE_LIT("\x83\x84\x86\x41\1a\x0f\x0d\1\x35"),                            /* with content-length 5 */
		SLICE_LIT("\x42\7CONNECT\x41\3a:1"),                                       /* a tunnel */
		SLICE_LIT("\x82\x84\x86\x41\1a\x40\2te\x08trailers\x40\x08priority\3u=1"), /* GET, urgent */
		SLICE_LIT("\x42\4HEAD\x84\x86\x41\1a"),
		SLICE_LIT("\x82\x84\x86\x41\1a\x40\1X\1y"), /* a name that is wrong */
	};
	uint8_t how = input_byte(&in);

	h2_frame(k, 1, how & 128 ? 4 : 5, (uint8_t)(1 + 2 * next_stream[i]++ % 100), heads[how % (sizeof heads / sizeof *heads)]);
}

static void client_says(unsigned what)
{
	unsigned i;
	struct rig_client *k = some_client(&i);

	struct slice bytes;

	switch (what) {
	case 0:
		bytes = requests[input_byte(&in) % (sizeof requests / sizeof *requests)];
		rig_client(k, bytes.at, bytes.len);
		break;
	case 1:
		bytes = input_bytes(&in, input_byte(&in));
		rig_client(k, bytes.at, bytes.len);
		break;
	case 2:
		websocket_frame(k);
		break;
	case 3:
		h2_any(k);
		break;
	default:
		h2_request(k, i);
	}
}

static void client_does(void)
{
	static const size_t sizes[] = {0, 1, 7, 100, 5000, SIZE_MAX};
	unsigned i;
	struct rig_client *k = some_client(&i);
	uint8_t what = input_byte(&in);

	switch (what & 3) {
	case 0:
		k->eof = true;
		break;
	case 1:
		k->reset = true;
		break;
	case 2:
		k->room = sizes[what / 4 % 6];
		break;
	default:
		k->read_most = sizes[1 + what / 4 % 5];
	}
}

/* ---- the program ---- */

static void pass_time(void)
{
	static const uint64_t times[] = {1, 40, 300, 1000, 6000, 16000, 31000, 61000};

	rig_pass_time(&rig, times[input_byte(&in) % 8]);
}

static void drain_or_hand(uint8_t what)
{
	uint8_t token = input_byte(&in) % 11;

	if (what > 240)
		bridge_drain(&rig.bridge, 3000);
	else
		rig_hand(&rig, token, what % STREAMS);
}

static void step(uint8_t operation)
{
	if (operation < 5)
		client_says(operation);
	else if (operation == 5)
		client_does();
	else if (operation == 6)
		rig_connect(&rig);
	else if (operation == 7)
		pass_time();
	else if (operation == 8)
		rig.deaf = !rig.deaf;
	else if (operation == 9)
		drain_or_hand(input_byte(&in));
	else if (operation == 10)
		send_gathered();
	else if (operation == 11)
		rig_turn(&rig);
	else
		host_message(operation > 13);
}

/* Bits: 0 reports, 1 a small window, 2 the least of everything. */
static void hello(uint8_t how)
{
	static const char *const least[] = {"max_queue", "h2_max_streams", "max_pipeline", "max_requests"};
	uint8_t bytes[128], *at = bytes;
	unsigned count = 0;

	if (how & 1) {
		at = mp_str(at, SLICE_LIT("report"));
		at = mp_bool(at, true);
		count++;
	}
	if (how & 2) {
		at = mp_str(at, SLICE_LIT("window"));
		at = mp_uint(at, 4096);
		count++;
	}
	for (unsigned i = 0; (how & 4) && i < sizeof least / sizeof *least; i++, count++) {
		at = mp_str(at, slice_str(least[i]));
		at = mp_uint(at, 2);
	}
	demand = how >> 4;
	rig_hello(&rig, count, slice_of(bytes, (size_t)(at - bytes)), (uint32_t)demand);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	in = (struct input){data, size};
	demand = asked = 0;
	memset(credit, 0, sizeof credit);
	memset(next_stream, 0, sizeof next_stream);
	rig_start(&rig);
	rig.on_message = on_message;
	hello(input_byte(&in));
	rig_connect(&rig);
	rig_connect(&rig);
	while (in.left && rig.server.state != SERVER_STOPPED)
		step(input_byte(&in) & 15);
	rig_stop(&rig);
	buf_free(&gathered);
	return 0;
}
