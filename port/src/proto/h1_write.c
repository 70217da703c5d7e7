#include "proto/h1_write.h"

#include <stdio.h>

#include "frames/names.h"

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{102, "Processing"},
	{103, "Early Hints"},
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{203, "Non-Authoritative Information"},
	{204, "No Content"},
	{205, "Reset Content"},
	{206, "Partial Content"},
	{207, "Multi-Status"},
	{208, "Already Reported"},
	{226, "IM Used"},
	{300, "Multiple Choices"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{305, "Use Proxy"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{402, "Payment Required"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{407, "Proxy Authentication Required"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{418, "I'm a teapot"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{423, "Locked"},
	{424, "Failed Dependency"},
	{425, "Too Early"},
	{426, "Upgrade Required"},
	{428, "Precondition Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{506, "Variant Also Negotiates"},
	{507, "Insufficient Storage"},
	{508, "Loop Detected"},
	{511, "Network Authentication Required"},
};

const char *h1_reason(unsigned status)
{
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return ""; /* RFC 9112 section 4: the phrase may be empty */
}

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

static uint8_t *put_status(uint8_t *at, unsigned status)
{
	at = put(at, SLICE_LIT("HTTP/1.1 "));
	at = put_number(at, status);
	*at++ = ' ';
	at = put(at, slice_str(h1_reason(status)));
	return put(at, SLICE_LIT("\r\n"));
}

static uint8_t *put_field(uint8_t *at, struct slice name, struct slice value)
{
	at = put(at, name);
	at = put(at, SLICE_LIT(": "));
	at = put(at, value);
	return put(at, SLICE_LIT("\r\n"));
}

enum { OWN_FIELDS_BOUND = 512 }; /* status line, date, server, framing, connection */

static size_t bound_of(const struct field *fields, unsigned count)
{
	size_t bound = OWN_FIELDS_BOUND;

	for (unsigned i = 0; i < count; i++)
		bound += fields[i].name.len + fields[i].value.len + 4;
	return bound;
}

/* The host's content-length and connection are said by the plan. */
static bool is_planned(const struct field *f)
{
	return f->index == NAME_CONTENT_LENGTH || f->index == NAME_CONNECTION;
}

static uint8_t *put_fields(uint8_t *at, const struct field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!is_planned(&fields[i]))
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
	uint8_t *start = bufq_reserve(out, bound_of(head->fields, head->field_count)), *at = start;

	if (!at)
		return false;
	at = put_status(at, head->status);
	if (!head->has_date)
		at = put_field(at, SLICE_LIT("Date"), slice_of(env->date, DATE_LEN));
	if (!head->has_server && env->config->server[0])
		at = put_field(at, SLICE_LIT("Server"), slice_str(env->config->server));
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
	/* RFC 9110 15.5.22, RFC 6455 4.4: the one protocol and version that there is */
	static const struct field wanted[] = {
		{SLICE_LIT("Upgrade"), SLICE_LIT("websocket"), NAME_UNKNOWN},
		{SLICE_LIT("Connection"), SLICE_LIT("Upgrade"), NAME_UNKNOWN},
		{SLICE_LIT("Sec-WebSocket-Version"), SLICE_LIT("13"), NAME_UNKNOWN},
	};
	char body[96], seconds[16];
	int len = snprintf(body, sizeof body, "%u %s\n", error->status, h1_reason(error->status));
	int digits = snprintf(seconds, sizeof seconds, "%u", error->retry_after);
	struct field fields[4] = {{SLICE_LIT("Content-Type"), SLICE_LIT("text/plain"), NAME_UNKNOWN}};
	struct response_head head = {.status = error->status, .fields = fields, .field_count = 1};
	struct h1_frame_plan plan = {FRAMING_LENGTH, len, error->close, error->keep};

	if (error->retry_after)
		fields[head.field_count++] = (struct field){SLICE_LIT("Retry-After"), slice_of(seconds, (size_t)digits),
							    NAME_UNKNOWN};
	if (error->status == 426) {
		memcpy(fields + head.field_count, wanted, sizeof wanted);
		head.field_count += sizeof wanted / sizeof *wanted;
	}
	return h1_write_head(out, env, &head, &plan) && (error->no_body || bufq_append(out, body, (size_t)len));
}
