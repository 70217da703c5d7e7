/* SPDX-License-Identifier: Apache-2.0 */
/*
 * REQUEST, BODY and RESPOND, written by sparx_port's own writer and by msgpack-c's packer, and read by its reader and by
 * msgpack-c's
 * unpacker.
 *
 *   messages            ns of each way
 *   messages WAY COUNT  runs one way COUNT times, to count its instructions (`list` names the ways)
 */
#include <assert.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "frames/fields.h"
#include "frames/message.h"
#include "frames/mp.h"
#include "frames/names.h"

/* Similar to the request of a browser. */
static const struct {
	const char *name, *value;
} pairs[] = {
	{"host", "www.example.org"},
	{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
	{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	{"accept-language", "en-US,en;q=0.5"},
	{"accept-encoding", "gzip, deflate, br, zstd"},
	{"connection", "keep-alive"},
	{"cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"},
	{"x-own", "1"},
};
enum { PAIRS = sizeof pairs / sizeof *pairs, BODY = 16384 };

static struct field fields[PAIRS];
static uint8_t body[BODY], out[1 << 17];
static uint8_t *at;

static const uint8_t address[] = {127, 0, 0, 1};

/* ---- ours ---- */

static void ours_request(void)
{
	uint8_t *start;

	at = mp_uint(message_begin(out, MSG_REQUEST), 12345678);
	start = mp_bin32_head(at, 0);
	at = mp_array(start, 14);
	at = mp_uint(at, 11);
	at = mp_uint(at, METHOD_GET);
	at = mp_uint(at, 0);
	at = mp_str(at, SLICE_LIT("www.example.org"));
	at = mp_str(at, SLICE_LIT("/articles/2024/05"));
	at = mp_str(at, SLICE_LIT("page=2"));
	at = mp_nil(at);
	at = mp_nil(at);
	at = mp_uint(at, 0);
	at = mp_bin(at, slice_of(address, sizeof address));
	at = mp_uint(at, 51234);
	at = mp_uint(at, 0);
	at = mp_uint32_wide(at, 0);
	at = fields_encode(at, fields, PAIRS);
	mp_bin32_head(start - MP_MAX_HEAD, (uint32_t)(at - start));
}

static void ours_body(void)
{
	at = message_put_body(out, &(struct msg_body){12345678, slice_of(body, sizeof body)});
}

static uint8_t headers[256];
static size_t headers_len;

static void ours_respond(void)
{
	at = message_put_respond(out, &(struct msg_respond){12345678, 200, slice_of(headers, headers_len), slice_of(body, 1024)});
}

/* ---- msgpack-c's, with a writer that appends without checking, as ours does ---- */

static int append(void *data, const char *bytes, size_t n)
{
	(void)data;
	memcpy(at, bytes, n);
	at += n;
	return 0;
}

static msgpack_packer packer = {NULL, append};

static void pack_text(const char *text, size_t n)
{
	msgpack_pack_str(&packer, n);
	msgpack_pack_str_body(&packer, text, n);
}

static void pack_bin(const void *bytes, size_t n)
{
	msgpack_pack_bin(&packer, n);
	msgpack_pack_bin_body(&packer, bytes, n);
}

static void pack_fields(void)
{
	msgpack_pack_array(&packer, 2 * PAIRS);
	for (unsigned i = 0; i < PAIRS; i++) {
		if (fields[i].index >= 0)
			msgpack_pack_int(&packer, fields[i].index);
		else
			pack_text((const char *)fields[i].name.at, fields[i].name.len);
		pack_bin(fields[i].value.at, fields[i].value.len);
	}
}

static void packer_request(void)
{
	uint8_t *start;

	at = out;
	msgpack_pack_array(&packer, 3);
	msgpack_pack_int(&packer, MSG_REQUEST);
	msgpack_pack_uint64(&packer, 12345678);
	start = at = mp_bin32_head(at, 0); /* its length is not known yet, and msgpack-c has no way to write that */
	msgpack_pack_array(&packer, 14);
	msgpack_pack_int(&packer, 11);
	msgpack_pack_int(&packer, METHOD_GET);
	msgpack_pack_int(&packer, 0);
	pack_text("www.example.org", 15);
	pack_text("/articles/2024/05", 17);
	pack_text("page=2", 6);
	msgpack_pack_nil(&packer);
	msgpack_pack_nil(&packer);
	msgpack_pack_int(&packer, 0);
	pack_bin(address, sizeof address);
	msgpack_pack_int(&packer, 51234);
	msgpack_pack_int(&packer, 0);
	msgpack_pack_fix_uint32(&packer, 0);
	pack_fields();
	mp_bin32_head(start - MP_MAX_HEAD, (uint32_t)(at - start));
}

static void packer_body(void)
{
	at = out;
	msgpack_pack_array(&packer, 3);
	msgpack_pack_int(&packer, MSG_BODY);
	msgpack_pack_uint64(&packer, 12345678);
	pack_bin(body, sizeof body);
}

static void packer_respond(void)
{
	at = out;
	msgpack_pack_array(&packer, 5);
	msgpack_pack_int(&packer, MSG_RESPOND);
	msgpack_pack_uint64(&packer, 12345678);
	msgpack_pack_int(&packer, 200);
	append(NULL, (const char *)headers, headers_len);
	pack_bin(body, 1024);
}

/* ---- reading RESPOND ---- */

static struct slice packed;

static void ours_reading(void)
{
	struct slice in = packed;
	struct message m;
	struct message_fault fault;
	struct field read[8];
	unsigned count;
	const char *rule;
	bool well = message_read(&in, FROM_HOST, &m, &fault) && fields_decode(m.respond.headers, read, 8, &count, &rule);

	assert(well && count == 2);
	(void)well;
}

static void packer_reading(void)
{
	msgpack_unpacked unpacked;
	size_t offset = 0;
	msgpack_unpack_return got;

	msgpack_unpacked_init(&unpacked);
	got = msgpack_unpack_next(&unpacked, (const char *)packed.at, packed.len, &offset);
	assert(got == MSGPACK_UNPACK_SUCCESS && unpacked.data.via.array.ptr[3].via.array.size == 4);
	(void)got;
	msgpack_unpacked_destroy(&unpacked);
}

static const struct way {
	const char *name;
	void (*run)(void);
} ways[] = {
	{"REQUEST, ours", ours_request},
	{"REQUEST, msgpack-c", packer_request},
	{"BODY, ours", ours_body},
	{"BODY, msgpack-c", packer_body},
	{"RESPOND, ours", ours_respond},
	{"RESPOND, msgpack-c", packer_respond},
	{"RESPOND read, ours", ours_reading},
	{"RESPOND read, msgpack-c", packer_reading},
};
enum { WAYS = sizeof ways / sizeof *ways, ROUNDS = 9, CALLS = 200000 };

static void prepare(void)
{
	static uint8_t kept[2048];

	for (unsigned i = 0; i < PAIRS; i++) {
		struct slice name = slice_str(pairs[i].name);
		fields[i] = (struct field){name, slice_str(pairs[i].value), name_find(name)};
	}
	struct field two[] = {{SLICE_LIT("content-type"), SLICE_LIT("text/plain"), NAME_CONTENT_TYPE},
			      {SLICE_LIT("x-request-id"), SLICE_LIT("F8zr2kJr"), NAME_UNKNOWN}};
	headers_len = (size_t)(fields_encode(headers, two, 2) - headers);
	for (unsigned i = 0; i < WAYS - 2; i += 2) { /* both write the same bytes */
		size_t n;
		ways[i].run();
		n = (size_t)(at - out);
		static uint8_t first[1 << 17];
		memcpy(first, out, n);
		ways[i + 1].run();
		if ((size_t)(at - out) != n || memcmp(first, out, n) != 0) {
			fprintf(stderr, "%s: not the same\n", ways[i].name);
			exit(1);
		}
	}
	ours_respond();
	memcpy(kept, out, (size_t)(at - out));
	packed = slice_of(kept, (size_t)(at - out));
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
	double least[WAYS];

	prepare();
	if (argc == 2) {
		for (unsigned i = 0; i < WAYS; i++)
			puts(ways[i].name);
		return 0;
	}
	if (argc == 3) {
		const struct way *way = &ways[atoi(argv[1])];
		for (long n = atol(argv[2]); n > 0; n--)
			way->run();
		return 0;
	}
	for (unsigned i = 0; i < WAYS; i++)
		least[i] = 1e18;
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < WAYS; i++) {
			double start = now_ns(), took;
			for (unsigned n = 0; n < CALLS; n++)
				ways[i].run();
			took = (now_ns() - start) / CALLS;
			if (took < least[i])
				least[i] = took;
		}
	for (unsigned i = 0; i < WAYS; i++)
		printf("%s\t%.1f\n", ways[i].name, least[i]);
	return 0;
}
