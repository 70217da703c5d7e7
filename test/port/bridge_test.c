/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge between a host that is written as text and fake streams. */
#include "bridge/exchange.h"
#include "coding/encoder.h"
#include "frames/names.h"

#include "channel_fixture.h"
#include "host_fixture.h"

enum { STREAMS = 40 };

struct fake_stream {
	struct stream s;
	unsigned number;
};

static struct host host, *const h = &host;
static struct bridge bridge, *const b = &bridge;
static struct config config;
static struct text ops;    /* what the bridge called: operations of streams, and of the server */
static struct slice lent;  /* the data of the last of them */
static bool out_of_memory; /* the next operations fail */
static bool listen_fails;
static struct fake_stream streams[STREAMS + 1];
static struct field fields[2];
static struct share *alice, *bob, *proxy; /* the streams of one connection of each version */

/* ---- the fakes ---- */

static unsigned number_of(struct stream *s)
{
	return container_of(s, struct fake_stream, s)->number;
}

static void add_fields(const struct field *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		text_add(&ops, " ");
		text_add_quoted(&ops, list[i].name);
		text_add(&ops, "=");
		text_add_quoted(&ops, list[i].value);
	}
	text_add(&ops, "\n");
}

static bool op_send_info(struct stream *s, unsigned status, const struct field *list, unsigned count)
{
	text_add(&ops, "info %u %u", number_of(s), status);
	add_fields(list, count);
	return !out_of_memory;
}

static bool op_send_head(struct stream *s, const struct response_head *head)
{
	text_add(&ops, "head %u %u length=%lld%s", number_of(s), head->status, (long long)head->length,
		 head->close ? " close" : "");
	add_fields(head->fields, head->field_count);
	return !out_of_memory;
}

static bool op_upgrade(struct stream *s, struct slice protocol, const struct field *list, unsigned count)
{
	text_add(&ops, "upgrade %u %.*s", number_of(s), (int)protocol.len, (const char *)protocol.at);
	add_fields(list, count);
	return !out_of_memory;
}

static bool op_send_data(struct stream *s, struct slice data)
{
	lent = data;
	text_add(&ops, "data %u ", number_of(s));
	text_add_quoted(&ops, data);
	text_add(&ops, "\n");
	return !out_of_memory;
}

static bool op_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	text_add(&ops, "end %u", number_of(s));
	add_fields(trailers, count);
	return !out_of_memory;
}

static void op_go_on(struct stream *s)
{
	text_add(&ops, "go on %u with %llu\n", number_of(s), (unsigned long long)s->allowance);
}

static void op_consume(struct stream *s)
{
	text_add(&ops, "consume %u %llu of %llu\n", number_of(s), (unsigned long long)exchange_of(s)->chunks,
		 (unsigned long long)exchange_of(s)->chunk);
}

static void op_discard(struct stream *s)
{
	text_add(&ops, "discard %u\n", number_of(s));
}

static void op_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	assert_true(s->detached); /* so that nothing more is reported about it */
	text_add(&ops, "reset %u %u", number_of(s), status);
	text_add(&ops, retry_after ? " retry %u\n" : "\n", retry_after);
}

static void op_release(struct stream *s)
{
	assert_true(s->owed);
	s->owed = false;
	text_add(&ops, "release %u\n", number_of(s));
}

static const struct stream_ops stream_ops = {.send_info = op_send_info,
					     .send_head = op_send_head,
					     .upgrade = op_upgrade,
					     .send_data = op_send_data,
					     .send_end = op_send_end,
					     .consume = op_consume,
					     .go_on = op_go_on,
					     .discard = op_discard,
					     .reset = op_reset,
					     .release = op_release};

static struct slice certified; /* the memory where the secret was */

static bool control_listen(void *ctx, struct config_fault *fault)
{
	(void)ctx;
	text_add(&ops, "listen\n");
	if (listen_fails) {
		snprintf(fault->field, sizeof fault->field, "listeners");
		snprintf(fault->rule, sizeof fault->rule, "is taken");
	}
	return !listen_fails;
}

static void control_leave(void *ctx)
{
	(void)ctx;
}

static void control_name(void *ctx, unsigned i, struct listener_name *name)
{
	(void)ctx;
	snprintf(name->address, sizeof name->address, "10.0.0.%u", i);
	name->port = (uint16_t)(4000 + i);
}

static void control_drain(void *ctx, uint64_t deadline)
{
	(void)ctx;
	text_add(&ops, "drain %llu\n", (unsigned long long)deadline);
}

static void control_stop(void *ctx, int status)
{
	(void)ctx;
	text_add(&ops, "stop %d\n", status);
}

static void control_stats(void *ctx, struct control_figures *figures)
{
	(void)ctx;
	*figures = (struct control_figures){.connections = 9,
					    .idle = 2,
					    .lingering = 1,
					    .accepted = 3,
					    .rejected = 4,
					    .bytes_in = 5,
					    .bytes_out = 6,
					    .half_open = 7,
					    .handshakes = 8,
					    .resumed = 5,
					    .tls_failed = 6,
					    .h3_connections = 3,
					    .h3_retries = 2,
					    .h3_dropped = 1,
					    .misproxied = 10};
}

static void control_pressure(void *ctx, bool on)
{
	(void)ctx;
	text_add(&ops, "pressure %s\n", on ? "on" : "off");
}

/* Listener 1 speaks TLS. Its `tls` map has one key, whose name is the fault if it is "wrong". */
static unsigned control_certify(void *ctx, unsigned i, struct slice map, struct config_fault *fault)
{
	bool wrong = memmem(map.at, map.len, "wrong", 5) != NULL;

	(void)ctx;
	text_add(&ops, "certify %u, %zu bytes\n", i, map.len);
	certified = map;
	if (!wrong)
		return 3;
	snprintf(fault->field, sizeof fault->field, "certificates");
	snprintf(fault->rule, sizeof fault->rule, "0: key does not fit the certificate");
	return 0;
}

static bool control_tickets(void *ctx, unsigned i, struct slice key)
{
	(void)ctx;
	text_add(&ops, "tickets %u, %zu bytes\n", i, key.len);
	certified = key;
	return key.len == 64;
}

static bool control_is_secure(void *ctx, unsigned i)
{
	(void)ctx;
	return i == 1;
}

static const struct control_ops control_ops = {
	.certify = control_certify,
	.tickets = control_tickets,
	.is_secure = control_is_secure,
	.listen = control_listen,
	.leave = control_leave,
	.name = control_name,
	.drain = control_drain,
	.stop = control_stop,
	.stats = control_stats,
	.pressure = control_pressure,
};

static void to_nowhere(void *ctx, enum log_level level, const char *text)
{
	(void)ctx;
	(void)level;
	(void)text;
}

static int setup(void **state)
{
	(void)state;
	out_of_memory = listen_fails = false;
	memset(streams, 0, sizeof streams);
	config_defaults(&config);
	host_start(h, &bridge_link_handler, b);
	bridge_init(b, &h->loop, &h->link, &config, (const uint8_t[SHARES_SECRET]){1});
	bridge_control(b, (struct control){&control_ops, NULL});
	log_to(to_nowhere, NULL);
	return 0;
}

static int teardown(void **state)
{
	bool nothing_left;

	(void)state;
	for (unsigned i = 1; i <= STREAMS; i++)
		if (streams[i].s.sink_data && !streams[i].s.detached) {
			stream_detach(&streams[i].s);
			b->sink.on_reset(b, &streams[i].s, END_CLOSED);
		}
	for (unsigned i = 0; i < 3; i++) {
		struct share **share = (struct share * *[]){&alice, &bob, &proxy}[i];
		if (*share)
			shares_give(&b->shares, *share);
		*share = NULL;
	}
	nothing_left = b->exchanges.count == 0 && b->queued == 0 && b->n.read_credit == 0 && b->n.body_queued == 0;
	bridge_free(b);
	log_to(NULL, NULL);
	host_stop(h);
	text_free(&ops);
	assert_true(nothing_left);
	return 0;
}

#define EXPECT_OPS(wanted) EXPECT_TEXT(&ops, wanted)

static void hello_with(const char *options)
{
	char text[600];

	snprintf(text, sizeof text, "[HELLO, 1, {'listeners': [{'address': '::1'}]%s%s%s}]",
		 strstr(options, "'share'") ? "" : ", 'share': 0", *options ? ", " : "", options);
	host_says(h, text);
	EXPECT_OPS("listen\n");
	host_listens(h);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_memory_equal(text_str(&h->heard), "[READY, 1, ", 11);
	text_clear(&h->heard);
}

static void hello(void)
{
	hello_with("");
}

static struct stream *request_of_peer(unsigned number, struct request_head head, const struct peer *peer)
{
	struct stream *s = &streams[number].s;

	stream_init(s, &stream_ops);
	streams[number].number = number;
	head.peer = peer;
	s->born_us = h->loop.now_us;
	if (head.body == BODY_NONE)
		stream_request_moves(s, REQUEST_ENDED);
	b->sink.on_request(b, s, &head);
	return s;
}

static struct stream *request_with(unsigned number, struct request_head head)
{
	static const struct peer peer = {
		.address = {127, 0, 0, 1}, .address_len = 4, .port = 50000, .local = {127, 0, 0, 1, 0x0f, 0xa0}};

	return request_of_peer(number, head, &peer);
}

static struct request_head plain_head(void)
{
	return (struct request_head){
		.version = 11,
		.method = SLICE_LIT("GET"),
		.path = SLICE_LIT("/"),
		.authority = SLICE_LIT("h"),
		.body = BODY_NONE,
		.fields = fields,
	};
}

static struct stream *request(unsigned number)
{
	return request_with(number, plain_head());
}

static struct stream *post(unsigned number)
{
	struct request_head head = plain_head();

	head.method = SLICE_LIT("POST");
	head.method_index = 2;
	head.body = LENGTH_UNKNOWN;
	return request_with(number, head);
}

static struct stream *head_request(unsigned number)
{
	struct request_head head = plain_head();
	struct stream *s;

	head.method = SLICE_LIT("HEAD");
	head.method_index = 1;
	s = request_with(number, head);
	s->head_method = true;
	return s;
}

/* Our own end of the connection: 127.0.0.1, port 4000. */
#define LOCAL "b'\\x7f\\x00\\x00\\x01\\x0f\\xa0'"
#define GET_MESSAGE(id) \
	"[REQUEST, " id ", <[11, 0, 0, 'h', '/', nil, nil, nil, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 0, [], " LOCAL "]>]\n"
#define POST_MESSAGE(id) \
	"[REQUEST, " id ", <[11, 2, 0, 'h', '/', nil, nil, -1, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 0, [], " LOCAL "]>]\n"

/* Much demand, and one request: stream 1. */
static struct stream *serving_with(const char *options, struct stream *(*kind)(unsigned number))
{
	struct stream *s;

	hello_with(options);
	host_says(h, "[DEMAND, 100]");
	s = kind(1);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
	return s;
}

static struct stream *serving(struct stream *(*kind)(unsigned number))
{
	return serving_with("", kind);
}

static void done(struct stream *s)
{
	stream_detach(s);
	b->sink.on_done(b, s);
}

static void room(struct stream *s, uint64_t bytes)
{
	b->sink.on_room(b, s, bytes);
}

static void body(struct stream *s, const char *data)
{
	b->sink.on_body(b, s, slice_str(data));
}

/* ---- the start ---- */

static void test_ready_names_what_is_in_force(void **state)
{
	(void)state;
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '::1'}, {'address': '::2'}], 'window': 5000, 'max_frame': 80000, "
		     "'max_link': 200000}]");
	host_listens(h);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard),
			       "'listeners': [{'address': '10.0.0.0', 'port': 4000}, {'address': '10.0.0.1', 'port': 4001}]"));
	assert_non_null(strstr(text_str(&h->heard), "'limits': {'window': 5000, 'max_frame': 80000, 'max_link': 200000, "));
	assert_non_null(strstr(text_str(&h->heard), "'eof_timeout': 500"));
	assert_non_null(strstr(text_str(&h->heard), "'max_frame': 80000, 'sandbox': "));
	assert_int_equal(h->link.max_frame, 80000);
	assert_int_equal(h->link.high, 200000);
	text_clear(&h->heard);
	text_clear(&ops);
}

static bool shut_in(struct sandbox *sandbox, const struct config *wanted, struct config_fault *why)
{
	text_add(&ops, "shut in\n");
	*sandbox = (struct sandbox){.mode = wanted->sandbox, .in_force = 1 << SANDBOX_NO_NEW_PRIVS | 1 << SANDBOX_SECCOMP};
	sandbox->missing = 1 << SANDBOX_LANDLOCK;
	snprintf(sandbox->why[SANDBOX_LANDLOCK], sizeof sandbox->why[0], "no Landlock");
	snprintf(why->field, sizeof why->field, "sandbox");
	snprintf(why->rule, sizeof why->rule, "landlock: no Landlock");
	return wanted->sandbox != SANDBOX_STRICT;
}

static void test_the_process_is_shut_in_between_listening_and_ready(void **state)
{
	(void)state;
	b->shut_in = shut_in;
	log_to(bridge_log, b);
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '::1'}]}]");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	log_to(NULL, NULL);
	EXPECT_OPS("listen\nshut in\n");
	assert_non_null(strstr(text_str(&h->heard), "'sandbox': {'mode': 'best_effort', 'parts': ['no_new_privs', 'seccomp'], "
						    "'missing': {'landlock': 'no Landlock'}, 'landlock_abi': 0}}]\n"
						    "[LOG, 'warning', 'the sandbox lacks landlock: no Landlock']\n"));
	text_clear(&h->heard);
}

static void test_a_sandbox_that_is_not_had_as_asked_ends_the_port(void **state)
{
	(void)state;
	b->shut_in = shut_in;
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '::1'}], 'sandbox': 'strict'}]");
	EXPECT_HEARD(h, "[ERROR, 0, nil, 'sandbox', 'landlock: no Landlock', 'exit']\n");
	EXPECT_OPS("listen\nshut in\nstop 6\n");
}

static void test_nothing_is_sent_before_the_hello(void **state)
{
	(void)state;
	EXPECT_HEARD(h, "");
	host_writes(h, "\0\0\0\0", 4);
	EXPECT_HEARD(h, "");
	EXPECT_OPS("");
}

static void expect_hello_fails(const char *message, const char *error, const char *stop)
{
	teardown(NULL);
	setup(NULL);
	listen_fails = strstr(stop, "3") != NULL;
	host_says(h, message);
	EXPECT_HEARD(h, error);
	EXPECT_OPS(stop);
	host_says(h, "[PING, 1]"); /* nothing is answered from here on */
	EXPECT_HEARD(h, "");
}

static void test_a_wrong_hello_is_told_and_ends_the_port(void **state)
{
	(void)state;
	expect_hello_fails("[HELLO, 2, {}]", "[ERROR, 0, nil, 'version', 'must be 1', 'exit']\n", "stop 2\n");
	expect_hello_fails("[HELLO, 1, {}]", "[ERROR, 0, nil, 'listeners', 'must name at least one listener', 'exit']\n",
			   "stop 2\n");
	expect_hello_fails("[HELLO, 1, {'windo': 5}]", "[ERROR, 0, nil, 'windo', 'is unknown', 'exit']\n", "stop 2\n");
	expect_hello_fails("[HELLO, 1, {'listeners': [{'address': '::1'}]}]", "[ERROR, 0, nil, 'listeners', 'is taken', 'exit']\n",
			   "listen\nstop 3\n");
	expect_hello_fails("[PING, 1]", "[ERROR, 12, nil, 'kind', 'must be HELLO first', 'exit']\n", "stop 4\n");
	expect_hello_fails("[99]", "[ERROR, 99, nil, 'kind', 'is unknown', 'exit']\n", "stop 4\n");
	expect_hello_fails("7", "[ERROR, nil, nil, 'message', 'must be an array that begins with its kind', 'exit']\n", "stop 4\n");
}

static void test_a_frame_that_is_too_long_ends_the_port(void **state)
{
	(void)state;
	hello();
	host_writes(h, "\xff\xff\xff\xff", 4);
	EXPECT_HEARD(h, "[ERROR, nil, nil, 'frame', 'is longer than max_frame', 'exit']\n");
	EXPECT_OPS("stop 4\n");
}

/* ---- demand ---- */

static void test_a_request_waits_for_demand_and_spends_one(void **state)
{
	(void)state;
	hello();
	request(1);
	EXPECT_HEARD(h, "");
	host_says(h, "[DEMAND, 2]");
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	assert_int_equal(b->demand, 1);
	request(2);
	request(3);
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	assert_int_equal(b->queued, 1);
	host_says(h, "[DEMAND, 1] [DEMAND, 5]");
	EXPECT_HEARD(h, GET_MESSAGE("3"));
	assert_int_equal(b->demand, 5);
	EXPECT_OPS("");
}

static void test_the_head_is_told_with_all_it_has(void **state)
{
	const struct field list[] = {{SLICE_LIT("host"), SLICE_LIT("h:1"), 25}, {SLICE_LIT("x-own"), SLICE_LIT("\xff"), -1}};
	struct request_head head = {
		.version = 10,
		.method = SLICE_LIT("PURGE"),
		.method_index = -1,
		.https = true,
		.path = SLICE_LIT("/a"),
		.query = SLICE_LIT(""),
		.target = SLICE_LIT("https://h/a?"),
		.body = 70000,
		.flags = 3,
		.fields = list,
		.field_count = 2,
	};

	(void)state;
	hello();
	request_with(1, head);
	h->loop.now_us += 12345;
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(
		h,
		"[REQUEST, 1, <[10, 'PURGE', 1, nil, '/a', '', 'https://h/a?', 70000, 3, b'\\x7f\\x00\\x00\\x01', 50000, 0, 12345, "
		"[25, b'h:1', 'x-own', b'\\xff'], " LOCAL "]>]\n");
}

static void test_a_head_that_fits_no_frame_is_refused(void **state)
{
	static uint8_t large[66000];
	struct request_head head = plain_head();

	(void)state;
	memset(large, 'x', sizeof large);
	hello();
	host_says(h, "[DEMAND, 1]");
	head.path = slice_of(large, sizeof large);
	request_with(1, head);
	EXPECT_OPS("reset 1 431\n");
	EXPECT_HEARD(h, "");
	head.path = slice_of(large, 60000);
	request_with(2, head);
	EXPECT_OPS("");
	assert_int_equal(b->demand, 0);
}

static void test_the_queue_is_bounded_and_sheds_at_once(void **state)
{
	(void)state;
	hello_with("'max_queue': 4, 'retry_after': 9");
	for (unsigned i = 1; i <= 4; i++)
		request(i);
	EXPECT_OPS("");
	request(5);
	EXPECT_OPS("reset 5 503 retry 9\n");
	assert_int_equal(b->n.shed, 1);
	assert_int_equal(b->queued, 4);
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	request(6);
	host_says(h, "[DEMAND, 9]");
	EXPECT_OPS("");
	EXPECT_HEARD(h, GET_MESSAGE("2") GET_MESSAGE("3") GET_MESSAGE("4") GET_MESSAGE("6"));
}

static void test_too_many_to_shed_press_until_the_second_is_over(void **state)
{
	(void)state;
	hello_with("'max_queue': 0, 'max_shed': 2");
	host_pass_time(h, 1000 - h->loop.now % 1000);
	request(1);
	EXPECT_OPS("reset 1 503 retry 1\n");
	request(2);
	EXPECT_OPS("pressure on\nreset 2 503 retry 1\n");
	request(3); /* was read before */
	EXPECT_OPS("reset 3 503 retry 1\n");
	host_pass_time(h, 900);
	EXPECT_OPS("");
	host_pass_time(h, 100 + WHEEL_SLOT);
	EXPECT_OPS("pressure off\n");
	request(4);
	EXPECT_OPS("reset 4 503 retry 1\n");
	assert_int_equal(b->n.shed, 4);
}

static void test_stats_tell_how_long_the_first_of_the_queue_has_waited(void **state)
{
	(void)state;
	hello();
	request(1);
	host_pass_time(h, 70);
	request(2);
	host_pass_time(h, 30);
	host_says(h, "[STATS, 0]");
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard), "'queued': 2, 'held_back': 0, 'peers': 0, 'queue_wait': 100000, "));
	text_clear(&h->heard);
	host_says(h, "[DEMAND, 1] [STATS, 0]");
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard), "'queued': 1, 'held_back': 0, 'peers': 0, 'queue_wait': 30000, "));
	text_clear(&h->heard);
}

static void test_without_a_queue_a_request_without_demand_is_shed(void **state)
{
	(void)state;
	hello_with("'max_queue': 0");
	request(1);
	EXPECT_OPS("reset 1 503 retry 1\n");
	host_says(h, "[DEMAND, 1]");
	request(2);
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	EXPECT_OPS("");
}

static void test_a_request_that_waited_too_long_is_shed_and_not_told_of(void **state)
{
	(void)state;
	hello_with("'queue_timeout': 1000, 'max_queue': 1");
	request(1);
	host_pass_time(h, 999);
	EXPECT_OPS("");
	host_pass_time(h, 1 + WHEEL_SLOT);
	EXPECT_OPS("reset 1 503 retry 1\n");
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, "");
	assert_int_equal(b->n.shed, 1);
}

static void test_a_client_that_leaves_the_queue_is_not_told_of(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'max_queue': 1");
	s = request(1);
	stream_detach(s);
	b->sink.on_reset(b, s, END_CLOSED);
	EXPECT_OPS("");
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, "");
	assert_int_equal(b->demand, 1);
}

static void test_a_hangup_in_the_queue_is_told_behind_the_request(void **state)
{
	struct stream *s;

	(void)state;
	hello();
	s = request(1);
	s->hung_up = true;
	b->sink.on_hangup(b, s);
	EXPECT_HEARD(h, "");
	host_says(h, "[DEMAND, 2]");
	EXPECT_HEARD(h, GET_MESSAGE("1") "[HANGUP, 1]\n");
	s = request(2);
	s->hung_up = true;
	b->sink.on_hangup(b, s);
	EXPECT_HEARD(h, GET_MESSAGE("2") "[HANGUP, 2]\n");
}

/* HTTP/2: HEADERS without END_STREAM, followed only by an end. */
static void test_an_end_in_the_queue_is_told_behind_the_request(void **state)
{
	const struct field list[] = {{SLICE_LIT("etag"), SLICE_LIT("x"), 20}, {SLICE_LIT("x-sum"), SLICE_LIT("1"), -1}};
	struct stream *s[2];

	(void)state;
	hello();
	for (unsigned i = 0; i < 2; i++) {
		s[i] = post(i + 1);
		stream_request_moves(s[i], REQUEST_ENDED);
		b->sink.on_end(b, s[i], i ? list : NULL, i ? 2 : 0);
	}
	s[1]->hung_up = true;
	b->sink.on_hangup(b, s[1]);
	EXPECT_HEARD(h, "");
	host_says(h, "[DEMAND, 2]");
	EXPECT_HEARD(h, POST_MESSAGE("1") "[BODY_END, 1, nil]\n" POST_MESSAGE("2") "[BODY_END, 2, [20, b'x', 'x-sum', b'1']]\n"
										   "[HANGUP, 2]\n");
}

static void test_an_end_in_the_queue_is_forgotten_with_the_request(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'queue_timeout': 1000");
	s = post(1);
	stream_request_moves(s, REQUEST_ENDED);
	b->sink.on_end(b, s, NULL, 0);
	host_pass_time(h, 1000 + WHEEL_SLOT);
	EXPECT_OPS("reset 1 503 retry 1\n");
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, "");
}

static void test_a_stream_that_waits_cannot_be_spoken_to(void **state)
{
	(void)state;
	hello();
	request(1);
	host_says(h, "[RESPOND, 1, 200, [], '']");
	EXPECT_HEARD(h, "[ERROR, 4, 1, 'stream', 'was never used', 'ignored']\n");
	EXPECT_OPS("");
}

/* ---- read credit ---- */

static void test_read_credit_is_additive_and_spent_by_chunk(void **state)
{
	struct stream *s = serving(post);

	(void)state;
	host_says(h, "[READ, 1, 2, 100] [READ, 1, 1, 70000]");
	EXPECT_OPS("consume 1 2 of 100\nconsume 1 3 of 65000\n");
	assert_int_equal(b->n.read_credit, 3);
	body(s, "Hello");
	body(s, "!");
	assert_int_equal(exchange_of(s)->chunks, 1);
	assert_int_equal(b->n.read_credit, 1);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello']\n[BODY, 1, b'!']\n");
	stream_request_moves(s, REQUEST_ENDED);
	b->sink.on_end(b, s, NULL, 0);
	EXPECT_HEARD(h, "[BODY_END, 1, nil]\n");
	assert_int_equal(b->n.read_credit, 0);
	host_says(h, "[READ, 1, 1, 1]"); /* crossed with the end */
	EXPECT_HEARD(h, "");
	EXPECT_OPS("");
}

static void test_trailers_of_a_body_are_told(void **state)
{
	const struct field list[] = {{SLICE_LIT("etag"), SLICE_LIT("x"), 20}, {SLICE_LIT("x-sum"), SLICE_LIT("1"), -1}};
	struct stream *s = serving(post);

	(void)state;
	stream_request_moves(s, REQUEST_ENDED);
	b->sink.on_end(b, s, list, 2);
	EXPECT_HEARD(h, "[BODY_END, 1, [20, b'x', 'x-sum', b'1']]\n");
}

static void test_a_discard_takes_the_credit_back(void **state)
{
	(void)state;
	serving(post);
	host_says(h, "[READ, 1, 5, 10] [DISCARD, 1]");
	EXPECT_OPS("consume 1 5 of 10\ndiscard 1\n");
	assert_int_equal(b->n.read_credit, 0);
	EXPECT_HEARD(h, "");
}

static void test_the_largest_chunk_fits_a_frame(void **state)
{
	static uint8_t large[65000];
	struct stream *s = serving(post);
	unsigned frames;

	(void)state;
	memset(large, 'x', sizeof large);
	host_says(h, "[READ, 1, 2, 65000]");
	frames = h->frames;
	b->sink.on_body(b, s, slice_of(large, sizeof large));
	b->sink.on_body(b, s, slice_of(large, sizeof large));
	EXPECT_HEARD(h, "[BODY, 1, b'x*65000']\n[BODY, 1, b'x*65000']\n");
	assert_int_equal(h->frames, frames + 2);
	text_clear(&ops);
}

/* ---- bodies that come with their request ---- */

static struct request_head whole_head(const char *body)
{
	struct request_head head = plain_head();

	head.method = SLICE_LIT("POST");
	head.method_index = 2;
	head.body = (int64_t)strlen(body);
	head.whole = slice_str(body);
	return head;
}

#define COMPLETE_MESSAGE(id, length, waited, body) \
	"[COMPLETE, " id ", <[11, 2, 0, 'h', '/', nil, nil, " length ", 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, " waited \
	", [], " LOCAL "]>, " body "]\n"

static void test_a_body_comes_with_its_request(void **state)
{
	struct stream *s;

	(void)state;
	hello();
	host_says(h, "[DEMAND, 1]");
	s = request_with(1, whole_head("hello"));
	assert_true(s->took_whole);
	stream_request_moves(s, REQUEST_ENDED);
	host_says(h, "[READ, 1, 1, 1] [DECODE, 1, 0, 100] [RESPOND, 1, 200, [], '']");
	EXPECT_OPS("head 1 200 length=0\ndata 1 \nend 1\n");
	done(s);
	EXPECT_HEARD(h, COMPLETE_MESSAGE("1", "5", "0", "b'hello'") "[DONE, 1, nil]\n");
}

static void test_a_body_waits_with_its_request(void **state)
{
	struct stream *s;

	(void)state;
	hello();
	s = request_with(1, whole_head("hello"));
	assert_true(s->took_whole);
	request_with(2, whole_head("gone"));
	stream_request_moves(s, REQUEST_ENDED);
	EXPECT_HEARD(h, "");
	b->sink.on_reset(b, &streams[2].s, END_CLOSED);
	stream_detach(&streams[2].s);
	host_says(h, "[DEMAND, 2]");
	EXPECT_HEARD(h, COMPLETE_MESSAGE("1", "5", "0", "b'hello'"));
}

/* A body that the host may want to decode; a request that may be upgraded; a body too long for a frame; and one whose request is
 * refused. */
static void test_bodies_that_do_not_come_with_their_request(void **state)
{
	static const char block[33000];
	struct request_head head = whole_head("hello");

	(void)state;
	hello_with("'max_queue': 0");
	host_says(h, "[DEMAND, 4]");
	fields[0] = (struct field){SLICE_LIT("content-encoding"), SLICE_LIT("gzip"), -1};
	head.field_count = 1;
	assert_false(request_with(1, head)->took_whole);
	fields[0].value = SLICE_LIT("exi");
	assert_false(request_with(2, head)->took_whole);
	head.field_count = 0;
	head.flags = REQUEST_MAY_UPGRADE;
	assert_false(request_with(3, head)->took_whole);
	head.flags = 0;
	head.query = slice_of(block, sizeof block);
	head.whole = slice_of(block, sizeof block);
	assert_false(request_with(4, head)->took_whole);
	assert_false(request_with(5, whole_head("hello"))->took_whole);
	EXPECT_OPS("reset 5 503 retry 1\n");
	host_listens(h);
	assert_null(strstr(text_str(&h->heard), "COMPLETE"));
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

/* ---- bodies that are decoded ---- */

static struct slice hello_gzip(void)
{
	static uint8_t coded[256];
	struct encoder_blocks blocks = {0};
	struct encoder *e = encoder_new(CODING_GZIP, 1, &blocks);
	struct slice in = SLICE_LIT("Hello, decoded world!");
	size_t n;

	assert_int_equal(encoder_run(e, ENCODER_FINISH, &in, coded, sizeof coded, &n), 1);
	encoder_free(e);
	return slice_of(coded, n);
}

static struct stream *coded_post(unsigned number, const char *coding)
{
	struct request_head head = plain_head();

	head.method = SLICE_LIT("POST");
	head.method_index = 2;
	head.body = LENGTH_UNKNOWN;
	fields[0] = (struct field){SLICE_LIT("content-encoding"), slice_str(coding), -1};
	head.field_count = 1;
	return request_with(number, head);
}

static struct stream *gzip_post(unsigned number)
{
	return coded_post(number, "gzip");
}

static struct stream *unknown_post(unsigned number)
{
	return coded_post(number, "gzip, compress");
}

static struct stream *identity_post(unsigned number)
{
	return coded_post(number, "identity");
}

static void ends(struct stream *s, const struct field *trailers, unsigned count)
{
	stream_request_moves(s, REQUEST_ENDED);
	b->sink.on_end(b, s, trailers, count);
}

/* The memory of a head that waits grows with them, wherever it is from. */
static void test_trailers_wait_with_their_request(void **state)
{
	static const size_t lengths[] = {1, 200, 600, 5000};
	struct field trailer = {SLICE_LIT("x-sum"), {0}, -1};
	uint8_t value[5000];
	char wanted[80];

	(void)state;
	hello();
	memset(value, 'v', sizeof value);
	for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct stream *s = post(i + 1);
		trailer.value = slice_of(value, lengths[i]);
		ends(s, &trailer, 1);
		s->hung_up = true;
	}
	EXPECT_HEARD(h, "");
	assert_int_equal(b->queued, sizeof lengths / sizeof *lengths);
	for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		host_says(h, "[DEMAND, 1]");
		link_flush(&h->link);
		host_listens(h);
		snprintf(wanted, sizeof wanted, "\n[BODY_END, %u, ['x-sum', b'v*%zu']]\n[HANGUP, %u]\n", i + 1, lengths[i], i + 1);
		if (lengths[i] == 1)
			snprintf(wanted, sizeof wanted, "\n[BODY_END, %u, ['x-sum', b'v']]\n[HANGUP, %u]\n", i + 1, i + 1);
		assert_non_null(strstr(text_str(&h->heard), wanted));
		text_clear(&h->heard);
	}
	assert_int_equal(b->queued, 0);
}

static void test_a_body_is_decoded(void **state)
{
	struct stream *s = serving(gzip_post);
	struct slice coded = hello_gzip();

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 9, 100]");
	EXPECT_OPS("consume 1 9 of 100\n");
	assert_int_equal(s->wanted, 16384);
	assert_true(b->decode.memory > 0);
	b->sink.on_body(b, s, slice_of(coded.at, 10));
	assert_int_equal(s->wanted, 16384);
	b->sink.on_body(b, s, slice_of(coded.at + 10, coded.len - 10));
	ends(s, NULL, 0);
	host_listens(h);
	assert_null(strstr(text_str(&h->heard), "GONE"));
	text_clear(&h->heard);
	assert_int_equal(b->decode.memory, 0);
	assert_int_equal(b->n.read_credit, 0);
	host_says(h, "[READ, 1, 1, 1] [RESPOND, 1, 200, [], '']");
	EXPECT_OPS("head 1 200 length=0\ndata 1 \nend 1\n");
	done(s);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, decoded world!']\n[BODY_END, 1, nil]\n[DONE, 1, nil]\n");
}

/* The bytes that have arrived may become more chunks than the host has asked for. */
static void test_what_is_decoded_keeps_to_the_credit(void **state)
{
	const struct field trailer = {SLICE_LIT("x-sum"), SLICE_LIT("1"), -1};
	struct stream *s = serving(gzip_post);
	struct slice coded = hello_gzip();

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 7]");
	EXPECT_OPS("consume 1 1 of 7\n");
	b->sink.on_body(b, s, coded);
	assert_int_equal(s->wanted, 0);
	ends(s, &trailer, 1);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, ']\n");
	host_says(h, "[READ, 1, 1, 7]");
	assert_true(bridge_has_work(b));
	bridge_run(b);
	assert_false(bridge_has_work(b));
	EXPECT_HEARD(h, "[BODY, 1, b'decoded']\n");
	host_says(h, "[READ, 1, 2, 5]");
	bridge_run(b);
	EXPECT_HEARD(h, "[BODY, 1, b' worl']\n[BODY, 1, b'd!']\n");
	host_says(h, "[READ, 1, 1, 5]");
	bridge_run(b);
	EXPECT_HEARD(h, "[BODY_END, 1, ['x-sum', b'1']]\n");
	EXPECT_OPS("");
}

static void test_a_body_that_is_not_coded_stays_as_it_is(void **state)
{
	struct stream *s = serving(identity_post);

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 70]");
	assert_int_equal(s->wanted, 70);
	body(s, "Hello");
	EXPECT_HEARD(h, "[BODY, 1, b'Hello']\n");
	EXPECT_OPS("consume 1 1 of 70\n");
}

static void test_a_coded_body_stays_coded_unless_the_host_asks(void **state)
{
	struct stream *s = serving(gzip_post);

	(void)state;
	host_says(h, "[READ, 1, 1, 70]");
	body(s, "no gzip");
	EXPECT_HEARD(h, "[BODY, 1, b'no gzip']\n");
	EXPECT_OPS("consume 1 1 of 70\n");
}

static void test_a_coding_that_is_unknown_is_415(void **state)
{
	struct slice accepted = decoding_accepted();
	char wanted[160];

	(void)state;
	serving(unknown_post);
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 70]");
	snprintf(wanted, sizeof wanted, "discard 1\nhead 1 415 length=0 accept-encoding=%.*s\nend 1\n", (int)accepted.len,
		 (const char *)accepted.at);
	EXPECT_OPS(wanted);
	EXPECT_HEARD(h, "[GONE, 1, 'error']\n");
	assert_int_equal(b->n.refused, 1);
	assert_int_equal(b->n.dropped, 1); /* a READ that crossed with GONE */
}

static void test_a_malformed_body_is_400(void **state)
{
	struct stream *s = serving(gzip_post);

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 70]");
	body(s, "no gzip");
	EXPECT_OPS("consume 1 1 of 70\nreset 1 400\n");
	EXPECT_HEARD(h, "[GONE, 1, 'error']\n");
}

static void test_a_body_that_is_cut_off_is_400(void **state)
{
	struct stream *s = serving(gzip_post);
	struct slice coded = hello_gzip();

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 9, 70]");
	b->sink.on_body(b, s, slice_of(coded.at, coded.len - 1));
	ends(s, NULL, 0);
	host_listens(h);
	EXPECT_OPS("consume 1 9 of 70\nreset 1 400\n");
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, decoded world!']\n[GONE, 1, 'error']\n");
}

/* The limit in DECODE, and max_body, which applies to decoded bytes too. */
static void test_a_body_that_becomes_too_large_is_413(void **state)
{
	static const char *const orders[] = {"[DECODE, 1, 20, 100] [READ, 1, 9, 70]", "[DECODE, 1, 0, 100] [READ, 1, 9, 70]",
					     "[DECODE, 1, 21, 100] [READ, 1, 9, 70]", "[DECODE, 1, 70, 100] [READ, 1, 9, 70]"};
	static const char *const options[] = {"", "'max_body': 20", "", "'max_body': 20"};

	for (unsigned i = 0; i < 4; i++) {
		struct stream *s;

		s = serving_with(options[i], gzip_post);
		host_says(h, orders[i]);
		b->sink.on_body(b, s, hello_gzip());
		EXPECT_OPS(i == 2 ? "consume 1 9 of 70\n" : "consume 1 9 of 70\nreset 1 413\n");
		EXPECT_HEARD(h, i == 2 ? "[BODY, 1, b'Hello, decoded world!']\n" : "[GONE, 1, 'error']\n");
		if (i < 3) {
			teardown(state);
			setup(state);
		}
	}
}

static void test_memory_for_decoding_is_bounded(void **state)
{
	(void)state;
	serving_with("'decode_memory': 200000", gzip_post);
	gzip_post(2);
	gzip_post(3);
	host_says(h, "[DECODE, 1, 0, 100] [DECODE, 2, 0, 100]");
	EXPECT_OPS("");
	host_says(h, "[DECODE, 3, 0, 100]"); /* the decoder's memory must be free */
	EXPECT_OPS("reset 3 503 retry 1\n");
	host_says(h, "[DISCARD, 1]");
	EXPECT_OPS("discard 1\n");
	gzip_post(4);
	host_says(h, "[DECODE, 4, 0, 100]");
	EXPECT_OPS("");
	text_clear(&h->heard);
}

static void test_a_decode_comes_before_the_first_read(void **state)
{
	(void)state;
	serving(gzip_post);
	gzip_post(2);
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
	host_says(h, "[READ, 1, 1, 70] [DECODE, 1, 0, 100]");
	EXPECT_OPS("consume 1 1 of 70\nreset 1 500\n");
	host_says(h, "[DECODE, 2, 0, 0] [DECODE, 2, 0, 4294967296] [DECODE, 2, 0, 1] [DECODE, 2, 0, 100]");
	EXPECT_OPS("reset 2 500\n");
	EXPECT_HEARD(h, "[ERROR, 30, 1, 'message', 'must come once, before the first READ', 'reset']\n[GONE, 1, 'error']\n"
			"[ERROR, 30, 2, 'ratio', 'must be 1 to 4294967295', 'ignored']\n"
			"[ERROR, 30, 2, 'ratio', 'must be 1 to 4294967295', 'ignored']\n"
			"[ERROR, 30, 2, 'message', 'must come once, before the first READ', 'reset']\n[GONE, 2, 'error']\n");
}

static void test_the_rest_of_a_decoded_body_can_be_discarded(void **state)
{
	struct stream *s = serving(gzip_post);

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 7]");
	b->sink.on_body(b, s, hello_gzip());
	ends(s, NULL, 0);
	host_says(h, "[DISCARD, 1] [READ, 1, 5, 7]");
	bridge_run(b);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, ']\n");
	EXPECT_OPS("consume 1 1 of 7\n");
	assert_int_equal(b->decode.memory, 0);
}

/* A body that is still being decoded when its response ends leaves nothing behind. */
static void test_an_answer_may_overtake_a_decoded_body(void **state)
{
	struct stream *s = serving(gzip_post);

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 7]");
	b->sink.on_body(b, s, hello_gzip());
	host_says(h, "[READ, 1, 1, 7] [RESPOND, 1, 200, [], '']");
	done(s);
	bridge_run(b);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, ']\n[DONE, 1, nil]\n");
	assert_int_equal(b->decode.memory, 0);
	text_clear(&ops);
}

/* A host that does not keep up delays decoding, as it delays sockets. */
static void test_nothing_is_decoded_for_a_link_that_is_full(void **state)
{
	struct stream *s = serving_with("'max_link': 131072", gzip_post);

	(void)state;
	host_says(h, "[DECODE, 1, 0, 100] [READ, 1, 1, 7]");
	b->sink.on_body(b, s, hello_gzip());
	text_clear(&ops);
	host_says(h, "[READ, 1, 1, 7]");
	h->link.queued += 200000;
	bridge_run(b);
	assert_false(bridge_has_work(b));
	h->link.queued -= 200000;
	assert_true(bridge_has_work(b));
	bridge_run(b);
	EXPECT_HEARD(h, "[BODY, 1, b'Hello, ']\n[BODY, 1, b'decoded']\n");
}

/* When the client reads a compressed response, there is room for more of it, and nothing else would wake the loop. */
static void test_room_for_a_compressed_response_is_work(void **state)
{
	static char message[200100];
	struct request_head head = plain_head();
	struct stream *s;

	(void)state;
	hello_with("'compress': ['gzip'], 'compress_gzip_level': 1, 'window': 160000");
	fields[0] = (struct field){SLICE_LIT("accept-encoding"), SLICE_LIT("gzip"), NAME_ACCEPT_ENCODING};
	head.field_count = 1;
	host_says(h, "[DEMAND, 1]");
	s = request_with(1, head);
	snprintf(message, sizeof message, "[RESPOND, 1, 200, ['content-type', 'text/plain'], '");
	for (size_t i = 0, at = strlen(message); i < 150000; i++)
		message[at + i] = (char)('a' + ((i * i * 31 + i / 7) ^ (i >> 3)) % 26);
	strcat(message, "']");
	host_says(h, message);
	while (bridge_has_work(b))
		bridge_run(b);
	if (s->response != RESPONSE_ENDED) {
		room(s, 65536); /* more than half of the window, but the host has ended the response */
		assert_true(exchange_of(s)->room > 80000);
		assert_true(bridge_has_work(b));
	} else {
		fail_msg("the body is compressed too well for this test");
	}
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_null(strstr(text_str(&h->heard), "ROOM"));
	text_clear(&ops);
	text_clear(&h->heard);
}

/* ---- responses ---- */

static void test_respond_is_head_data_and_end(void **state)
{
	struct stream *s = serving(request);

	(void)state;
	host_says(h, "[RESPOND, 1, 200, [16, 'text/plain', 'X-Own', b'1'], 'Hello']");
	EXPECT_OPS("head 1 200 length=5 content-type=text/plain X-Own=1\ndata 1 Hello\nend 1\n");
	assert_int_equal(b->n.body_queued, 5);
	room(s, 5);
	assert_int_equal(b->n.body_queued, 0);
	done(s);
	EXPECT_HEARD(h, "[DONE, 1, nil]\n");
	assert_int_equal(b->n.responses, 1);
}

static void test_a_streamed_response(void **state)
{
	struct stream *s = serving(request);

	(void)state;
	host_says(h, "[INFORM, 1, 103, ['link', 'x']] [HEAD, 1, 200, ['connection', 'close'], nil] [DATA, 1, 'Hel'] [DATA, 1, '']"
		     "[DATA, 1, 'lo'] [END, 1, ['x-sum', '1']]");
	EXPECT_OPS(
		"info 1 103 link=x\nhead 1 200 length=-1 close connection=close\ndata 1 Hel\ndata 1 \ndata 1 lo\nend 1 x-sum=1\n");
	room(s, 5);
	done(s);
	EXPECT_HEARD(h, "[DONE, 1, nil]\n");
}

static void test_a_head_takes_its_length_from_its_fields(void **state)
{
	struct stream *s = serving(request);

	(void)state;
	host_says(h, "[HEAD, 1, 200, ['Content-Length', '5'], nil] [DATA, 1, 'Hello'] [END, 1, nil]");
	EXPECT_OPS("head 1 200 length=5 Content-Length=5\ndata 1 Hello\nend 1\n");
	EXPECT_HEARD(h, "");
	room(s, 5);
}

static void test_a_response_without_a_body_takes_any_length_and_drops_data(void **state)
{
	struct stream *s = serving(head_request);

	(void)state;
	host_says(h, "[HEAD, 1, 200, ['content-length', '1000'], nil]");
	EXPECT_OPS("head 1 200 length=1000 content-length=1000\nend 1\n");
	assert_true(s->bodiless);
	host_says(h, "[DATA, 1, 'Hello'] [DATA, 1, 'Hello'] [END, 1, ['host', 'x']]");
	EXPECT_OPS("");
	EXPECT_HEARD(h, "");
	assert_int_equal(b->n.dropped, 3);
	assert_int_equal(b->n.body_queued, 0);
	done(s);
	EXPECT_HEARD(h, "[DONE, 1, nil]\n");
	host_says(h, "[DATA, 1, 'Hello'] [END, 1, nil]"); /* they have crossed */
	EXPECT_HEARD(h, "");
	request(2);
	host_says(h, "[RESPOND, 2, 304, ['content-length', '7'], '']");
	EXPECT_OPS("head 2 304 length=7 content-length=7\nend 2\n");
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	request(3);
	host_says(h, "[RESPOND, 3, 205, [], 'Hello']");
	EXPECT_OPS("head 3 205 length=5\nend 3\n");
	EXPECT_HEARD(h, GET_MESSAGE("3"));
}

/* Neither the window nor the length applies, and the report counts the bytes that were sent. */
static void test_a_response_without_a_body_costs_nothing(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'window': 4096, 'report': true");
	host_says(h, "[DEMAND, 9]");
	s = head_request(1);
	host_says(h, "[RESPOND, 1, 200, [], b'x'*4097]");
	EXPECT_OPS("head 1 200 length=4097\nend 1\n");
	done(s);
	s = head_request(2);
	host_says(h, "[HEAD, 2, 200, [], 5]");
	for (unsigned i = 0; i < 10; i++)
		host_says(h, "[DATA, 2, b'x'*4096]");
	host_says(h, "[END, 2, nil]");
	EXPECT_OPS("head 2 200 length=5\nend 2\n");
	assert_int_equal(exchange_of(s)->body_out, 0);
	done(s);
	text_clear(&h->heard);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard), "[DONE, 1, [200, 0, 0, 0, 0, 0]]"));
	assert_non_null(strstr(text_str(&h->heard), "[DONE, 2, [200, 0, 0, 0, 0, 0]]"));
	assert_null(strstr(text_str(&h->heard), "ERROR"));
	assert_null(strstr(text_str(&h->heard), "ROOM"));
	text_clear(&h->heard);
}

static void test_window_is_spent_to_the_byte_and_granted_anew_by_room(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'window': 4096");
	host_says(h, "[DEMAND, 1]");
	s = request(1);
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	host_says(h, "[HEAD, 1, 200, [], nil] [DATA, 1, 'x'*4000] [DATA, 1, 'x'*96]");
	EXPECT_OPS("head 1 200 length=-1\ndata 1 x*4000\ndata 1 x*96\n");
	EXPECT_HEARD(h, "");
	room(s, 2047); /* less than half of the window is collected before a report */
	EXPECT_HEARD(h, "");
	assert_int_equal(exchange_of(s)->window, 0);
	room(s, 1);
	EXPECT_HEARD(h, "[ROOM, 1, 2048]\n");
	room(s, 2048);
	EXPECT_HEARD(h, "[ROOM, 1, 2048]\n");
	host_says(h, "[DATA, 1, 'x'*4096]");
	EXPECT_OPS("data 1 x*4096\n");
	EXPECT_HEARD(h, "");
	host_says(h, "[DATA, 1, 'x']");
	EXPECT_OPS("reset 1 500\n");
	EXPECT_HEARD(h, "[ERROR, 6, 1, 'data', 'exceeds the window', 'reset']\n[GONE, 1, 'error']\n");
}

/* A frame with one DATA, in pieces; the port reads after each piece. */
static void says_in_pieces(const char *message, size_t piece)
{
	struct buf frame = {0};

	notation_frame(&frame, message);
	for (size_t at = 0; at < buf_len(&frame); at += piece)
		host_writes(h, buf_at(&frame) + at, buf_len(&frame) - at < piece ? buf_len(&frame) - at : piece);
	buf_free(&frame);
}

static void test_a_rule_is_for_the_whole_of_a_DATA_that_comes_in_parts(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'window': 4096");
	h->link.part_min = MESSAGE_DATA_HEAD_MAX;
	host_says(h, "[DEMAND, 3]");
	request(1);
	request(2);
	s = request(3);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") GET_MESSAGE("3"));
	host_says(h, "[HEAD, 1, 200, [], nil] [HEAD, 2, 200, [], 100] [HEAD, 3, 200, [], nil]");
	EXPECT_OPS("head 1 200 length=-1\nhead 2 200 length=100\nhead 3 200 length=-1\n");
	says_in_pieces("[DATA, 1, b'x'*4097]", 1000);
	EXPECT_OPS("reset 1 500\n");
	EXPECT_HEARD(h, "[ERROR, 6, 1, 'data', 'exceeds the window', 'reset']\n[GONE, 1, 'error']\n");
	says_in_pieces("[DATA, 2, b'x'*101]", 60);
	EXPECT_OPS("reset 2 500\n");
	EXPECT_HEARD(h, "[ERROR, 6, 2, 'data', 'exceeds the declared length', 'reset']\n[GONE, 2, 'error']\n");
	says_in_pieces("[DATA, 3, b'x'*4096]", 2009);
	EXPECT_OPS("data 3 x*1997\ndata 3 x*2009\ndata 3 x*90\n");
	assert_int_equal(exchange_of(s)->window, 0);
}

static void test_a_DATA_that_comes_in_parts_is_dropped_or_refused_once(void **state)
{
	(void)state;
	hello_with("'window': 4096");
	h->link.part_min = MESSAGE_DATA_HEAD_MAX;
	host_says(h, "[DEMAND, 2]");
	request(1);
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	host_says(h, "[ABORT, 1, 500]");
	EXPECT_OPS("reset 1 500\n");
	EXPECT_HEARD(h, "[GONE, 1, 'aborted']\n");
	says_in_pieces("[DATA, 1, b'x'*1000]", 100);
	assert_int_equal(b->n.dropped, 1);
	says_in_pieces("[DATA, 2, b'x'*1000]", 100);
	EXPECT_HEARD(h, "[ERROR, 6, 2, 'stream', 'was never used', 'ignored']\n");
	assert_int_equal(b->n.errors, 1);
	assert_int_equal(b->n.dropped, 1);
}

static void test_respond_spends_the_window_too(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'window': 4096");
	host_says(h, "[DEMAND, 2]");
	request(1);
	s = request(2);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2"));
	host_says(h, "[RESPOND, 1, 200, [], 'x'*4097]");
	EXPECT_OPS("reset 1 500\n");
	EXPECT_HEARD(h, "[ERROR, 4, 1, 'body', 'exceeds the window', 'reset']\n[GONE, 1, 'error']\n");
	host_says(h, "[RESPOND, 2, 200, [], 'x'*4096]");
	EXPECT_OPS("head 2 200 length=4096\ndata 2 x*4096\nend 2\n");
	room(s, 4096); /* nobody waits for it now */
	EXPECT_HEARD(h, "");
}

static void test_the_report_says_what_it_was(void **state)
{
	struct stream *s;

	(void)state;
	hello_with("'report': true");
	s = request(1);
	h->loop.now_us += 100;
	host_says(h, "[DEMAND, 1]");
	h->loop.now_us += 20;
	host_says(h, "[RESPOND, 1, 404, [], 'Hello']");
	h->loop.now_us += 3;
	s->body_in = 7;
	room(s, 5);
	done(s);
	text_clear(&ops);
	host_listens(h);
	EXPECT_HEARD(h, "[REQUEST, 1, <[11, 0, 0, 'h', '/', nil, nil, nil, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 100, [], " LOCAL
			"]>]\n"
			"[DONE, 1, [404, 7, 5, 100, 20, 23]]\n");
}

/* What leaves in this turn by itself, not because the test looks. */
static void test_done_waits_for_company_only_without_a_report(void **state)
{
	(void)state;
	done(serving(request));
	link_flush(&h->link);
	host_listens(h);
	EXPECT_TEXT(&h->heard, "");
	EXPECT_HEARD(h, "[DONE, 1, nil]\n");
}

static void test_done_with_a_report_goes_at_once(void **state)
{
	struct stream *s = serving_with("'report': true", request);

	(void)state;
	host_says(h, "[RESPOND, 1, 204, [], '']");
	done(s);
	text_clear(&ops);
	link_flush(&h->link);
	host_listens(h);
	EXPECT_TEXT(&h->heard, "[DONE, 1, [204, 0, 0, 0, 0, 0]]\n");
}

static void test_a_handler_that_says_nothing_is_timed_out(void **state)
{
	(void)state;
	hello_with("'handler_timeout': 1000");
	host_says(h, "[DEMAND, 2]");
	request(1);
	request(2);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2"));
	host_says(h, "[HEAD, 2, 200, [], nil]");
	text_clear(&ops);
	host_pass_time(h, 999);
	EXPECT_OPS("");
	host_pass_time(h, 1 + WHEEL_SLOT);
	EXPECT_OPS("reset 1 503 retry 1\n");
	EXPECT_HEARD(h, "[GONE, 1, 'timeout']\n");
	assert_int_equal(b->n.timeouts, 1);
	host_pass_time(h, 100000);
	EXPECT_OPS("");
}

static void test_time_in_the_queue_is_not_the_handlers(void **state)
{
	(void)state;
	hello_with("'handler_timeout': 1000, 'queue_timeout': 60000");
	request(1);
	host_pass_time(h, 50000);
	host_says(h, "[DEMAND, 1]");
	host_pass_time(h, 999);
	EXPECT_OPS("");
	host_pass_time(h, 1 + WHEEL_SLOT);
	EXPECT_OPS("reset 1 503 retry 1\n");
	host_listens(h);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

/* ---- ends ---- */

static void test_each_end_is_told_once_with_its_reason(void **state)
{
	static const char *const reasons[] = {"closed", "reset", "timeout", "aborted", "error", "drained"};

	(void)state;
	hello();
	host_says(h, "[DEMAND, 10]");
	for (unsigned i = 0; i < 6; i++) {
		char wanted[200];
		struct stream *s = request(i + 1);
		stream_detach(s);
		b->sink.on_reset(b, s, (enum stream_end)i);
		snprintf(wanted, sizeof wanted,
			 "[REQUEST, %u, <[11, 0, 0, 'h', '/', nil, nil, nil, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 0, [], " LOCAL
			 "]>]\n"
			 "[GONE, %u, '%s']\n",
			 i + 1, i + 1, reasons[i]);
		EXPECT_HEARD(h, wanted);
	}
}

static void test_messages_for_streams_that_are_over_are_dropped_and_counted(void **state)
{
	struct stream *s = serving(request);

	(void)state;
	stream_detach(s);
	b->sink.on_reset(b, s, END_CLOSED);
	EXPECT_HEARD(h, "[GONE, 1, 'closed']\n");
	host_says(h, "[READ, 1, 1, 1] [DISCARD, 1] [RESPOND, 1, 200, [], ''] [HEAD, 1, 200, [], nil] [DATA, 1, 'x'] [END, 1, nil]"
		     "[INFORM, 1, 103, []] [ABORT, 1, 500]");
	EXPECT_HEARD(h, "");
	EXPECT_OPS("");
	assert_int_equal(b->n.dropped, 8);
	assert_int_equal(b->n.errors, 0);
}

/* A stream that has ended while its session waits for the host to release it. */
static struct stream *owed(void)
{
	struct stream *s = serving(request);

	s->owed = true;
	stream_detach(s);
	b->sink.on_reset(b, s, END_RESET);
	EXPECT_HEARD(h, "[GONE, 1, 'reset']\n");
	EXPECT_OPS("");
	return s;
}

static void test_what_is_owed_is_released_once(void **state)
{
	(void)state;
	owed();
	host_says(h, "[RELEASE, 1] [RELEASE, 1]");
	EXPECT_OPS("release 1\n");
	EXPECT_HEARD(h, "");
	assert_int_equal(b->owed.count, 0);
}

static void test_a_last_word_releases_too(void **state)
{
	static const char *const words[] = {"[RESPOND, 1, 200, [], '']", "[END, 1, nil]", "[ABORT, 1, 500]"};

	for (unsigned i = 0; i < 3; i++) {
		owed();
		host_says(h, "[READ, 1, 1, 1] [DATA, 1, 'x'] [HEAD, 1, 200, [], nil]");
		EXPECT_OPS("");
		host_says(h, words[i]);
		EXPECT_OPS("release 1\n");
		EXPECT_HEARD(h, "");
		teardown(state);
		setup(state);
	}
}

static void test_what_lapsed_is_not_released(void **state)
{
	struct stream *s = owed();

	(void)state;
	b->sink.on_lapse(b, s);
	s->owed = false;
	host_says(h, "[RELEASE, 1]");
	EXPECT_OPS("");
	EXPECT_HEARD(h, "");
}

static void test_the_queue_owes_nothing(void **state)
{
	struct stream *s;

	(void)state;
	hello();
	s = request(1);
	s->owed = true;
	stream_detach(s);
	b->sink.on_reset(b, s, END_RESET);
	EXPECT_OPS("release 1\n"); /* the host never learned of it */
	EXPECT_HEARD(h, "");
}

static void test_only_what_is_gone_is_released(void **state)
{
	(void)state;
	serving(request);
	host_says(h, "[RELEASE, 1] [RELEASE, 2] [RELEASE, 0]");
	EXPECT_HEARD(h, "[ERROR, 17, 1, 'stream', 'has not ended', 'ignored']\n"
			"[ERROR, 17, 2, 'stream', 'was never used', 'ignored']\n"
			"[ERROR, 17, nil, 'stream', 'was never used', 'ignored']\n");
	EXPECT_OPS("");
}

static void test_an_abort_is_gone_and_frees_what_it_held(void **state)
{
	struct stream *s = serving(post);

	(void)state;
	host_says(h, "[READ, 1, 3, 10] [HEAD, 1, 200, [], nil] [DATA, 1, 'Hello'] [ABORT, 1, 502] [DATA, 1, 'x']");
	EXPECT_OPS("consume 1 3 of 10\nhead 1 200 length=-1\ndata 1 Hello\nreset 1 502\n");
	EXPECT_HEARD(h, "[GONE, 1, 'aborted']\n");
	assert_true(s->detached);
	assert_int_equal(b->n.read_credit, 0);
	assert_int_equal(b->n.body_queued, 0);
	assert_int_equal(b->n.dropped, 1);
}

static void test_a_stream_that_finds_no_memory_is_cut(void **state)
{
	(void)state;
	serving(request);
	out_of_memory = true;
	host_says(h, "[RESPOND, 1, 200, [], 'Hello'] [DATA, 1, 'x']");
	EXPECT_OPS("head 1 200 length=5\nreset 1 0\n");
	EXPECT_HEARD(h, "[GONE, 1, 'error']\n");
}

/* ---- wrong messages: PROTOCOL.md section 6 ---- */

static void test_what_cannot_be_read_is_told_and_ignored(void **state)
{
	(void)state;
	hello();
	host_says(h, "[99, 1] [PONG, 1] [PING] [PING, 'x'] [DATA, 5, 6] [HELLO, 1, {}] 5 [PING, 7]");
	EXPECT_HEARD(h, "[ERROR, 99, nil, 'kind', 'is unknown', 'ignored']\n"
			"[ERROR, 74, nil, 'kind', 'belongs to the other direction', 'ignored']\n"
			"[ERROR, 12, nil, 'tag', 'is missing', 'ignored']\n"
			"[ERROR, 12, nil, 'tag', 'must be an unsigned integer', 'ignored']\n"
			"[ERROR, 6, 5, 'data', 'must be bytes (bin or str)', 'ignored']\n"
			"[ERROR, 0, nil, 'kind', 'must come only once', 'ignored']\n"
			"[ERROR, nil, nil, 'message', 'must be an array that begins with its kind', 'ignored']\n"
			"[PONG, 7]\n");
	assert_int_equal(b->n.errors, 7);
	EXPECT_OPS("");
}

static void test_a_payload_that_is_no_msgpack_loses_the_rest_of_its_frame(void **state)
{
	(void)state;
	hello();
	host_writes(h, "\0\0\0\x07\x92\x0c\x01\xc1\x92\x0c\x02\0\0\0\x03\x92\x0c\x03", 4 + 7 + 4 + 3);
	EXPECT_HEARD(h, "[PONG, 1]\n[ERROR, nil, nil, 'message', 'is not msgpack, or is truncated', 'ignored']\n[PONG, 3]\n");
}

static void test_numbers_out_of_range_are_ignored(void **state)
{
	(void)state;
	serving(post);
	host_says(h, "[DEMAND, 0] [READ, 1, 0, 5] [READ, 1, 5, 0] [ABORT, 1, 399] [ABORT, 1, 600] [INFORM, 1, 99, []] [INFORM, 1, "
		     "200, []]");
	EXPECT_HEARD(h, "[ERROR, 1, nil, 'count', 'must be 1 to 4294967295', 'ignored']\n"
			"[ERROR, 2, 1, 'chunks', 'must be 1 to 4294967295', 'ignored']\n"
			"[ERROR, 2, 1, 'max', 'must be 1 to 4294967295', 'ignored']\n"
			"[ERROR, 9, 1, 'status', 'must be 400 to 599', 'ignored']\n"
			"[ERROR, 9, 1, 'status', 'must be 400 to 599', 'ignored']\n"
			"[ERROR, 8, 1, 'status', 'must be 100 to 199', 'ignored']\n"
			"[ERROR, 8, 1, 'status', 'must be 100 to 199', 'ignored']\n");
	EXPECT_OPS("");
}

static void test_streams_that_were_never_given_out_are_told(void **state)
{
	(void)state;
	serving(request);
	host_says(h, "[DATA, 2, 'x'] [ABORT, 9007199254740991, 500] [DISCARD, 0]");
	EXPECT_HEARD(h, "[ERROR, 6, 2, 'stream', 'was never used', 'ignored']\n"
			"[ERROR, 9, 9007199254740991, 'stream', 'was never used', 'ignored']\n"
			"[ERROR, 3, nil, 'stream', 'was never used', 'ignored']\n");
	EXPECT_OPS("");
	assert_int_equal(b->n.dropped, 0);
}

/* Each message ends the stream that it names, once. */
static void expect_breaks(const char *before, const char *message, unsigned kind, const char *field, const char *rule)
{
	char wanted[300];

	teardown(NULL);
	setup(NULL);
	serving(request);
	if (*before)
		host_says(h, before);
	text_clear(&ops);
	host_says(h, message);
	snprintf(wanted, sizeof wanted, "[ERROR, %u, 1, '%s', '%s', 'reset']\n[GONE, 1, 'error']\n", kind, field, rule);
	EXPECT_HEARD(h, wanted);
	EXPECT_OPS("reset 1 500\n");
	host_says(h, message);
	EXPECT_HEARD(h, "");
	assert_int_equal(b->n.dropped, 1);
}

static void test_messages_that_the_state_does_not_allow_end_the_stream(void **state)
{
	static const char head[] = "[HEAD, 1, 200, [], nil]", whole[] = "[RESPOND, 1, 200, [], 'x']";
	static const char begun[] = "the response has begun already", not_now[] = "the response has not begun, or has ended";

	(void)state;
	expect_breaks("", "[DATA, 1, 'x']", 6, "message", not_now);
	expect_breaks("", "[END, 1, nil]", 7, "message", not_now);
	expect_breaks(head, head, 5, "message", begun);
	expect_breaks(head, whole, 4, "message", begun);
	expect_breaks(head, "[INFORM, 1, 103, []]", 8, "message", begun);
	expect_breaks(whole, whole, 4, "message", begun);
	expect_breaks(whole, head, 5, "message", begun);
	expect_breaks(whole, "[DATA, 1, '']", 6, "message", not_now);
	expect_breaks(whole, "[END, 1, nil]", 7, "message", not_now);
}

static void test_responses_that_must_not_be_said_end_the_stream(void **state)
{
	(void)state;
	expect_breaks("", "[RESPOND, 1, 199, [], '']", 4, "status", "must be 200 to 599");
	expect_breaks("", "[RESPOND, 1, 600, [], '']", 4, "status", "must be 200 to 599");
	expect_breaks("", "[HEAD, 1, 4294967496, [], nil]", 5, "status", "must be 200 to 599");
	expect_breaks("", "[INFORM, 1, 101, []]", 8, "headers", "must have a status of 100 to 199, and not 101");
	expect_breaks("", "[RESPOND, 1, 200, ['a'], '']", 4, "headers", "must be an array of names and values");
	expect_breaks("", "[RESPOND, 1, 200, ['a', 1], '']", 4, "headers", "has a value that is not bytes");
	expect_breaks("", "[RESPOND, 1, 200, [64, 'x'], '']", 4, "headers",
		      "has a name that is neither text nor an index of the table");
	expect_breaks("", "[RESPOND, 1, 200, ['a b', 'x'], '']", 4, "headers", "has a name that is not a token: a?b");
	expect_breaks("", "[RESPOND, 1, 200, ['', 'x'], '']", 4, "headers", "has a name that is not a token");
	expect_breaks("", "[RESPOND, 1, 200, ['a', 'x\r\ny: z'], '']", 4, "headers", "has a value with a control character: a");
	expect_breaks("", "[RESPOND, 1, 200, [58, 'chunked'], '']", 4, "headers",
		      "has a framing or hop-by-hop field: transfer-encoding");
	expect_breaks("", "[RESPOND, 1, 200, ['Upgrade', 'x'], '']", 4, "headers", "has a framing or hop-by-hop field: Upgrade");
	expect_breaks("", "[RESPOND, 1, 200, ['connection', 'upgrade'], '']", 4, "headers",
		      "has a connection field other than close or keep-alive: connection");
	expect_breaks("", "[RESPOND, 1, 200, ['content-length', '5'], 'x']", 4, "headers",
		      "has a content-length that is not the body's: content-length");
	expect_breaks("", "[HEAD, 1, 200, ['content-length', '5'], 6]", 5, "headers",
		      "has a content-length that is not the body's: content-length");
	expect_breaks("", "[HEAD, 1, 200, ['content-length', 'x'], nil]", 5, "headers",
		      "has a content-length that is not a number: content-length");
	expect_breaks("", "[HEAD, 1, 200, [], 9223372036854775808]", 5, "length", "is too large");
	expect_breaks("", "[INFORM, 1, 103, ['content-length', '0']]", 8, "headers",
		      "has a framing or hop-by-hop field: content-length");
	expect_breaks("[HEAD, 1, 200, [], nil]", "[END, 1, ['host', 'x']]", 7, "trailers",
		      "has a field that is not allowed in trailers: host");
	expect_breaks("", "[RESPOND, 1, 200, [b'x'*100, 'x', 'te\x01\xff', 'x'], '']", 4, "headers",
		      "has a name that is not a token: te??");
}

static void test_a_connection_field_that_says_keep_alive_means_nothing(void **state)
{
	(void)state;
	serving(request);
	host_says(h, "[INFORM, 1, 103, ['Connection', 'keep-alive']] [RESPOND, 1, 200, ['Connection', 'Keep-Alive'], '']");
	EXPECT_OPS("info 1 103 Connection=keep-alive\nhead 1 200 length=0 Connection=Keep-Alive\ndata 1 \nend 1\n");
	EXPECT_HEARD(h, "");
}

static struct text logged;

static void note_log(void *ctx, enum log_level level, const char *text)
{
	(void)ctx;
	(void)level;
	text_add(&logged, "%s\n", text);
}

static void test_a_line_about_a_response_names_its_request(void **state)
{
	(void)state;
	serving(request);
	log_to(note_log, NULL);
	host_says(h, "[RESPOND, 1, 200, ['x-own', '1', 'Keep-Alive', 'x'], '']");
	EXPECT_TEXT(&logged, "response to GET / refused: headers has a framing or hop-by-hop field: Keep-Alive\n");
	log_to(NULL, NULL);
	text_free(&logged);
	text_clear(&ops);
	text_clear(&h->heard);
}

static void test_fields_that_are_too_long_are_refused(void **state)
{
	(void)state;
	expect_breaks("", "[RESPOND, 1, 200, ['x-big', b'v'*65536], 'x']", 4, "headers", "is longer than 65536 bytes");
	expect_breaks("", "[HEAD, 1, 200, ['x-big', b'v'*65536], nil]", 5, "headers", "is longer than 65536 bytes");
	expect_breaks("", "[INFORM, 1, 103, ['x-big', b'v'*65536]]", 8, "headers", "is longer than 65536 bytes");
	expect_breaks("[HEAD, 1, 200, [], nil]", "[END, 1, ['x-big', b'v'*65536]]", 7, "trailers", "is longer than 65536 bytes");
	teardown(NULL);
	setup(NULL);
	serving(request);
	host_says(h, "[RESPOND, 1, 204, ['x-big', b'v'*65524], '']"); /* 3 + 6 + 3 + the value */
	EXPECT_HEARD(h, "");
	text_clear(&ops);
}

static void test_data_beyond_or_short_of_the_length_ends_the_stream(void **state)
{
	(void)state;
	expect_breaks("[HEAD, 1, 200, [], 3] [DATA, 1, 'ab']", "[DATA, 1, 'cd']", 6, "data", "exceeds the declared length");
	expect_breaks("[HEAD, 1, 200, [], 3] [DATA, 1, 'ab']", "[END, 1, nil]", 7, "message",
		      "the body is shorter than its declared length");
	expect_breaks("[HEAD, 1, 200, ['content-length', '3'], nil]", "[END, 1, nil]", 7, "message",
		      "the body is shorter than its declared length");
}

static void test_errors_beyond_what_the_link_holds_are_dropped_and_counted(void **state)
{
	(void)state;
	hello_with("'max_link': 131072");
	for (unsigned i = 0; i < 5000; i++)
		host_says(h, "[PING, 'x']");
	assert_true(h->link.queued <= 131072 + 65536);
	assert_true(b->n.logs_dropped > 0);
	assert_int_equal(b->n.errors, 5000);
	host_says(h, "[PING, 1]"); /* answers do not count as activity */
	host_listens(h);
	for (unsigned i = 0; i < 100 && h->link.queued; i++) {
		h->link.urgent = true;
		h->link.out_blocked = false;
		link_flush(&h->link);
		host_listens(h);
	}
	assert_non_null(strstr(text_str(&h->heard), "[PONG, 1]"));
	text_clear(&h->heard);
}

/* ---- TLS ---- */

#define PLAIN "{'address': '10.0.0.0'}"
#define SECURE(key) "{'address': '10.0.0.1', 'tls': {'" key "': 'a secret, which is long enough to be found'}}"

/* Secrets are overwritten in the buffer in which they arrived. */
static void expect_wiped(void)
{
	assert_true(certified.len > 30);
	for (size_t i = 0; i < certified.len; i++)
		assert_int_equal(certified.at[i], 0);
	assert_null(memmem(h->link.input.data, h->link.input.cap, "secret", 6));
}

static void secure_hello(void)
{
	host_says(h, "[HELLO, 1, {'listeners': [" PLAIN ", " SECURE("certificates") "]}]");
	EXPECT_TEXT(&ops, "certify 1, 60 bytes\nlisten\n");
	expect_wiped();
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_what_listeners_show_comes_with_hello(void **state)
{
	(void)state;
	secure_hello();
	assert_null(config.listeners[1].tls.at);
}

static void test_a_hello_with_a_wrong_certificate_fails(void **state)
{
	(void)state;
	host_says(h, "[HELLO, 1, {'listeners': [" PLAIN ", " SECURE("wrong") "]}]");
	EXPECT_HEARD(h, "[ERROR, 0, nil, 'certificates', '0: key does not fit the certificate', 'exit']\n");
	EXPECT_TEXT(&ops, "certify 1, 53 bytes\nstop 2\n");
	expect_wiped();
}

static void test_certificates_are_replaced(void **state)
{
	(void)state;
	secure_hello();
	host_says(h, "[CERTIFICATES, 77, 1, {'certificates': 'the newer secret, which is as long'}]");
	EXPECT_HEARD(h, "[CERTIFIED, 77, 3]\n");
	EXPECT_TEXT(&ops, "certify 1, 52 bytes\n");
	expect_wiped();
	host_says(h, "[CERTIFICATES, 78, 1, {'wrong': 'the newer secret, which is as long as it was'}]");
	EXPECT_HEARD(h, "[ERROR, 20, nil, 'certificates', '0: key does not fit the certificate', 'ignored']\n");
	EXPECT_TEXT(&ops, "certify 1, 55 bytes\n");
	expect_wiped();
	host_says(h, "[CERTIFICATES, 79, 0, {'certificates': 'the newest secret'}] [CERTIFICATES, 80, 2, {'certificates': 'the "
		     "newest secret'}]");
	EXPECT_HEARD(h, "[ERROR, 20, nil, 'listener', 'must be one with tls', 'ignored']\n"
			"[ERROR, 20, nil, 'listener', 'must be one with tls', 'ignored']\n");
	EXPECT_TEXT(&ops, "");
	assert_null(memmem(h->link.input.data, h->link.input.cap, "secret", 6));
}

/* Two frames of one read: the session reads the bytes of the first one later in the turn. */
static void test_a_secret_is_overwritten_but_not_the_data_before_it(void **state)
{
	enum { LENGTH = 10000 };
	static uint8_t frames[4 + 6 + LENGTH + 4 + 11] = {0, 0,    (6 + LENGTH) >> 8, (6 + LENGTH) & 0xff, 0x93, 6,
							  1, 0xc5, LENGTH >> 8,       LENGTH & 0xff};
	static const uint8_t tickets[] = {0, 0, 0, 11, 0x93, 21, 1, 0xc4, 6, 's', 'e', 'c', 'r', 'e', 't'};

	(void)state;
	memset(frames + 10, 'x', LENGTH);
	memcpy(frames + 10 + LENGTH, tickets, sizeof tickets);
	secure_hello();
	host_says(h, "[DEMAND, 1]");
	request(1);
	host_says(h, "[HEAD, 1, 200, [], nil]");
	text_clear(&h->heard);
	host_writes(h, frames, sizeof frames);
	assert_int_equal(lent.len, LENGTH);
	for (size_t i = 0; i < LENGTH; i++)
		assert_int_equal(lent.at[i], 'x');
	assert_null(memmem(h->link.input.data, h->link.input.cap, "secret", 6));
	host_listens(h);
	text_clear(&h->heard);
	text_clear(&ops);
}

static void test_the_secret_of_tickets_is_replaced(void **state)
{
	(void)state;
	secure_hello();
	host_says(h, "[TICKETS, 1, 'a secret of sixty-four bytes, no more of them and also no fewer.']");
	EXPECT_HEARD(h, "");
	EXPECT_TEXT(&ops, "tickets 1, 64 bytes\n");
	expect_wiped();
	host_says(h, "[TICKETS, 1, 'a short secret'] [TICKETS, 0, 'a short secret']");
	EXPECT_HEARD(h, "[ERROR, 21, nil, 'key', 'must be 64 bytes', 'ignored']\n"
			"[ERROR, 21, nil, 'listener', 'must be one with tls', 'ignored']\n");
	EXPECT_TEXT(&ops, "tickets 1, 14 bytes\n");
}

static void test_a_request_tells_what_its_connection_agreed_on(void **state)
{
	static const struct secure full = {13, 0x1301, SLICE_LIT("h"), SLICE_LIT("h2"), true, SLICE_LIT("der")};
	static const struct secure poor = {.version = 12, .cipher = 0xc02b};
	struct request_head head = plain_head();

	(void)state;
	hello();
	host_says(h, "[DEMAND, 1]");
	head.https = true;
	head.secure = &full;
	request_with(1, head);
	head.secure = &poor;
	request_with(2, head); /* it waits for demand */
	EXPECT_HEARD(h, "[REQUEST, 1, <[11, 0, 1, 'h', '/', nil, nil, nil, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 0, [], " LOCAL
			", [13, 4865, 'h', 'h2', true, b'der']]>]\n");
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, "[REQUEST, 2, <[11, 0, 1, 'h', '/', nil, nil, nil, 0, b'\\x7f\\x00\\x00\\x01', 50000, 0, 0, [], " LOCAL
			", [12, 49195, nil, nil, false, nil]]>]\n");
}

static void test_a_listener_may_send_its_clients_to_https(void **state)
{
	struct request_head head = plain_head();

	(void)state;
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '10.0.0.0', 'redirect': 4443}]}] [DEMAND, 9]");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
	text_clear(&ops);
	head.authority = SLICE_LIT("a.example:80");
	head.path = SLICE_LIT("/x");
	head.query = SLICE_LIT("y=1");
	request_with(1, head);
	head.authority = SLICE_LIT("[::1]");
	head.query = (struct slice){0};
	request_with(2, head);
	head.authority = (struct slice){0};
	request_with(3, head);
	EXPECT_HEARD(h, "");
	EXPECT_TEXT(&ops, "head 1 308 length=0 location=https://a.example:4443/x?y=1\nend 1\n"
			  "head 2 308 length=0 location=https://[::1]:4443/x\nend 2\nreset 3 400\n");
}

static unsigned count_of(struct text *t, const char *part)
{
	unsigned count = 0;

	for (const char *at = text_str(t); (at = strstr(at, part)); at++)
		count++;
	return count;
}

static void test_clients_of_https_stay_with_it(void **state)
{
	(void)state;
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '10.0.0.0', 'hsts': 86400, 'tls': {'x': 'y'}}]}] [DEMAND, 9]");
	request(1);
	request(2);
	host_says(h, "[RESPOND, 1, 200, ['a', 'b'], 'x'] [RESPOND, 2, 200, ['Strict-Transport-Security', 'max-age=0'], '']");
	assert_non_null(strstr(text_str(&ops), "a=b strict-transport-security=max-age=86400\n"));
	assert_non_null(strstr(text_str(&ops), "Strict-Transport-Security=max-age=0\n"));
	assert_int_equal(count_of(&ops, "max-age"), 2);
	text_clear(&ops);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_only_https_has_clients_that_stay(void **state)
{
	(void)state;
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '10.0.0.0', 'hsts': 86400}]}]");
	EXPECT_HEARD(h, "[ERROR, 0, nil, 'hsts', 'needs a listener with tls', 'exit']\n");
	EXPECT_TEXT(&ops, "stop 2\n");
}

/* ---- the whole ---- */

static void test_interim_answers_that_nobody_takes_are_dropped(void **state)
{
	struct stream *s = serving(request);

	(void)state;
	s->interim = 16384;
	host_says(h, "[INFORM, 1, 103, []] [PUSH, 1, '/', []]");
	EXPECT_OPS("info 1 103\n");
	s->interim++;
	host_says(h, "[INFORM, 1, 103, []] [PUSH, 1, '/', []]");
	EXPECT_OPS("");
	assert_int_equal(b->n.dropped, 2);
	host_says(h, "[RESPOND, 1, 200, [], '']");
	EXPECT_OPS("head 1 200 length=0\ndata 1 \nend 1\n");
	EXPECT_HEARD(h, "");
}

/* ---- descriptors ---- */

static struct channel_host channel;

/* A host that passes files, and one request: stream 1. */
static struct stream *handing(const char *options)
{
	char all[200];
	struct stream *s;

	channel_host_start(&channel);
	snprintf(all, sizeof all, "'descriptors': '%s'%s%s", channel.path, *options ? ", " : "", options);
	s = serving_with(all, request);
	channel_host_accept(&channel);
	return s;
}

static void hand(const char *text, int fd)
{
	channel_host_hands(&channel, text, fd);
	b->channel.ready = true;
	bridge_receive(b);
}

static void handed_over(void)
{
	channel_host_stop(&channel);
	text_clear(&ops);
}

static void test_ready_says_whether_there_is_a_channel(void **state)
{
	char text[200];

	(void)state;
	channel_host_start(&channel);
	snprintf(text, sizeof text, "[HELLO, 1, {'listeners': [{'address': '::1'}], 'descriptors': '%s'}]", channel.path);
	host_says(h, text);
	channel_host_accept(&channel);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard), "'tls', 'descriptors'"));
	text_clear(&h->heard);
	handed_over();
}

static void test_without_a_channel_the_port_serves_and_says_so(void **state)
{
	(void)state;
	log_to(bridge_log, b);
	host_says(h, "[HELLO, 1, {'listeners': [{'address': '::1'}], 'descriptors': '/nowhere/s'}]");
	EXPECT_OPS("listen\n");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_non_null(strstr(text_str(&h->heard), "no channel for descriptors: /nowhere/s"));
	assert_null(strstr(text_str(&h->heard), "'tls', 'descriptors'"));
	text_clear(&h->heard);
}

static void test_a_file_is_held_till_its_stream_ends(void **state)
{
	struct stream *s = handing("");
	unsigned before = descriptors_open();

	(void)state;
	hand("[0, 5, 1]", file_with("x", 1));
	hand("[0, 6, 1]", file_with("x", 1));
	assert_int_equal(b->handed.count, 2);
	assert_int_equal(descriptors_open(), before + 2);
	stream_detach(s);
	b->sink.on_reset(b, s, END_CLOSED);
	assert_int_equal(b->handed.count, 0);
	assert_int_equal(descriptors_open(), before);
	EXPECT_HEARD(h, "[GONE, 1, 'closed']\n");
	handed_over();
}

static void test_a_file_that_crosses_the_end_of_its_stream_is_dropped(void **state)
{
	struct stream *s = handing("");
	unsigned before = descriptors_open();

	(void)state;
	host_says(h, "[RESPOND, 1, 200, [], 'x']");
	hand("[0, 5, 1]", file_with("x", 1));
	done(s);
	hand("[0, 6, 1]", file_with("x", 1));
	assert_int_equal(b->n.dropped, 2);
	assert_int_equal(descriptors_open(), before);
	EXPECT_HEARD(h, "[DONE, 1, nil]\n");
	handed_over();
}

#define WRONG(stream, rule) "[ERROR, nil, " stream ", 'descriptor', '" rule "', 'ignored']\n"

static void test_a_descriptor_that_is_wrong_is_told_and_closed(void **state)
{
	unsigned before;
	int pair[2];

	(void)state;
	handing("'max_files': 2");
	before = descriptors_open();
	hand("[0, 5, 0]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("nil", "is for a stream that was never used"));
	hand("[0, 5, 2]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("2", "is for a stream that was never used"));
	assert_int_equal(pipe(pair), 0);
	hand("[0, 5, 1]", pair[0]);
	close(pair[1]);
	EXPECT_HEARD(h, WRONG("1", "must be a regular file that is open for reading only"));
	hand("[9, 5, 1]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("1", "is for an unknown use"));
	hand("[3, 5, 1]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("1", "is for all streams, and must name none"));
	assert_int_equal(descriptors_open(), before);
	hand("[0, 5, 1]", file_with("x", 1));
	hand("[0, 5, 1]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("1", "has a token that is in use"));
	hand("[0, 6, 1]", file_with("x", 1));
	hand("[0, 7, 1]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("1", "exceeds max_files"));
	hand("[3, 8, 0]", file_with("x", 1));
	EXPECT_HEARD(h, WRONG("nil", "exceeds max_files"));
	assert_int_equal(descriptors_open(), before + 2);
	assert_int_equal(b->n.errors, 8);
	handed_over();
}

static void test_a_file_of_all_streams_is_held_till_close_file(void **state)
{
	struct stream *s = handing("");
	unsigned before = descriptors_open();

	(void)state;
	hand("[3, 5, 0]", file_with("x", 1));
	hand("[3, 6, 0]", file_with("x", 1));
	stream_detach(s);
	b->sink.on_reset(b, s, END_CLOSED);
	EXPECT_HEARD(h, "[GONE, 1, 'closed']\n");
	assert_int_equal(b->handed.count, 2);
	assert_int_equal(descriptors_open(), before + 2);
	host_says(h, "[CLOSE_FILE, 5]");
	assert_int_equal(b->handed.count, 1);
	assert_int_equal(descriptors_open(), before + 1);
	EXPECT_HEARD(h, "");
	host_says(h, "[CLOSE_FILE, 5]");
	EXPECT_HEARD(h, "[ERROR, 32, nil, 'token', 'names no file that was handed over for all streams', 'ignored']\n");
	handed_over(); /* the end of the bridge closes the other one */
}

static void test_close_file_closes_no_file_of_a_stream(void **state)
{
	(void)state;
	handing("");
	hand("[0, 5, 1]", file_with("x", 1));
	host_says(h, "[CLOSE_FILE, 5]");
	EXPECT_HEARD(h, "[ERROR, 32, nil, 'token', 'names no file that was handed over for all streams', 'ignored']\n");
	assert_int_equal(b->handed.count, 1);
	handed_over();
}

static void test_close_file_may_overtake_its_file(void **state)
{
	unsigned before;

	(void)state;
	handing("");
	before = descriptors_open();
	channel_host_hands(&channel, "[3, 5, 0]", file_with("x", 1));
	host_says(h, "[CLOSE_FILE, 5]");
	EXPECT_HEARD(h, "");
	assert_int_equal(b->handed.count, 0);
	assert_int_equal(descriptors_open(), before);
	handed_over();
}

static void test_the_end_of_the_channel_leaves_what_is_held(void **state)
{
	(void)state;
	handing("");
	hand("[0, 5, 1]", file_with("x", 1));
	channel_host_stop(&channel);
	b->channel.ready = true;
	assert_false(bridge_receive(b));
	assert_false(b->channel.open);
	assert_int_equal(b->handed.count, 1);
	handed_over();
}

/* ---- fair shares ---- */

static struct share *peer_of(const char *address)
{
	struct ip ip;

	assert_true(ip_parse(slice_str(address), &ip));
	return shares_take(&b->shares, &ip);
}

static void shares_with(const char *options)
{
	char text[200];

	snprintf(text, sizeof text, "'share': 2%s%s", *options ? ", " : "", options);
	hello_with(text);
	alice = peer_of("192.0.2.1");
	bob = peer_of("2001:db8::1");
}

static struct stream *request_of(unsigned number, struct share *share)
{
	struct peer peer = {
		.address = {127, 0, 0, 1}, .address_len = 4, .port = 50000, .local = {127, 0, 0, 1, 0x0f, 0xa0}, .share = share};

	return request_of_peer(number, plain_head(), &peer);
}

static void requests_of(unsigned first, unsigned last, struct share *share)
{
	for (unsigned i = first; i <= last; i++)
		request_of(i, share);
}

static void lost(unsigned number)
{
	stream_detach(&streams[number].s);
	b->sink.on_reset(b, &streams[number].s, END_RESET);
}

static void expect_figures(const char *wanted)
{
	host_says(h, "[STATS, 0]");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	if (!strstr(text_str(&h->heard), wanted))
		fail_msg("no %s in %s", wanted, text_str(&h->heard));
	text_clear(&h->heard);
}

/* The example of PROTOCOL.md, section 3.5. */
static void test_a_peer_has_its_share_of_demand_and_a_newcomer_finds_room(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 6]");
	requests_of(1, 6, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") GET_MESSAGE("3") GET_MESSAGE("4"));
	expect_figures("'queued': 2, 'held_back': 2, 'peers': 2, ");
	request_of(7, bob);
	EXPECT_HEARD(h, GET_MESSAGE("7"));
	request_of(8, bob);
	EXPECT_HEARD(h, GET_MESSAGE("8"));               /* one in progress is less than twice the one that remains */
	expect_figures("'queued': 2, 'held_back': 0, "); /* there is no demand for them */
	host_says(h, "[RESPOND, 1, 200, [], ''] [DEMAND, 1]");
	EXPECT_HEARD(h, "");
	expect_figures("'queued': 2, 'held_back': 2, ");
	host_says(h, "[RESPOND, 2, 200, [], ''] [RESPOND, 3, 200, [], '']");
	EXPECT_HEARD(h, GET_MESSAGE("5")); /* an end makes room, as demand does */
	host_says(h, "[YIELD, 5] [DEMAND, 1]");
	EXPECT_HEARD(h, GET_MESSAGE("6"));
}

static void test_a_peer_whose_answers_wait_for_it_begins_no_more(void **state)
{
	(void)state;
	shares_with("'max_unsent': 9000");
	host_says(h, "[DEMAND, 100]");
	requests_of(1, 2, alice);
	request_of(3, bob);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") GET_MESSAGE("3"));
	host_says(h, "[RESPOND, 1, 200, [], 'x'*4000] [RESPOND, 2, 200, [], 'y'*2000]");
	requests_of(4, 5, alice); /* 6,000 are not less than twice the 3,000 that are free */
	EXPECT_HEARD(h, "");
	expect_figures("'queued': 2, 'held_back': 2, ");
	request_of(6, bob);
	EXPECT_HEARD(h, GET_MESSAGE("6"));
	room(&streams[1].s, 1); /* 5,999 are */
	EXPECT_HEARD(h, GET_MESSAGE("4") GET_MESSAGE("5"));
	host_says(h, "[RESPOND, 3, 200, [], 'z'*3001]"); /* that is all */
	request_of(7, alice);
	request_of(8, bob);
	EXPECT_HEARD(h, "");
	lost(2); /* bytes for a client that has left no longer wait */
	EXPECT_HEARD(h, GET_MESSAGE("8") GET_MESSAGE("7") "[GONE, 2, 'reset']\n");
	text_clear(&ops);
}

/* HTTP/3 keeps sent bytes until they are acknowledged. */
static void test_what_a_session_keeps_counts_for_its_peer(void **state)
{
	struct peer peer = {.share = NULL};

	(void)state;
	shares_with("'max_unsent': 9000");
	host_says(h, "[DEMAND, 100]");
	peer.share = alice;
	b->sink.on_kept(b, &peer, 6000);
	request_of(1, alice);
	request_of(2, bob);
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	b->sink.on_kept(b, &peer, -1);
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	b->sink.on_kept(b, &peer, -5999);
	peer.share = NULL; /* a request of a peer that is not distinguished */
	b->sink.on_kept(b, &peer, 9000);
	request_of(3, bob);
	EXPECT_HEARD(h, "");
	b->sink.on_kept(b, &peer, -9000);
	EXPECT_HEARD(h, GET_MESSAGE("3"));
}

/* Without shares there is one limit for all. */
static void test_without_shares_too_the_answers_that_wait_have_a_bound(void **state)
{
	(void)state;
	hello_with("'share': 0, 'max_unsent': 1000");
	host_says(h, "[DEMAND, 100]");
	request(1);
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	host_says(h, "[RESPOND, 1, 200, [], 'x'*1000]");
	request(2);
	EXPECT_HEARD(h, "");
	room(&streams[1].s, 1);
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	text_clear(&ops);
}

static void test_the_last_demand_is_for_whoever_has_nothing(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 1]");
	request_of(1, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1"));
	requests_of(2, 3, alice);
	request_of(4, bob);
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, GET_MESSAGE("4")); /* not alice's, which came first */
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, GET_MESSAGE("2"));
	host_says(h, "[DEMAND, 1]");
	EXPECT_HEARD(h, "");
	host_says(h, "[ABORT, 1, 500]");
	EXPECT_HEARD(h, GET_MESSAGE("3") "[GONE, 1, 'aborted']\n");
	EXPECT_OPS("reset 1 500\n");
}

static void test_without_shares_the_longest_wait_goes_first_whosever_it_is(void **state)
{
	(void)state;
	hello_with("'share': 0");
	request(1);
	request(2);
	host_says(h, "[DEMAND, 9]");
	requests_of(3, 9, NULL);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") GET_MESSAGE("3") GET_MESSAGE("4") GET_MESSAGE("5") GET_MESSAGE("6")
				GET_MESSAGE("7") GET_MESSAGE("8") GET_MESSAGE("9"));
}

static void test_the_places_of_the_queue_are_shared_too(void **state)
{
	(void)state;
	shares_with("'max_queue': 6");
	requests_of(1, 6, alice);
	EXPECT_OPS("reset 5 503 retry 1\nreset 6 503 retry 1\n");
	requests_of(7, 9, bob);
	EXPECT_OPS("reset 9 503 retry 1\n");
	assert_int_equal(b->queued, 6);
	assert_int_equal(b->n.shed, 3);
	host_says(h, "[DEMAND, 100]");
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("7") GET_MESSAGE("2") GET_MESSAGE("8") GET_MESSAGE("3") GET_MESSAGE("4"));
}

static void test_work_that_yields_is_not_counted_till_it_resumes(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 3]");
	requests_of(1, 4, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2"));
	host_says(h, "[YIELD, 1] [YIELD, 1]");
	EXPECT_HEARD(h, GET_MESSAGE("3"));
	assert_int_equal(alice->in_progress, 2);
	host_says(h, "[RESUME, 1] [RESUME, 1] [DEMAND, 1]");
	assert_int_equal(alice->in_progress, 3);
	EXPECT_HEARD(h, "");
	host_says(h, "[RESUME, 2] [YIELD, 1] [HEAD, 1, 200, [], nil] [END, 1, nil] [RESUME, 1]");
	assert_int_equal(alice->in_progress, 2); /* nothing may follow the end */
	EXPECT_OPS("head 1 200 length=-1\nend 1\n");
	done(&streams[1].s);
	host_says(h, "[RESUME, 1] [YIELD, 1] [YIELD, 9]");
	assert_int_equal(b->n.dropped, 2);
	EXPECT_HEARD(h, "[DONE, 1, nil]\n[ERROR, 18, 9, 'stream', 'was never used', 'ignored']\n");
}

static void test_an_abort_that_is_ignored_does_not_end_the_work(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 9]");
	request_of(1, alice);
	host_says(h, "[ABORT, 1, 399]");
	EXPECT_HEARD(h, GET_MESSAGE("1") "[ERROR, 9, 1, 'status', 'must be 400 to 599', 'ignored']\n");
	assert_int_equal(alice->in_progress, 1);
	host_says(h, "[ABORT, 1, 500]");
	EXPECT_HEARD(h, "[GONE, 1, 'aborted']\n");
	assert_int_equal(alice->in_progress, 0);
	text_clear(&ops);
}

static void test_an_upgrade_yields_by_itself(void **state)
{
	struct request_head head = plain_head();
	struct peer peer = {.address_len = 0};

	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 9]");
	peer.share = alice;
	head.method = SLICE_LIT("CONNECT");
	head.flags = REQUEST_MAY_UPGRADE;
	request_of_peer(1, head, &peer);
	assert_int_equal(alice->in_progress, 1);
	host_says(h, "[UPGRADE, 1, '', [], {}]");
	assert_int_equal(alice->in_progress, 0);
	host_says(h, "[RESUME, 1]");
	assert_int_equal(alice->in_progress, 1);
	stream_response_moves(&streams[1].s, RESPONSE_ENDED);
	done(&streams[1].s);
	assert_int_equal(alice->in_progress, 0);
	text_clear(&ops);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_a_client_that_leaves_frees_nobody_who_works_for_it(void **state)
{
	(void)state;
	shares_with("'h2_reset_hold': 5000, 'queue_timeout': 60000");
	host_says(h, "[DEMAND, 4]");
	requests_of(1, 7, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") GET_MESSAGE("3"));
	for (unsigned i = 1; i <= 3; i++)
		lost(i);
	EXPECT_HEARD(h, "[GONE, 1, 'reset']\n[GONE, 2, 'reset']\n[GONE, 3, 'reset']\n");
	assert_int_equal(alice->in_progress, 3);
	host_says(h, "[RELEASE, 1] [RELEASE, 1]");
	EXPECT_HEARD(h, "");
	host_says(h, "[RESPOND, 2, 200, [], '']"); /* has crossed, and nothing may follow it either */
	EXPECT_HEARD(h, GET_MESSAGE("4"));
	assert_int_equal(alice->in_progress, 2);
	lost(4);
	host_says(h, "[YIELD, 3] [DEMAND, 1]"); /* it crossed the end: the stream is unknown */
	EXPECT_HEARD(h, "[GONE, 4, 'reset']\n");
	host_pass_time(h, 5000 + WHEEL_SLOT);
	host_says(h, "[PING, 1]");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_memory_equal(text_str(&h->heard), "[REQUEST, 5, ", 13); /* a host that forgets to report this locks nobody out */
	text_clear(&h->heard);
	assert_int_equal(alice->in_progress, 1);
	EXPECT_OPS("");
}

static void test_what_was_yielded_is_free_when_its_client_leaves(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 9]");
	requests_of(1, 2, alice);
	host_says(h, "[YIELD, 1]");
	lost(1);
	lost(2);
	assert_int_equal(alice->in_progress, 1);
	assert_int_equal(b->absent.count, 1);
	host_says(h, "[RELEASE, 1] [RELEASE, 2]");
	assert_int_equal(alice->in_progress, 0);
	assert_int_equal(b->absent.count, 0);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2") "[GONE, 1, 'reset']\n[GONE, 2, 'reset']\n");
}

static void test_work_that_took_too_long_counts_till_the_host_has_stopped(void **state)
{
	(void)state;
	shares_with("'handler_timeout': 100");
	host_says(h, "[DEMAND, 9]");
	request_of(1, alice);
	host_pass_time(h, 100 + WHEEL_SLOT);
	EXPECT_HEARD(h, GET_MESSAGE("1") "[GONE, 1, 'timeout']\n");
	EXPECT_OPS("reset 1 503 retry 1\n");
	assert_int_equal(alice->in_progress, 1);
	host_says(h, "[RELEASE, 1]");
	assert_int_equal(alice->in_progress, 0);
}

static void test_who_asks_through_a_trusted_proxy_is_the_client_that_it_names(void **state)
{
	struct field named[] = {{SLICE_LIT("forwarded"), SLICE_LIT("for=192.0.2.1"), 23},
				{SLICE_LIT("x-forwarded-for"), SLICE_LIT("unknown"), 63}};
	struct peer peer = {.address = {127, 0, 0, 1}, .address_len = 4, .port = 50000, .trusted = true};
	struct request_head head = plain_head();

	(void)state;
	shares_with("'trusted_proxies': ['127.0.0.0/8']");
	proxy = shares_own(&b->shares);
	peer.share = proxy;
	head.fields = named;
	head.field_count = 1;
	host_says(h, "[DEMAND, 9]");
	request_of_peer(1, head, &peer);
	assert_int_equal(alice->in_progress, 1);
	head.field_count = 2; /* the client's own word against the proxy's, or the other way around */
	request_of_peer(2, head, &peer);
	assert_int_equal(alice->in_progress, 1);
	assert_int_equal(proxy->in_progress, 0);
	assert_int_equal(exchange_of(&streams[2].s)->share->in_progress, 1);
	assert_int_equal(exchange_of(&streams[2].s)->share->family, 4);
	head.field_count = 0; /* no word at all */
	request_of_peer(5, head, &peer);
	assert_int_equal(proxy->in_progress, 1);
	peer.trusted = false; /* not believed from anybody else */
	peer.share = bob;
	head.field_count = 1;
	request_of_peer(3, head, &peer);
	assert_int_equal(bob->in_progress, 1);
	named[0].value = SLICE_LIT("for=203.0.113.1"); /* about whom nothing is known yet */
	peer.trusted = true;
	peer.share = proxy;
	assert_int_equal(b->shares.peers, 4);
	request_of_peer(4, head, &peer);
	assert_int_equal(b->shares.peers, 5);
	assert_int_equal(exchange_of(&streams[4].s)->share->in_progress, 1);
	for (unsigned i = 1; i <= 5; i++)
		lost(i);
	host_says(h, "[RELEASE, 1] [RELEASE, 2] [RELEASE, 3] [RELEASE, 4] [RELEASE, 5]");
	assert_int_equal(b->shares.peers, 3);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_ping_and_stats_are_answered_with_their_tags(void **state)
{
	(void)state;
	hello();
	host_says(h, "[PING, 18446744073709551615] [STATS, 7] [DEMAND, 3]");
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	assert_memory_equal(text_str(&h->heard), "[PONG, -1]\n[FIGURES, 7, {'connections': 9, 'idle': 2, 'lingering': 1, ", 62);
	text_clear(&h->heard);
	request(1);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
	host_says(h, "[STATS, 0]");
	EXPECT_HEARD(h, "[FIGURES, 0, {'connections': 9, 'idle': 2, 'lingering': 1, 'half_open': 7, 'handshakes': 8, 'resumed': 5, "
			"'tls_failed': 6, 'misproxied': 10, 'remembered': 0, 'over_requests': 0, 'over_concurrent': 0, "
			"'over_connections': 0, 'over_connection_rate': 0, 'shaped': 0, 'h3_connections': 3, 'h3_retries': 2, "
			"'h3_dropped': 1, 'streams': 1, 'queued': 0, "
			"'held_back': 0, 'peers': 0, 'queue_wait': 0, 'demand': 2, 'accepted': 3, "
			"'requests': 1, 'responses': 0, 'shed': 0, 'timeouts': 0, 'rejected': 4, 'dropped': 0, 'errors': 0, "
			"'logs_dropped': 0, "
			"'bytes_in': 5, "
			"'bytes_out': 6, 'link_queued': 4, 'body_queued': 0, 'read_credit': 0, 'files': 0}]\n");
}

/* ---- limits ---- */

static struct stream *request_by(unsigned number, struct share *share, bool exempt, unsigned flags)
{
	struct peer peer = {.address = {192, 0, 2, 1}, .address_len = 4, .share = share, .exempt = exempt};
	struct request_head head = plain_head();

	head.flags = flags;
	return request_of_peer(number, head, &peer);
}

#define REFUSED(n, which, left, after) \
	"head " n " 429 length=22 content-type=text/plain ratelimit-policy=" which " ratelimit=" left " retry-after=" after \
	"\ndata " n " 429 Too Many Requests\\n\nend " n "\n"

static void test_requests_beyond_a_limit_are_answered_here(void **state)
{
	(void)state;
	shares_with("'limit_requests': 2, 'limit_window': 5000");
	host_says(h, "[DEMAND, 100]");
	requests_of(1, 2, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2"));
	EXPECT_OPS("");
	request_of(3, alice);
	EXPECT_OPS(REFUSED("3", "\"requests\";q=2;w=5", "\"requests\";r=0;t=3", "3"));
	assert_true(streams[3].s.detached);
	request_by(4, alice, true, 0);               /* who is exempt */
	request_by(5, alice, false, REQUEST_PUSHED); /* which nobody has asked for */
	request_of(6, bob);
	text_clear(&h->heard);
	expect_figures("'over_requests': 1, 'over_concurrent': 0, ");
	host_pass_time(h, 2500);
	request_of(7, alice);
	assert_non_null(streams[7].s.sink_data);
	text_clear(&h->heard);
}

static void test_requests_in_progress_have_a_limit_until_they_end(void **state)
{
	(void)state;
	shares_with("'limit_concurrent': 2, 'retry_after': 4, 'h2_reset_hold': 5000");
	host_says(h, "[DEMAND, 100]");
	requests_of(1, 3, alice);
	EXPECT_HEARD(h, GET_MESSAGE("1") GET_MESSAGE("2"));
	EXPECT_OPS(REFUSED("3", "\"concurrent\";q=2;qu=\"concurrent-requests\"", "\"concurrent\";r=0", "4"));
	host_says(h, "[YIELD, 1] [RESPOND, 2, 200, [], '']");
	text_clear(&ops);
	request_of(4, alice); /* not ended: a response that waits for its client, or bytes that have not left */
	assert_true(streams[4].s.detached);
	done(&streams[2].s);
	request_of(5, alice);
	assert_false(streams[5].s.detached);
	lost(5);
	request_of(6, alice); /* and a client that leaves does not free the worker that serves it */
	assert_true(streams[6].s.detached);
	text_clear(&h->heard);
	host_says(h, "[RELEASE, 3]"); /* the third that the host learned of */
	request_of(7, alice);
	assert_false(streams[7].s.detached);
	lost(1); /* its handler has yielded, and does not know yet */
	request_of(8, alice);
	assert_true(streams[8].s.detached);
	assert_int_equal(alice->in_progress, 1);
	host_says(h, "[RELEASE, 1]");
	assert_int_equal(alice->in_progress, 1);
	request_of(9, alice);
	assert_false(streams[9].s.detached);
	text_clear(&ops);
	text_clear(&h->heard);
}

static void test_bodies_to_a_peer_share_its_rate(void **state)
{
	(void)state;
	shares_with("'limit_body_out': 80000");
	host_says(h, "[DEMAND, 100]");
	requests_of(1, 2, alice);
	request_of(3, bob);
	text_clear(&h->heard);
	assert_int_equal(streams[1].s.allowance, 0);
	host_says(h, "[RESPOND, 1, 200, [], 'x'*30000] [RESPOND, 2, 200, [], 'y'*30000]");
	/* 10,000 bytes are an eighth of a second, as far as a peer may be ahead; each of them costs that. */
	assert_int_equal(streams[1].s.allowance, 10000);
	assert_int_equal(streams[2].s.allowance, 10000);
	text_clear(&ops);
	streams[1].s.allowance = 0; /* the session has sent it */
	room(&streams[1].s, 10000);
	EXPECT_OPS(""); /* nothing, for an eighth of a second */
	host_pass_time(h, 100);
	EXPECT_OPS("");
	host_pass_time(h, 26 + WHEEL_SLOT);
	EXPECT_OPS("go on 1 with 10000\n");
	host_says(h, "[RESPOND, 3, 200, [], 'z'*30000]"); /* another peer */
	assert_int_equal(streams[3].s.allowance, 10000);
	text_clear(&ops);
	done(&streams[2].s); /* its 10,000 bytes were not needed */
	streams[1].s.allowance = 0;
	room(&streams[1].s, 10000);
	EXPECT_OPS("go on 1 with 10000\n");
	host_listens(h);
	text_clear(&h->heard);
}

static struct stream *upload_of(unsigned number, struct share *share, bool exempt)
{
	struct peer peer = {.address = {127, 0, 0, 1}, .address_len = 4, .share = share, .exempt = exempt};
	struct request_head head = plain_head();

	head.body = LENGTH_UNKNOWN;
	return request_of_peer(number, head, &peer);
}

static void test_bodies_of_a_peer_share_its_rate(void **state)
{
	static char large[20000];

	(void)state;
	memset(large, 'x', sizeof large - 1);
	shares_with("'limit_body_in': 80000");
	host_says(h, "[DEMAND, 100]");
	upload_of(1, alice, false);
	upload_of(2, alice, false);
	upload_of(3, alice, true);
	host_says(h, "[READ, 1, 5, 65000] [READ, 2, 5, 65000] [READ, 3, 5, 65000]");
	text_clear(&ops);
	body(&streams[1].s, large); /* a quarter of a second */
	assert_int_equal(streams[1].s.wanted, 0);
	assert_int_equal(streams[2].s.wanted, 65000); /* it is noticed when something arrives */
	body(&streams[2].s, "x");
	assert_int_equal(streams[2].s.wanted, 0);
	body(&streams[3].s, large);
	assert_int_equal(streams[3].s.wanted, 65000);
	host_says(h, "[READ, 1, 1, 100]");
	EXPECT_OPS("");
	host_pass_time(h, 90);
	assert_int_equal(streams[1].s.wanted, 0);
	host_pass_time(h, 40 + WHEEL_SLOT);
	assert_int_equal(streams[1].s.wanted, 100);
	assert_int_equal(streams[2].s.wanted, 65000);
	EXPECT_OPS("consume 1 5 of 100\nconsume 2 4 of 65000\n");
	host_listens(h);
	text_clear(&h->heard);
	expect_figures("'shaped': ");
}

static struct stream *websocket_of(unsigned number, struct share *share)
{
	static const struct field asks[] = {{SLICE_LIT("upgrade"), SLICE_LIT("websocket"), -1},
					    {SLICE_LIT("sec-websocket-version"), SLICE_LIT("13"), -1}};
	struct peer peer = {.address = {127, 0, 0, 1}, .address_len = 4, .share = share};
	struct request_head head = plain_head();
	struct stream *s;

	head.version = 20;
	head.flags = REQUEST_MAY_UPGRADE;
	head.fields = asks;
	head.field_count = 2;
	s = request_of_peer(number, head, &peer);
	host_says(h, "[UPGRADE, 1, 'websocket', [], {'ping_interval': 0}]");
	stream_request_moves(s, REQUEST_OPEN);
	h->link.urgent = true;
	link_flush(&h->link);
	host_listens(h);
	text_clear(&h->heard);
	return s;
}

static void test_bytes_of_a_websocket_count_before_their_message_is_complete(void **state)
{
	static uint8_t begins[20000] = {0x82, 0xfe, 0x80, 0, 1, 2, 3, 4}; /* a message of 32,768 bytes */
	struct stream *s;

	(void)state;
	shares_with("'limit_body_in': 80000");
	host_says(h, "[DEMAND, 100]");
	s = websocket_of(1, alice);
	host_says(h, "[READ, 1, 5, 65000]");
	text_clear(&ops);
	assert_int_equal(b->sink.on_bytes(b, s, slice_of(begins, sizeof begins)), sizeof begins); /* a quarter of a second */
	assert_int_equal(s->wanted, 0);
	host_pass_time(h, 90);
	EXPECT_OPS("");
	host_pass_time(h, 40 + WHEEL_SLOT);
	EXPECT_OPS("consume 1 5 of 65000\n");
	assert_int_equal(s->wanted, 65000);
	host_listens(h);
	text_clear(&h->heard);
}

static void test_a_type_of_a_message_is_not_cut_to_32_bits(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 100]");
	websocket_of(1, alice);
	text_clear(&ops);
	host_says(h, "[SEND, 1, 4294967297, 'x', 0]");
	EXPECT_HEARD(h, "[ERROR, 14, 1, 'data', 'must be 1, 2, 9 or 10', 'reset']\n[GONE, 1, 'error']\n");
	text_clear(&ops);
}

static void test_logs_are_messages(void **state)
{
	(void)state;
	hello();
	bridge_log(b, LOG_WARNING, "low on descriptors");
	EXPECT_HEARD(h, "[LOG, 'warning', 'low on descriptors']\n");
}

static void test_a_drain_is_handed_on_and_drained_is_the_last_word(void **state)
{
	(void)state;
	hello();
	host_says(h, "[DRAIN, 5000] [DRAIN, 18446744073709551615] [PING, 1]");
	EXPECT_OPS("drain 5000\ndrain 86400000\n");
	EXPECT_HEARD(h, "[PONG, 1]\n");
	bridge_drained(b, 3);
	EXPECT_OPS("stop 0\n");
	bridge_drained(b, 3);
	host_says(h, "[PING, 1]");
	EXPECT_HEARD(h, "[DRAINED, 3]\n");
	EXPECT_OPS("");
}

static void test_a_websocket_that_begins_during_a_drain_is_closed(void **state)
{
	(void)state;
	shares_with("");
	host_says(h, "[DEMAND, 100] [DRAIN, 5000]");
	text_clear(&ops);
	websocket_of(1, alice);
	EXPECT_OPS("upgrade 1 websocket\ndata 1 \\x88\\x02\ndata 1 \\x03\\xe9\nconsume 1 0 of 0\n");
	host_pass_time(h, 5000 + WHEEL_SLOT);
	EXPECT_OPS("end 1\n");
	h->link.urgent = true;
	link_flush(&h->link);
	EXPECT_HEARD(h, "[GONE, 1, 'drained']\n");
}

static void test_a_signal_before_the_hello_ends_the_port(void **state)
{
	(void)state;
	bridge_drain(b, 1000);
	EXPECT_OPS("stop 0\n");
	EXPECT_HEARD(h, "");
}

static void test_a_host_that_goes_before_the_hello_ends_the_port(void **state)
{
	(void)state;
	host_closes(h);
	EXPECT_OPS("stop 0\n");
}

static void test_when_the_host_has_gone_only_whole_answers_go_out(void **state)
{
	unsigned resets = 0;

	(void)state;
	hello_with("'eof_timeout': 300");
	host_says(h, "[DEMAND, 30]");
	for (unsigned i = 1; i <= STREAMS; i++)
		request(i); /* ten of them wait */
	for (unsigned i = 1; i <= 30; i += 3) {
		char text[100];
		snprintf(text, sizeof text, "[RESPOND, %u, 200, [], ''] [HEAD, %u, 200, [], nil]", i, i + 1);
		host_says(h, text);
	}
	text_clear(&ops);
	host_closes(h);
	for (unsigned i = 1; i <= STREAMS; i++) {
		assert_int_equal(streams[i].s.detached, i > 30 || i % 3 != 1);
		resets += streams[i].s.detached;
	}
	assert_int_equal(resets, 30);
	assert_int_equal(b->exchanges.count, 10);
	assert_memory_equal(text_str(&ops), "drain 300\nreset ", 16);
	text_clear(&ops);
	host_listens(h);
	text_clear(&h->heard);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ready_names_what_is_in_force),
		TEST(test_nothing_is_sent_before_the_hello),
		TEST(test_the_process_is_shut_in_between_listening_and_ready),
		TEST(test_a_sandbox_that_is_not_had_as_asked_ends_the_port),
		TEST(test_a_wrong_hello_is_told_and_ends_the_port),
		TEST(test_a_frame_that_is_too_long_ends_the_port),
		TEST(test_a_request_waits_for_demand_and_spends_one),
		TEST(test_the_head_is_told_with_all_it_has),
		TEST(test_a_head_that_fits_no_frame_is_refused),
		TEST(test_the_queue_is_bounded_and_sheds_at_once),
		TEST(test_too_many_to_shed_press_until_the_second_is_over),
		TEST(test_without_a_queue_a_request_without_demand_is_shed),
		TEST(test_a_request_that_waited_too_long_is_shed_and_not_told_of),
		TEST(test_a_client_that_leaves_the_queue_is_not_told_of),
		TEST(test_a_hangup_in_the_queue_is_told_behind_the_request),
		TEST(test_an_end_in_the_queue_is_told_behind_the_request),
		TEST(test_an_end_in_the_queue_is_forgotten_with_the_request),
		TEST(test_a_stream_that_waits_cannot_be_spoken_to),
		TEST(test_read_credit_is_additive_and_spent_by_chunk),
		TEST(test_trailers_of_a_body_are_told),
		TEST(test_trailers_wait_with_their_request),
		TEST(test_a_discard_takes_the_credit_back),
		TEST(test_the_largest_chunk_fits_a_frame),
		TEST(test_a_body_comes_with_its_request),
		TEST(test_a_body_waits_with_its_request),
		TEST(test_bodies_that_do_not_come_with_their_request),
		TEST(test_a_body_is_decoded),
		TEST(test_what_is_decoded_keeps_to_the_credit),
		TEST(test_a_body_that_is_not_coded_stays_as_it_is),
		TEST(test_a_coded_body_stays_coded_unless_the_host_asks),
		TEST(test_a_coding_that_is_unknown_is_415),
		TEST(test_a_malformed_body_is_400),
		TEST(test_a_body_that_is_cut_off_is_400),
		TEST(test_a_body_that_becomes_too_large_is_413),
		TEST(test_memory_for_decoding_is_bounded),
		TEST(test_a_decode_comes_before_the_first_read),
		TEST(test_the_rest_of_a_decoded_body_can_be_discarded),
		TEST(test_an_answer_may_overtake_a_decoded_body),
		TEST(test_nothing_is_decoded_for_a_link_that_is_full),
		TEST(test_room_for_a_compressed_response_is_work),
		TEST(test_respond_is_head_data_and_end),
		TEST(test_a_streamed_response),
		TEST(test_a_head_takes_its_length_from_its_fields),
		TEST(test_a_response_without_a_body_takes_any_length_and_drops_data),
		TEST(test_a_response_without_a_body_costs_nothing),
		TEST(test_window_is_spent_to_the_byte_and_granted_anew_by_room),
		TEST(test_a_rule_is_for_the_whole_of_a_DATA_that_comes_in_parts),
		TEST(test_a_DATA_that_comes_in_parts_is_dropped_or_refused_once),
		TEST(test_respond_spends_the_window_too),
		TEST(test_the_report_says_what_it_was),
		TEST(test_done_waits_for_company_only_without_a_report),
		TEST(test_done_with_a_report_goes_at_once),
		TEST(test_a_handler_that_says_nothing_is_timed_out),
		TEST(test_time_in_the_queue_is_not_the_handlers),
		TEST(test_each_end_is_told_once_with_its_reason),
		TEST(test_messages_for_streams_that_are_over_are_dropped_and_counted),
		TEST(test_what_is_owed_is_released_once),
		TEST(test_a_last_word_releases_too),
		TEST(test_what_lapsed_is_not_released),
		TEST(test_the_queue_owes_nothing),
		TEST(test_only_what_is_gone_is_released),
		TEST(test_an_abort_is_gone_and_frees_what_it_held),
		TEST(test_a_stream_that_finds_no_memory_is_cut),
		TEST(test_what_cannot_be_read_is_told_and_ignored),
		TEST(test_a_payload_that_is_no_msgpack_loses_the_rest_of_its_frame),
		TEST(test_numbers_out_of_range_are_ignored),
		TEST(test_streams_that_were_never_given_out_are_told),
		TEST(test_messages_that_the_state_does_not_allow_end_the_stream),
		TEST(test_responses_that_must_not_be_said_end_the_stream),
		TEST(test_a_connection_field_that_says_keep_alive_means_nothing),
		TEST(test_a_line_about_a_response_names_its_request),
		TEST(test_fields_that_are_too_long_are_refused),
		TEST(test_data_beyond_or_short_of_the_length_ends_the_stream),
		TEST(test_errors_beyond_what_the_link_holds_are_dropped_and_counted),
		TEST(test_stats_tell_how_long_the_first_of_the_queue_has_waited),
		TEST(test_interim_answers_that_nobody_takes_are_dropped),
		TEST(test_a_peer_has_its_share_of_demand_and_a_newcomer_finds_room),
		TEST(test_a_peer_whose_answers_wait_for_it_begins_no_more),
		TEST(test_what_a_session_keeps_counts_for_its_peer),
		TEST(test_without_shares_too_the_answers_that_wait_have_a_bound),
		TEST(test_the_last_demand_is_for_whoever_has_nothing),
		TEST(test_without_shares_the_longest_wait_goes_first_whosever_it_is),
		TEST(test_the_places_of_the_queue_are_shared_too),
		TEST(test_work_that_yields_is_not_counted_till_it_resumes),
		TEST(test_an_abort_that_is_ignored_does_not_end_the_work),
		TEST(test_an_upgrade_yields_by_itself),
		TEST(test_a_client_that_leaves_frees_nobody_who_works_for_it),
		TEST(test_what_was_yielded_is_free_when_its_client_leaves),
		TEST(test_work_that_took_too_long_counts_till_the_host_has_stopped),
		TEST(test_who_asks_through_a_trusted_proxy_is_the_client_that_it_names),
		TEST(test_what_listeners_show_comes_with_hello),
		TEST(test_a_hello_with_a_wrong_certificate_fails),
		TEST(test_certificates_are_replaced),
		TEST(test_a_secret_is_overwritten_but_not_the_data_before_it),
		TEST(test_the_secret_of_tickets_is_replaced),
		TEST(test_a_request_tells_what_its_connection_agreed_on),
		TEST(test_a_listener_may_send_its_clients_to_https),
		TEST(test_clients_of_https_stay_with_it),
		TEST(test_only_https_has_clients_that_stay),
		TEST(test_ping_and_stats_are_answered_with_their_tags),
		TEST(test_requests_beyond_a_limit_are_answered_here),
		TEST(test_requests_in_progress_have_a_limit_until_they_end),
		TEST(test_bodies_to_a_peer_share_its_rate),
		TEST(test_bodies_of_a_peer_share_its_rate),
		TEST(test_bytes_of_a_websocket_count_before_their_message_is_complete),
		TEST(test_a_type_of_a_message_is_not_cut_to_32_bits),
		TEST(test_logs_are_messages),
		TEST(test_ready_says_whether_there_is_a_channel),
		TEST(test_without_a_channel_the_port_serves_and_says_so),
		TEST(test_a_file_is_held_till_its_stream_ends),
		TEST(test_a_file_that_crosses_the_end_of_its_stream_is_dropped),
		TEST(test_a_descriptor_that_is_wrong_is_told_and_closed),
		TEST(test_a_file_of_all_streams_is_held_till_close_file),
		TEST(test_close_file_closes_no_file_of_a_stream),
		TEST(test_close_file_may_overtake_its_file),
		TEST(test_the_end_of_the_channel_leaves_what_is_held),
		TEST(test_a_drain_is_handed_on_and_drained_is_the_last_word),
		TEST(test_a_websocket_that_begins_during_a_drain_is_closed),
		TEST(test_a_signal_before_the_hello_ends_the_port),
		TEST(test_a_host_that_goes_before_the_hello_ends_the_port),
		TEST(test_when_the_host_has_gone_only_whole_answers_go_out),
	};

	return cmocka_run_group_tests_name("bridge", tests, NULL, NULL);
}
