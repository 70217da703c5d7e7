/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Response compression: an Accept-Encoding, a head, and a program of when the host writes and when bytes leave. The output must
 * decode to the input, wherever it is cut, and every byte of the host must be counted as sent exactly once.
 *
 * The input: a byte for the coding; the length of an Accept-Encoding and its text; the length of a content type and its text; then
 * steps,
 * a byte each: 0 to 127 so many bytes of the input are written, 128 to 159 so many KiB of them repeated, 160 to 191 a turn of the
 * loop, 192 to 254 so
 * many times 16 bytes leave, 255 the end.
 */
#include <stdlib.h>

#include <zlib.h>
#ifdef WITH_ZSTD
#include <zstd.h>
#endif

#include "base/buf.h"
#include "coding/coding.h"
#include "parts/target.h"

#define MUST(x) ((x) ? (void)0 : abort())

enum { OUTPUT_MAX = 1 << 20 };

static struct codings all;
static struct buf written, coded;
static size_t left;      /* of what is coded */
static uint64_t counted; /* of what was written */
static bool ended;
static int64_t said; /* length in the head */

static bool say_head(struct stream *s, const struct response_head *head)
{
	(void)s;
	MUST(head->field_count >= 1 && head->field_count <= 4);
	said = head->length;
	return true;
}

static bool say_data(struct stream *s, struct slice data)
{
	MUST((data.len > 0 || !s->coding) && data.len <= SEND_COPIED && !ended);
	return buf_append(&coded, data.at, data.len);
}

static bool say_end(struct stream *s, const struct field *trailers, unsigned count)
{
	(void)trailers;
	MUST(s->response == RESPONSE_ENDED && count == 0 && !ended);
	MUST(said == LENGTH_UNKNOWN || said == (int64_t)buf_len(&coded));
	ended = true;
	return true;
}

static const struct stream_ops session = {.send_head = say_head, .send_data = say_data, .send_end = say_end};

static void on_room(void *ctx, struct stream *s)
{
	(void)ctx;
	MUST(buf_len(&coded) == left);
	counted += coding_sent(s, 0);
}

static void on_failed(void *ctx, struct stream *s)
{
	(void)ctx;
	(void)s;
	abort();
}

static void leave(struct stream *s, size_t n)
{
	size_t most = buf_len(&coded) - left;

	n = n < most ? n : most;
	left += n;
	counted += coding_sent(s, n);
	MUST(counted <= buf_len(&written));
}

/* As long as what was written. */
static bool same(const uint8_t *bytes)
{
	return buf_len(&written) == 0 || memcmp(bytes, buf_at(&written), buf_len(&written)) == 0;
}

static void check(enum coding coding, bool coding_took_it)
{
	static uint8_t out[OUTPUT_MAX];
	size_t n = 0;

	if (!coding_took_it) {
		MUST(buf_len(&coded) == buf_len(&written) && same(buf_at(&coded)));
		return;
	}
	if (coding == CODING_GZIP || coding == CODING_DEFLATE) {
		z_stream z = {
			.next_in = buf_at(&coded), .avail_in = (uInt)buf_len(&coded), .next_out = out, .avail_out = sizeof out};
		MUST(inflateInit2(&z, 15 + (coding == CODING_GZIP ? 16 : 0)) == Z_OK);
		MUST(inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_in == 0);
		n = sizeof out - z.avail_out;
		inflateEnd(&z);
#ifdef WITH_ZSTD
	} else if (coding == CODING_ZSTD) {
		n = ZSTD_decompress(out, sizeof out, buf_at(&coded), buf_len(&coded));
#endif
	} else {
		return;
	}
	MUST(n == buf_len(&written) && same(out));
}

static void step(struct stream *s, struct input *in, uint8_t what)
{
	struct slice bytes;

	if (what >= 192) {
		leave(s, (what - 191u) * 16);
	} else if (what >= 160) {
		codings_run(&all);
	} else {
		bytes = input_bytes(in, what < 128 ? what : 1);
		for (unsigned i = 0; i < (what < 128 ? 1 : (what - 127u) * 1024) && buf_len(&written) + bytes.len <= OUTPUT_MAX;
		     i++) {
			MUST(buf_append(&written, bytes.at, bytes.len));
			MUST(s->ops->send_data(s, bytes));
		}
	}
}

static void start(struct stream *s, uint8_t *offered, struct input *in)
{
	struct field fields[2] = {{SLICE_LIT("accept-encoding"), {0}, -1}, {SLICE_LIT("content-type"), {0}, -1}};
	enum coding accepts;
	struct response_head head = {.status = 200, .fields = fields + 1, .field_count = 1, .length = LENGTH_UNKNOWN};

	*offered = (uint8_t)(CODING_GZIP + input_byte(in) % 4);
	if (!encoder_exists((enum coding) * offered))
		*offered = CODING_GZIP;
	all.options = (struct coding_options){
		.offered = offered,
		.offers = 1,
		.types = "text/* application/json",
		.memory = 1 << 30,
		.levels = {[CODING_GZIP] = 1, [CODING_DEFLATE] = 6, [CODING_BR] = 1, [CODING_ZSTD] = 1},
	};
	fields[0].value = input_bytes(in, input_byte(in));
	fields[1].value = input_bytes(in, input_byte(in));
	stream_init(s, &session);
	accepts = codings_note(&all, fields, 1);
	MUST(accepts == CODING_IDENTITY || accepts == *offered);
	stream_response_moves(s, RESPONSE_STREAMING);
	MUST(coding_begin(&all, s, accepts, &head) && s->ops->send_head(s, &head));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct stream s;
	uint8_t what = 0, offered;
	bool coding;

	codings_init(&all, NULL, on_room, on_failed);
	left = counted = ended = 0;
	said = LENGTH_UNKNOWN;
	start(&s, &offered, &in);
	coding = s.coding != NULL;
	while (in.left > 0 && (what = input_byte(&in)) != 255)
		step(&s, &in, what);
	if (!coding)
		stream_response_moves(&s, RESPONSE_ENDED);
	MUST(s.ops->send_end(&s, NULL, 0));
	while (!ended) {
		codings_run(&all);
		leave(&s, OUTPUT_MAX);
	}
	leave(&s, OUTPUT_MAX);
	MUST(counted == buf_len(&written) && all.memory == 0);
	check((enum coding)offered, coding);
	coding_forget(&s);
	codings_free(&all);
	buf_free(&written);
	buf_free(&coded);
	return 0;
}
