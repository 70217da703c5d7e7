/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1_write.h"

#include <assert.h>

#include "frames/names.h"
#include "proto/http.h"

static uint8_t *put(uint8_t *at, struct slice text)
{
	if (text.len)
		memcpy(at, text.at, text.len);
	return at + text.len;
}

static uint8_t *put_number(uint8_t *at, uint64_t n)
{
	uint8_t digits[20];
	unsigned count = 0;

	do {
		digits[count++] = (uint8_t)('0' + n % 10);
		n /= 10;
	} while (n);
	while (count)
		*at++ = digits[--count];
	return at;
}

static uint8_t *put_hex(uint8_t *at, uint64_t n)
{
	unsigned shift = 60;

	while (shift && !(n >> shift))
		shift -= 4;
	for (;; shift -= 4) {
		*at++ = (uint8_t) "0123456789abcdef"[n >> shift & 15];
		if (shift == 0)
			return at;
	}
}

enum { STATUS_LINE_MAX = 64 };

/* Most responses have the status of the one before, so its line is kept. */
static uint8_t *put_status(uint8_t *at, unsigned status)
{
	static uint8_t line[STATUS_LINE_MAX];
	static unsigned of;
	static size_t len;
	uint8_t *end;

	if (of != status) {
		end = put(line, SLICE_LIT("HTTP/1.1 "));
		end = put_number(end, status);
		*end++ = ' ';
		end = put(end, slice_str(http_reason(status)));
		end = put(end, SLICE_LIT("\r\n"));
		of = status;
		len = (size_t)(end - line);
		assert(len <= sizeof line);
	}
	return put(at, slice_of(line, len));
}

static inline uint8_t *put_field(uint8_t *at, struct slice name, struct slice value)
{
	at = put(at, name);
	at = put(at, SLICE_LIT(": "));
	at = put(at, value);
	return put(at, SLICE_LIT("\r\n"));
}

/* Bytes of the status line, and of the fields for the date, framing and connection; the empty line. */
enum { OWN_FIELDS_BOUND = STATUS_LINE_MAX + 40 + 40 + 26 + 2 };

static size_t bound_of(const struct field *fields, unsigned count)
{
	size_t bound = OWN_FIELDS_BOUND;

	for (unsigned i = 0; i < count; i++)
		bound += fields[i].name.len + fields[i].value.len + 4;
	return bound;
}

static uint8_t *put_fields(uint8_t *at, const struct field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!http_is_ours(&fields[i]))
			at = put_field(at, fields[i].name, fields[i].value);
	return at;
}

static uint8_t *put_length(uint8_t *at, int64_t length)
{
	at = put(at, SLICE_LIT("Content-Length: "));
	at = put_number(at, (uint64_t)length);
	return put(at, SLICE_LIT("\r\n"));
}

static uint8_t *put_plan(uint8_t *at, const struct h1_frame_plan *plan)
{
	if (plan->framing == FRAMING_CHUNKED)
		at = put(at, SLICE_LIT("Transfer-Encoding: chunked\r\n"));
	else if (plan->length != LENGTH_UNKNOWN)
		at = put_length(at, plan->length);
	if (plan->close)
		at = put(at, SLICE_LIT("Connection: close\r\n"));
	else if (plan->keep)
		at = put(at, SLICE_LIT("Connection: keep-alive\r\n"));
	return at;
}

bool h1_write_head(struct bufq *out, const struct session_env *env, const struct response_head *head,
		   const struct h1_frame_plan *plan)
{
	struct slice server = head->has_server ? (struct slice){0} : slice_str(env->config->server);
	uint8_t *start = bufq_reserve(out, bound_of(head->fields, head->field_count) + server.len + 10), *at = start;

	if (!at)
		return false;
	at = put_status(at, head->status);
	if (!head->has_date)
		at = put_field(at, SLICE_LIT("Date"), slice_of(env->date, DATE_LEN));
	if (server.len)
		at = put_field(at, SLICE_LIT("Server"), server);
	at = put_fields(at, head->fields, head->field_count);
	at = put_plan(at, plan);
	at = put(at, SLICE_LIT("\r\n"));
	bufq_filled(out, (size_t)(at - start));
	return true;
}

bool h1_write_info(struct bufq *out, unsigned status, const struct field *fields, unsigned count)
{
	uint8_t *start = bufq_reserve(out, bound_of(fields, count)), *at = start;

	if (!at)
		return false;
	at = put_status(at, status);
	at = put_fields(at, fields, count);
	at = put(at, SLICE_LIT("\r\n"));
	bufq_filled(out, (size_t)(at - start));
	return true;
}

bool h1_write_upgrade(struct bufq *out, struct slice protocol, const struct field *fields, unsigned count)
{
	uint8_t *start = bufq_reserve(out, bound_of(fields, count) + protocol.len), *at = start;

	if (!at)
		return false;
	at = put_status(at, protocol.at ? 101 : 200);
	if (protocol.at) {
		at = put_field(at, SLICE_LIT("Upgrade"), protocol);
		at = put_field(at, SLICE_LIT("Connection"), SLICE_LIT("Upgrade"));
	}
	at = put_fields(at, fields, count);
	at = put(at, SLICE_LIT("\r\n"));
	bufq_filled(out, (size_t)(at - start));
	return true;
}

bool h1_write_chunk(struct bufq *out, struct slice data)
{
	uint8_t line[20], *at = put_hex(line, data.len);

	at = put(at, SLICE_LIT("\r\n"));
	return bufq_append(out, line, (size_t)(at - line)) && bufq_lend(out, data.at, data.len) && bufq_append(out, "\r\n", 2);
}

bool h1_write_file_chunk(struct bufq *out, struct file *f, uint64_t offset, size_t n)
{
	uint8_t line[20], *at = put_hex(line, n);

	at = put(at, SLICE_LIT("\r\n"));
	return bufq_append(out, line, (size_t)(at - line)) && bufq_append_file(out, f, offset, n) && bufq_append(out, "\r\n", 2);
}

bool h1_write_last_chunk(struct bufq *out, const struct field *trailers, unsigned count)
{
	uint8_t *start = bufq_reserve(out, bound_of(trailers, count)), *at = start;

	if (!at)
		return false;
	at = put(at, SLICE_LIT("0\r\n"));
	at = put_fields(at, trailers, count);
	at = put(at, SLICE_LIT("\r\n"));
	bufq_filled(out, (size_t)(at - start));
	return true;
}

bool h1_write_error(struct bufq *out, const struct session_env *env, const struct h1_error *error)
{
	/* RFC 9110 15.5.22, RFC 6455 4.4: name the supported protocol and version */
	static const struct field wanted[] = {
		{SLICE_LIT("Upgrade"), SLICE_LIT("websocket"), NAME_UNKNOWN},
		{SLICE_LIT("Connection"), SLICE_LIT("Upgrade"), NAME_UNKNOWN},
		{SLICE_LIT("Sec-WebSocket-Version"), SLICE_LIT("13"), NAME_UNKNOWN},
	};
	struct http_error e;
	struct field fields[2 + sizeof wanted / sizeof *wanted];
	struct h1_frame_plan plan;

	http_error_make(&e, error->status, error->retry_after);
	plan = (struct h1_frame_plan){FRAMING_LENGTH, e.head.length, error->close, error->keep};
	if (error->status == 426) {
		memcpy(fields, e.fields, sizeof e.fields);
		memcpy(fields + e.head.field_count, wanted, sizeof wanted);
		e.head.fields = fields;
		e.head.field_count += sizeof wanted / sizeof *wanted;
	}
	return h1_write_head(out, env, &e.head, &plan) && (error->no_body || bufq_append(out, e.body.at, e.body.len));
}
