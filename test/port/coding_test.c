/* SPDX-License-Identifier: Apache-2.0 */
/* Content codings: what a client accepts, the head of the response, and that encoded bytes decode to the original ones. */
#include "coding/coding.h"
#include "stream/rules.h"

#include "support.h"

#include <stdio.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <zlib.h>
#ifdef WITH_BROTLI
#include <brotli/decode.h>
#endif
#ifdef WITH_ZSTD
#include <zstd.h>
#endif

/* ---- Accept-Encoding (RFC 9110 12.5.3) ---- */

static const uint8_t offered[] = {CODING_BR, CODING_ZSTD, CODING_GZIP};

static const struct {
	const char *values[3];
	enum coding chosen;
} accepts[] = {
	{{NULL}, CODING_IDENTITY},
	{{""}, CODING_IDENTITY},
	{{" , ,"}, CODING_IDENTITY},
	{{"gzip"}, CODING_GZIP},
	{{"GZip"}, CODING_GZIP},
	{{"x-gzip"}, CODING_GZIP},
	{{"gzip, deflate, br, zstd"}, CODING_BR},
	{{"zstd, gzip"}, CODING_ZSTD},
	{{"gzip", "br"}, CODING_BR},
	{{"gzip,br"}, CODING_BR},
	{{"\tgzip\t,\t"}, CODING_GZIP},
	{{"gzip;q=1, br;q=0.5"}, CODING_GZIP},
	{{"gzip;q=0.5, br;q=1.0"}, CODING_BR},
	{{"gzip;q=0.001"}, CODING_GZIP},
	{{"gzip;q=0.002"}, CODING_GZIP},
	{{"gzip;q=0.001, identity;q=0"}, CODING_GZIP},
	{{"gzip ; q=0.8"}, CODING_GZIP},
	{{"gzip;Q=0.8"}, CODING_GZIP},
	{{"gzip;q=1."}, CODING_GZIP},
	{{"gzip;q=1.000"}, CODING_GZIP},
	{{"gzip;q=0"}, CODING_IDENTITY},
	{{"gzip;q=0."}, CODING_IDENTITY},
	{{"gzip;q=0.000"}, CODING_IDENTITY},
	{{"gzip;q=0, br;q=0, zstd;q=0"}, CODING_IDENTITY},
	{{"gzipx"}, CODING_IDENTITY},
	{{"xgzip"}, CODING_IDENTITY},
	{{"gz"}, CODING_IDENTITY},
	{{"deflate"}, CODING_IDENTITY},
	{{"*"}, CODING_BR},
	{{"*;q=0"}, CODING_IDENTITY},
	{{"*;q=0.5"}, CODING_BR},
	{{"br;q=0, *"}, CODING_ZSTD},
	{{"gzip;q=0.5, *;q=1"}, CODING_BR},
	{{"gzip, *;q=0"}, CODING_GZIP},
	{{"gzip;q=0, *"}, CODING_BR},
	{{"*;q=0, identity"}, CODING_IDENTITY},
	{{"*;q=0, identity;q=0.1"}, CODING_IDENTITY},
	{{"identity"}, CODING_IDENTITY},
	{{"identity;q=0"}, CODING_IDENTITY},
	{{"identity;q=0, gzip"}, CODING_GZIP},
	{{"identity;q=0, deflate"}, CODING_IDENTITY},
	{{"identity;q=0, gzip;q=0.1"}, CODING_GZIP},
	{{"identity;q=1, gzip;q=0.5"}, CODING_IDENTITY},
	{{"identity;q=0.5, gzip;q=0.5"}, CODING_GZIP},
	{{"identity, gzip"}, CODING_GZIP},
	{{"identity;q=0.5, gzip;q=0.4"}, CODING_IDENTITY},
	{{"identity;q=0, *;q=0"}, CODING_IDENTITY},
	{{"identity;q=0, *"}, CODING_BR},
	{{"gzip;q=2"}, CODING_IDENTITY},
	{{"gzip;q=1.001"}, CODING_IDENTITY},
	{{"gzip;q=-1"}, CODING_IDENTITY},
	{{"gzip;q=0.1234"}, CODING_IDENTITY},
	{{"gzip;q=.5"}, CODING_IDENTITY},
	{{"gzip;q=a"}, CODING_IDENTITY},
	{{"gzip;q="}, CODING_IDENTITY},
	{{"gzip;q"}, CODING_IDENTITY},
	{{"gzip;"}, CODING_IDENTITY},
	{{"gzip;level=9"}, CODING_IDENTITY},
	{{"gzip;q=0.5;level=9"}, CODING_IDENTITY},
	{{"gzip;q= 0.5"}, CODING_IDENTITY},
	{{"gzip;q=nan, br"}, CODING_BR},
	{{"gzip, gzip;q=0"}, CODING_IDENTITY},
	{{"gzip;q=0, gzip"}, CODING_IDENTITY},
	{{"gzip;q=0, x-gzip"}, CODING_IDENTITY},
	{{"identity;q=a"}, CODING_IDENTITY},
	{{"*;q=a"}, CODING_IDENTITY},
	{{"gzip br"}, CODING_IDENTITY},
	{{"gzip=1"}, CODING_IDENTITY},
};

static enum coding choose(const char *const *values, const uint8_t *offers, unsigned count)
{
	struct field fields[4] = {{SLICE_LIT("accept"), SLICE_LIT("*/*"), -1}};
	unsigned n = 1;

	for (; n < 4 && values[n - 1]; n++)
		fields[n] = (struct field){SLICE_LIT("Accept-Encoding"), slice_str(values[n - 1]), -1};
	return coding_choose(fields, n, offers, count);
}

static void client_chooses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof accepts / sizeof *accepts; i++) {
		enum coding chosen = choose(accepts[i].values, offered, sizeof offered);

		if (chosen != accepts[i].chosen)
			fail_msg("%s: %s, not %s", accepts[i].values[0] ? accepts[i].values[0] : "no field", coding_name(chosen),
				 coding_name(accepts[i].chosen));
	}
}

static void server_prefers(void **state)
{
	static const uint8_t gzip_first[] = {CODING_GZIP, CODING_BR}, deflate[] = {CODING_DEFLATE};
	static const char *const equal[3] = {"br, gzip"}, *const weighed[3] = {"br;q=0.9, gzip;q=0.8"}, *const old[3] = {"deflate"};

	(void)state;
	assert_int_equal(choose(equal, gzip_first, 2), CODING_GZIP);
	assert_int_equal(choose(weighed, gzip_first, 2), CODING_BR);
	assert_int_equal(choose(equal, gzip_first, 0), CODING_IDENTITY);
	assert_int_equal(choose(old, deflate, 1), CODING_DEFLATE);
	assert_int_equal(choose(old, gzip_first, 2), CODING_IDENTITY);
}

static void names(void **state)
{
	(void)state;
	for (enum coding c = CODING_IDENTITY; c < CODINGS; c++)
		assert_int_equal(coding_by_name(slice_str(coding_name(c))), c);
	assert_int_equal(coding_by_name(SLICE_LIT("X-GZIP")), CODING_GZIP);
	assert_int_equal(coding_by_name(SLICE_LIT("compress")), CODING_IDENTITY);
}

/* ---- a session that records its calls ---- */

struct rig {
	struct stream s;
	struct codings all;
	enum coding accepts;
	struct text said; /* heads and ends */
	struct buf body;
	size_t left; /* of it */
	unsigned rooms, failures;
	bool full; /* it has no memory */
};

static struct rig rig;

static bool say_head(struct stream *s, const struct response_head *head)
{
	(void)s;
	text_add(&rig.said, "%u", head->status);
	for (unsigned i = 0; i < head->field_count; i++)
		text_add(&rig.said, " %.*s=%.*s", (int)head->fields[i].name.len, (const char *)head->fields[i].name.at,
			 (int)head->fields[i].value.len, (const char *)head->fields[i].value.at);
	text_add(&rig.said, " %d\n", (int)head->length);
	return true;
}

static bool say_data(struct stream *s, struct slice data)
{
	(void)s;
	return !rig.full && buf_append(&rig.body, data.at, data.len);
}

static bool say_end(struct stream *s, const struct field *trailers, unsigned count)
{
	assert_int_equal(s->response, RESPONSE_ENDED);
	text_add(&rig.said, "end");
	for (unsigned i = 0; i < count; i++)
		text_add(&rig.said, " %.*s=%.*s", (int)trailers[i].name.len, (const char *)trailers[i].name.at,
			 (int)trailers[i].value.len, (const char *)trailers[i].value.at);
	text_add(&rig.said, "\n");
	return true;
}

static const struct stream_ops session = {.send_head = say_head, .send_data = say_data, .send_end = say_end};

static void on_room(void *ctx, struct stream *s)
{
	(void)ctx;
	(void)s;
	rig.rooms++;
}

static void on_failed(void *ctx, struct stream *s)
{
	(void)ctx;
	rig.failures++;
	coding_forget(s);
}

static void begin(enum coding coding)
{
	static uint8_t one;

	memset(&rig, 0, sizeof rig);
	codings_init(&rig.all, &rig, on_room, on_failed);
	one = (uint8_t)coding;
	rig.all.options = (struct coding_options){
		.offered = &one,
		.offers = 1,
		.types = "text/* application/json",
		.least = 10,
		.memory = 1 << 30,
		.levels = {[CODING_GZIP] = 4, [CODING_DEFLATE] = 4, [CODING_BR] = 3, [CODING_ZSTD] = 3},
	};
	stream_init(&rig.s, &session);
	rig.accepts = coding;
}

static void end(void)
{
	coding_forget(&rig.s);
	assert_ptr_equal(rig.s.ops, &session);
	assert_int_equal(rig.all.memory, 0);
	codings_free(&rig.all);
	text_free(&rig.said);
	buf_free(&rig.body);
}

/* Fields as `name: value` lines. */
static unsigned parse_fields(struct field *fields, const char *text)
{
	unsigned n = 0;

	while (*text) {
		size_t line = strcspn(text, "\n"), name = strcspn(text, ":");

		fields[n++] = (struct field){slice_of(text, name), slice_of(text + name + 2, line - name - 2), -1};
		text += line + (text[line] == '\n');
	}
	return n;
}

static void head(unsigned status, const char *text, int64_t length)
{
	struct field fields[16];
	struct response_head h = {.status = status, .fields = fields, .length = length};

	h.field_count = parse_fields(fields, text);
	rig.s.bodiless = never_has_body(status, rig.s.head_method);
	stream_response_moves(&rig.s, RESPONSE_STREAMING);
	assert_true(coding_begin(&rig.all, &rig.s, rig.accepts, &h));
	assert_true(rig.s.ops->send_head(&rig.s, &h));
	memset(fields, 0, sizeof fields);
}

static void turn(void)
{
	for (int turns = 0; codings_run(&rig.all); turns++)
		assert_true(turns < 10000);
}

/* ---- heads ---- */

#define TEXT "content-type: text/plain"
#define CODED "content-encoding=gzip"
#define VARY "vary=accept-encoding"

static const struct {
	unsigned status;
	const char *fields;
	int64_t length;
	const char *said; /* NULL: unchanged */
} heads[] = {
	{200, TEXT, 1000, "200 content-type=text/plain " CODED " " VARY " -1\n"},
	{200, TEXT, LENGTH_UNKNOWN, "200 content-type=text/plain " CODED " " VARY " -1\n"},
	{200, TEXT, 10, "200 content-type=text/plain " CODED " " VARY " -1\n"},
	{200, TEXT, 9, NULL},
	{200, TEXT, 0, NULL},
	{404, TEXT, 1000, "404 content-type=text/plain " CODED " " VARY " -1\n"},
	{204, TEXT, LENGTH_UNKNOWN, NULL},
	{304, TEXT, LENGTH_UNKNOWN, NULL},
	{206, TEXT, 1000, NULL},
	{200, "content-type: TEXT/HTML; charset=utf-8", 1000, "200 content-type=TEXT/HTML; charset=utf-8 " CODED " " VARY " -1\n"},
	{200, "content-type: application/json", 1000, "200 content-type=application/json " CODED " " VARY " -1\n"},
	{200, "content-type: application/jsonx", 1000, NULL},
	{200, "content-type: application/jso", 1000, NULL},
	{200, "content-type: texts/plain", 1000, NULL},
	{200, "content-type: image/png", 1000, NULL},
	{200, "", 1000, NULL},
	{200, TEXT "\ncontent-encoding: br", 1000, NULL},
	{200, TEXT "\ncontent-range: bytes 0-9/10", 1000, NULL},
	{200, TEXT "\ncache-control: public, No-Transform", 1000, NULL},
	{200, TEXT "\ncache-control: public", 1000, "200 content-type=text/plain cache-control=public " CODED " " VARY " -1\n"},
	{200, TEXT "\ncontent-encoding: identity", 1000, "200 content-type=text/plain 1000\n"},
	{200, "content-type: image/png\nContent-Encoding: Identity", 1000, "200 content-type=image/png 1000\n"},
	{200, TEXT "\netag: \"a\"", 1000, "200 content-type=text/plain etag=W/\"a\" " CODED " " VARY " -1\n"},
	{200, TEXT "\nETag: W/\"a\"", 1000, "200 content-type=text/plain ETag=W/\"a\" " CODED " " VARY " -1\n"},
	{200, TEXT "\nvary: cookie", 1000, "200 content-type=text/plain vary=cookie " CODED " " VARY " -1\n"},
	{200, TEXT "\nvary: cookie, Accept-Encoding", 1000,
	 "200 content-type=text/plain vary=cookie, Accept-Encoding " CODED " -1\n"},
	{200, TEXT "\nvary: *", 1000, "200 content-type=text/plain vary=* " CODED " -1\n"},
	{200, TEXT "\ncontent-length: 1000\naccept-ranges: bytes\ncontent-digest: a\nrepr-digest: b\ncontent-md5: c\ndigest: d",
	 1000, "200 content-type=text/plain " CODED " " VARY " -1\n"},
};

static void heads_that_are_coded(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		struct text same = {0};
		struct field fields[16];
		unsigned count = parse_fields(fields, heads[i].fields);

		text_add(&same, "%u", heads[i].status);
		for (unsigned f = 0; f < count; f++)
			text_add(&same, " %.*s=%.*s", (int)fields[f].name.len, (const char *)fields[f].name.at,
				 (int)fields[f].value.len, (const char *)fields[f].value.at);
		text_add(&same, " %d\n", (int)heads[i].length);
		begin(CODING_GZIP);
		head(heads[i].status, heads[i].fields, heads[i].length);
		turn();
		EXPECT_TEXT(&rig.said, heads[i].said ? heads[i].said : text_str(&same));
		end();
		text_free(&same);
	}
}

/* A client that accepts no coding gets `vary`, since others do. */
static void heads_that_are_not_coded_vary(void **state)
{
	(void)state;
	begin(CODING_GZIP);
	rig.accepts = CODING_IDENTITY;
	head(200, TEXT "\netag: \"a\"\ncontent-length: 1000\naccept-ranges: bytes", 1000);
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain etag=\"a\" content-length=1000 accept-ranges=bytes " VARY " 1000\n");
	end();
	begin(CODING_GZIP);
	rig.all.options.memory = encoder_memory(CODING_GZIP, 4) - 1;
	head(200, TEXT, 1000);
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain " VARY " 1000\n");
	end();
	begin(CODING_GZIP);
	rig.all.options.offers = 0;
	head(200, TEXT, 1000);
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain 1000\n");
	end();
}

static void head_says_what_get_would(void **state)
{
	(void)state;
	begin(CODING_GZIP);
	rig.s.head_method = true;
	head(200, TEXT "\netag: \"a\"", 1000);
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain etag=W/\"a\" " CODED " " VARY " -1\n");
	assert_null(rig.s.coding);
	end();
}

/* ---- round trips ---- */

static struct slice decoded_by_zlib(struct slice in, bool gzip)
{
	static uint8_t out[4 << 20];
	z_stream z = {.next_in = (Bytef *)(uintptr_t)in.at, .avail_in = (uInt)in.len, .next_out = out, .avail_out = sizeof out};

	assert_int_equal(inflateInit2(&z, 15 + (gzip ? 16 : 0)), Z_OK);
	inflate(&z, Z_SYNC_FLUSH);
	inflateEnd(&z);
	return slice_of(out, sizeof out - z.avail_out);
}

#ifdef WITH_BROTLI
static struct slice decoded_by_brotli(struct slice in)
{
	static uint8_t out[4 << 20];
	uint8_t *to = out;
	size_t room = sizeof out;
	BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);

	BrotliDecoderDecompressStream(d, &in.len, &in.at, &room, &to, NULL);
	BrotliDecoderDestroyInstance(d);
	return slice_of(out, sizeof out - room);
}
#endif

#ifdef WITH_ZSTD
static struct slice decoded_by_zstd(struct slice in)
{
	static uint8_t out[4 << 20];
	ZSTD_inBuffer from = {in.at, in.len, 0};
	ZSTD_outBuffer to = {out, sizeof out, 0};
	ZSTD_DCtx *d = ZSTD_createDCtx();

	while (from.pos < from.size && !ZSTD_isError(ZSTD_decompressStream(d, &to, &from)))
		;
	ZSTD_freeDCtx(d);
	return slice_of(out, to.pos);
}
#endif

static struct slice decoded(enum coding coding)
{
	struct slice in = slice_of(buf_at(&rig.body), buf_len(&rig.body));

	switch (coding) {
#ifdef WITH_BROTLI
	case CODING_BR:
		return decoded_by_brotli(in);
#endif
#ifdef WITH_ZSTD
	case CODING_ZSTD:
		return decoded_by_zstd(in);
#endif
	default:
		return decoded_by_zlib(in, coding == CODING_GZIP);
	}
}

static uint8_t plain[1 << 20];

/* Words, which compress, between random bytes, which do not. */
static void make_plain(void)
{
	unsigned seed = 1;

	for (size_t i = 0; i < sizeof plain; i++) {
		seed = seed * 1664525 + 1013904223;
		plain[i] = i / 5000 % 3 == 2 ? (uint8_t)(seed >> 24) : (uint8_t)("lorem ipsum dolor "[(i + (seed >> 30)) % 18]);
	}
}

static void assert_decodes_to(enum coding coding, size_t n)
{
	struct slice got = decoded(coding);

	assert_int_equal(got.len, n);
	assert_memory_equal(got.at, plain, n);
}

/* The session sends at once whatever it gets. */
static uint64_t leave(void)
{
	size_t n = buf_len(&rig.body) - rig.left;

	rig.left += n;
	return coding_sent(&rig.s, n);
}

static void round_trip(enum coding coding, size_t total, size_t piece, bool each_turn)
{
	uint64_t counted = 0;

	/* with the encoder of the previous one */
	buf_free(&rig.body);
	rig.left = 0;
	rig.s.response = RESPONSE_WAITING;
	head(200, TEXT, LENGTH_UNKNOWN);
	for (size_t at = 0; at < total; at += piece) {
		size_t n = piece < total - at ? piece : total - at;

		assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain + at, n)));
		if (!each_turn)
			continue;
		for (int i = 0; counted < at + n; i++) {
			assert_true(i < 1000);
			turn();
			counted += leave();
		}
		if (total <= 100000)
			assert_decodes_to(coding, at + n);
	}
	assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
	assert_true(coding_ends(&rig.s));
	for (int i = 0; i < 10000 && rig.s.response != RESPONSE_ENDED; i++) {
		codings_run(&rig.all);
		leave();
	}
	assert_int_equal(rig.s.response, RESPONSE_ENDED);
	assert_int_equal(rig.all.memory, 0);
	assert_decodes_to(coding, total);
	text_clear(&rig.said);
	coding_forget(&rig.s);
}

static void what_was_encoded_decodes(void **state)
{
	static const size_t totals[] = {0, 1, 100, 5000, 16384, 65536, 100000, sizeof plain},
			    pieces[] = {1, 7, 4096, 16384, 100000, sizeof plain};

	(void)state;
	make_plain();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		if (!encoder_exists(c))
			continue;
		begin(c);
		for (size_t t = 0; t < sizeof totals / sizeof *totals; t++)
			for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++)
				if (totals[t] / pieces[p] <= 2000) {
					round_trip(c, totals[t], pieces[p], false);
					if (totals[t] / pieces[p] <= 200)
						round_trip(c, totals[t], pieces[p], true);
				}
		end();
	}
}

/* ---- whole bodies, which are encoded in one call ---- */

static size_t longest(enum coding coding, int level)
{
	size_t whole = whole_max(coding, level), stream = encoder_whole_max(coding, level);

	return whole > stream ? whole : stream;
}

/* Expects a head with this length, and the end. */
static void expect_said(int64_t length)
{
	struct text wanted = {0};

	text_add(&wanted, "200 content-type=text/plain content-encoding=%s " VARY " %d\nend\n", coding_name(rig.accepts),
		 (int)length);
	EXPECT_TEXT(&rig.said, text_str(&wanted));
	text_free(&wanted);
}

static void respond(size_t n, size_t piece, int64_t length)
{
	head(200, TEXT, length);
	for (size_t at = 0; at < n; at += piece)
		assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain + at, piece < n - at ? piece : n - at)));
	assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
}

/* Up to a length that depends on the coding and its level, the head says the encoded length. */
static void a_whole_body_has_a_length(void **state)
{
	static const size_t pieces[] = {1000, 65536, sizeof plain};

	(void)state;
	make_plain();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		for (int level = c == CODING_BR ? 0 : 1; encoder_exists(c) && level <= (c < CODING_BR ? 9 : 5); level++)
			for (unsigned i = 0; i < 15; i++) {
				size_t most = longest(c, level), sizes[] = {0, 10, 5000, most, most + 1}, n = sizes[i / 3];

				begin(c);
				rig.all.options.least = 0;
				rig.all.options.levels[c] = level;
				respond(n, pieces[i % 3], i % 2 ? LENGTH_UNKNOWN : (int64_t)n);
				for (int turns = 0; turns < 100 && rig.s.response != RESPONSE_ENDED; turns++) {
					turn();
					leave();
				}
				expect_said(n <= most ? (int64_t)buf_len(&rig.body) : LENGTH_UNKNOWN);
				assert_decodes_to(c, n);
				leave();
				end();
			}
}

/* Bytes count as sent when their encoded form has left. */
static void a_whole_body_is_counted_once(void **state)
{
	uint64_t counted = 0;

	(void)state;
	make_plain();
	begin(CODING_GZIP);
	respond(20000, 20000, 20000);
	assert_int_equal(rig.all.memory, 0);
	for (size_t left = buf_len(&rig.body); left > 0; left -= left < 7 ? left : 7)
		counted += coding_sent(&rig.s, left < 7 ? left : 7);
	assert_int_equal(counted, 20000);
	end();
}

/* A turn has a share for all responses: what exceeds it is encoded in a later turn, with its length all the same. */
static void a_whole_body_may_wait(void **state)
{
	(void)state;
	make_plain();
	begin(CODING_GZIP);
	rig.all.left = 0;
	respond(5000, 5000, 5000);
	EXPECT_TEXT(&rig.said, "");
	assert_true(codings_run(&rig.all));
	EXPECT_TEXT(&rig.said, "");
	assert_false(codings_run(&rig.all));
	expect_said((int64_t)buf_len(&rig.body));
	assert_decodes_to(CODING_GZIP, 5000);
	end();
}

/* If the exchange ends before the session has the head, another response can be sent. */
static void a_head_that_was_not_sent_leaves_no_trace(void **state)
{
	(void)state;
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	coding_forget(&rig.s);
	assert_int_equal(rig.s.response, RESPONSE_WAITING);
	head(200, TEXT, LENGTH_UNKNOWN);
	turn();
	coding_forget(&rig.s);
	assert_int_equal(rig.s.response, RESPONSE_STREAMING);
	end();
}

/* At the end of a turn, everything that the host has sent goes out, including the head. */
static void a_pause_ends_the_wait_for_the_end(void **state)
{
	(void)state;
	make_plain();
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	EXPECT_TEXT(&rig.said, "");
	turn();
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain " CODED " " VARY " -1\n");
	assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, 100)));
	assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
	turn();
	EXPECT_TEXT(&rig.said, "end\n");
	assert_decodes_to(CODING_GZIP, 100);
	end();
	begin(CODING_GZIP);
	head(200, TEXT, 1000);
	assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, 100)));
	turn();
	assert_decodes_to(CODING_GZIP, 100);
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain " CODED " " VARY " -1\n");
	end();
}

/* gzip (RFC 1952), the zlib format (RFC 1950), whose first byte has the window too, and zstd (RFC 8878). */
static void whole_bodies_have_the_format_of_their_coding(void **state)
{
	static const struct {
		enum coding coding;
		uint8_t mask, first;
	} formats[] = {{CODING_GZIP, 0xff, 0x1f}, {CODING_DEFLATE, 0x0f, 0x08}, {CODING_ZSTD, 0xff, 0x28}};

	(void)state;
	make_plain();
	for (unsigned i = 0; i < sizeof formats / sizeof *formats * 2; i++) {
		size_t n = i % 2 ? 5000 : 0;

		if (!encoder_exists(formats[i / 2].coding))
			continue;
		begin(formats[i / 2].coding);
		rig.all.options.least = 0;
		respond(n, 5000, (int64_t)n);
		assert_int_equal(*buf_at(&rig.body) & formats[i / 2].mask, formats[i / 2].first);
		assert_decodes_to(formats[i / 2].coding, n);
		end();
	}
}

/* The first n bytes of `plain` as a file. */
static struct file *plain_file(size_t n)
{
	FILE *f = tmpfile();
	struct file *file;

	assert_non_null(f);
	assert_int_equal(fwrite(plain, 1, n, f), n);
	assert_int_equal(fflush(f), 0);
	file = file_new(dup(fileno(f)));
	assert_non_null(file);
	fclose(f);
	return file;
}

/* A file costs what FILE costs, whatever comes before and after it. */
static void a_file_in_memory_is_a_whole_body(void **state)
{
	struct file *f;

	(void)state;
	make_plain();
	f = plain_file(60000);
	for (size_t around = 0; around <= 10000; around += 10000) {
		begin(CODING_GZIP);
		rig.all.options.levels[CODING_GZIP] = 6;
		head(200, TEXT, 60000);
		assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, around)));
		assert_true(rig.s.ops->send_file(&rig.s, f, around, 60000 - 2 * around));
		assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain + 60000 - around, around)));
		assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
		expect_said((int64_t)buf_len(&rig.body));
		assert_decodes_to(CODING_GZIP, 60000);
		assert_int_equal(leave(), FILE_COST + 2 * around);
		end();
	}
	file_give(f);
}

/* It is longer than one call takes, or shorter than FILE said. */
static void other_files_are_streams(void **state)
{
	struct file *f;

	(void)state;
	make_plain();
	f = plain_file(200000);
	begin(CODING_GZIP);
	head(200, TEXT, 200000);
	assert_true(rig.s.ops->send_file(&rig.s, f, 0, 200000));
	assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
	for (int turns = 0; turns < 100 && rig.s.response != RESPONSE_ENDED; turns++) {
		turn();
		leave();
	}
	expect_said(LENGTH_UNKNOWN);
	assert_decodes_to(CODING_GZIP, 200000);
	end();
	begin(CODING_GZIP);
	head(200, TEXT, 30000);
	assert_true(rig.s.ops->send_file(&rig.s, f, 190000, 30000));
	assert_false(rig.s.ops->send_end(&rig.s, NULL, 0));
	assert_true(coding_is_broken(&rig.s));
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain " CODED " " VARY " -1\n");
	end();
	file_give(f);
}

/* One compressor serves both codings and, one after the other, all levels. */
static void one_compressor_serves_all_levels(void **state)
{
	static const int levels[] = {1, 9, 1};
	static uint8_t out[40000];
	struct whole w = {0};
	size_t sizes[3];

	(void)state;
	make_plain();
	if (whole_max(CODING_GZIP, 1) == 0)
		skip();
	begin(CODING_GZIP);
	for (unsigned i = 0; i < 6; i++) {
		enum coding coding = i % 2 ? CODING_DEFLATE : CODING_GZIP;

		sizes[i / 2] = whole_encode(&w, coding, levels[i / 2], slice_of(plain, 30000), out, sizeof out);
		assert_true(buf_append(&rig.body, out, sizes[i / 2]));
		assert_decodes_to(coding, 30000);
		buf_free(&rig.body);
	}
	assert_true(sizes[1] < sizes[0]);
	assert_int_equal(sizes[2], sizes[0]);
	assert_int_equal(whole_encode(&w, CODING_GZIP, 1, slice_of(plain, 30000), out, sizes[0]), 0);
	whole_free(&w);
	end();
}

/* ---- credit and memory ---- */

/* Everything that the host wrote is counted as sent once it has left; nothing is counted twice. */
static void every_byte_is_counted_once(void **state)
{
	(void)state;
	make_plain();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		uint64_t counted = 0;

		if (!encoder_exists(c))
			continue;
		begin(c);
		head(200, TEXT, LENGTH_UNKNOWN);
		for (size_t at = 0; at < sizeof plain; at += 65536) {
			size_t before = buf_len(&rig.body);

			assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain + at, 65536)));
			turn();
			/* in parts of any size */
			while (before < buf_len(&rig.body)) {
				size_t n = buf_len(&rig.body) - before < 777 ? buf_len(&rig.body) - before : 777;
				counted += coding_sent(&rig.s, n);
				before += n;
				turn();
				assert_true(counted <= at + 65536);
			}
			assert_int_equal(counted, at + 65536);
		}
		end();
	}
}

/* For a client that does not read, no more is encoded than the session may hold, however large the host's window is. */
static void a_client_that_does_not_read(void **state)
{
	(void)state;
	make_plain();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		if (!encoder_exists(c))
			continue;
		begin(c);
		head(200, TEXT, LENGTH_UNKNOWN);
		assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, sizeof plain)));
		turn();
		assert_true(buf_len(&rig.body) < 65536 + 65536 + 4096);
		assert_int_equal(rig.all.memory, encoder_memory(c, rig.all.options.levels[c]));
		end();
	}
}

/* Input that produces no output yet leaves nothing to send, but the host must learn that there is room. */
static void room_without_output(void **state)
{
	(void)state;
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	assert_true(rig.s.ops->send_data(&rig.s, SLICE_LIT("hello")));
	turn();
	assert_int_equal(rig.rooms, 0);
	assert_int_equal(coding_sent(&rig.s, buf_len(&rig.body)), 5);
	assert_int_equal(coding_sent(&rig.s, 0), 0);
	end();
}

/* A turn encodes at most its share, which the streams divide. */
static void a_turn_is_bounded(void **state)
{
	(void)state;
	make_plain();
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, sizeof plain)));
	assert_true(rig.s.ops->send_end(&rig.s, NULL, 0));
	codings_run(&rig.all);
	assert_int_equal(rig.s.response, RESPONSE_STREAMING);
	assert_true(buf_len(&rig.body) > 0);
	end();
}

static size_t allocated(void)
{
#ifdef __GLIBC__
	struct mallinfo2 now = mallinfo2();

	return now.uordblks + now.hblkhd;
#else
	return 0;
#endif
}

/* Every level, with text and with noise. Where the allocator does not report sizes (sanitizers), nothing is checked. */
static void memory_is_what_was_said(void **state)
{
	static uint8_t out[4 << 20];

	(void)state;
	make_plain();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		for (int level = c == CODING_BR ? 0 : 1; encoder_exists(c) && level <= (c < CODING_BR ? 9 : 5); level++) {
			struct encoder_blocks blocks = {0};
			size_t before = allocated(), most = 0;
			struct encoder *e = encoder_new(c, level, &blocks);
			struct slice in = slice_of(plain, sizeof plain);
			size_t used;

			assert_non_null(e);
			while (in.len > 0) {
				struct slice piece = slice_of(in.at, 16384);

				while (!encoder_run(e, ENCODER_TAKE, &piece, out, sizeof out, &used))
					;
				in = slice_of(in.at + 16384, in.len - 16384);
				if (allocated() > before + most)
					most = allocated() - before;
			}
			encoder_free(e);
			encoder_blocks_free(&blocks);
			if (most > encoder_memory(c, level))
				fail_msg("%s of level %d holds %zu bytes, not %zu", coding_name(c), level, most,
					 encoder_memory(c, level));
		}
	assert_int_equal(encoder_memory(CODING_IDENTITY, 1), 0);
}

/* What is kept for whole bodies; PROTOCOL.md 4.2 says so. */
static void memory_for_whole_bodies_is_what_was_said(void **state)
{
	enum { COMPRESSOR = 660 << 10, ROOM = 130 << 10 };

	(void)state;
	make_plain();
	for (int level = 1; level <= 9; level++) {
		size_t before, held;

		begin(CODING_GZIP);
		rig.all.options.levels[CODING_GZIP] = level;
		before = allocated();
		respond(30000, 30000, 30000);
		coding_forget(&rig.s);
		buf_free(&rig.body);
		text_free(&rig.said);
		held = allocated() - before;
		if (held > COMPRESSOR + ROOM)
			fail_msg("gzip of level %d holds %zu bytes", level, held);
		end();
	}
}

static void no_memory_ends_the_stream(void **state)
{
	(void)state;
	make_plain();
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	rig.full = true;
	assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, 65536)));
	turn();
	assert_int_equal(rig.failures, 1);
	assert_null(rig.s.coding);
	end();
}

static void no_memory_ends_a_whole_body(void **state)
{
	(void)state;
	make_plain();
	begin(CODING_GZIP);
	head(200, TEXT, 5000);
	rig.full = true;
	assert_true(rig.s.ops->send_data(&rig.s, slice_of(plain, 5000)));
	assert_false(rig.s.ops->send_end(&rig.s, NULL, 0));
	assert_int_not_equal(rig.s.response, RESPONSE_ENDED);
	end();
}

static void trailers(void **state)
{
	struct field fields[4];
	unsigned count = parse_fields(fields, "x-sum: 1\ncontent-digest: a\nx-more: 2");

	(void)state;
	begin(CODING_GZIP);
	head(200, TEXT, LENGTH_UNKNOWN);
	assert_true(rig.s.ops->send_data(&rig.s, SLICE_LIT("hello")));
	assert_true(rig.s.ops->send_end(&rig.s, fields, count));
	memset(fields, 0, sizeof fields);
	turn();
	EXPECT_TEXT(&rig.said, "200 content-type=text/plain " CODED " " VARY " -1\nend x-sum=1 x-more=2\n");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_chooses),
		cmocka_unit_test(server_prefers),
		cmocka_unit_test(names),
		cmocka_unit_test(heads_that_are_coded),
		cmocka_unit_test(heads_that_are_not_coded_vary),
		cmocka_unit_test(head_says_what_get_would),
		cmocka_unit_test(what_was_encoded_decodes),
		cmocka_unit_test(a_whole_body_has_a_length),
		cmocka_unit_test(a_whole_body_is_counted_once),
		cmocka_unit_test(a_whole_body_may_wait),
		cmocka_unit_test(a_head_that_was_not_sent_leaves_no_trace),
		cmocka_unit_test(a_pause_ends_the_wait_for_the_end),
		cmocka_unit_test(whole_bodies_have_the_format_of_their_coding),
		cmocka_unit_test(a_file_in_memory_is_a_whole_body),
		cmocka_unit_test(other_files_are_streams),
		cmocka_unit_test(one_compressor_serves_all_levels),
		cmocka_unit_test(every_byte_is_counted_once),
		cmocka_unit_test(a_client_that_does_not_read),
		cmocka_unit_test(room_without_output),
		cmocka_unit_test(a_turn_is_bounded),
		cmocka_unit_test(memory_is_what_was_said),
		cmocka_unit_test(memory_for_whole_bodies_is_what_was_said),
		cmocka_unit_test(no_memory_ends_the_stream),
		cmocka_unit_test(no_memory_ends_a_whole_body),
		cmocka_unit_test(trailers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
