/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1_read.h"

#include "base/text.h"
#include "frames/names.h"
#include "proto/http.h"
#include "stream/rules.h"

/* ---- llhttp's callbacks: they record ---- */

static struct h1_parse *parse_of(llhttp_t *parser)
{
	return parser->data;
}

/* Always false. */
static bool refuse(struct h1_parse *p, unsigned status, const char *reason)
{
	p->status = status;
	p->reason = reason;
	return false;
}

/* The bytes of trailers do not stay in memory, so they are copied; fields of heads are spans, relative to the first byte. */
static bool place_of(struct h1_parse *p, const char *at, size_t len, uint32_t *offset)
{
	if (!p->in_trailers) {
		*offset = (uint32_t)((const uint8_t *)at - p->base);
		return true;
	}
	*offset = (uint32_t)buf_len(&p->trailers); /* bounded by sound_trailers */
	return buf_append(&p->trailers, at, len) || refuse(p, 500, "out of memory");
}

/* The same in a callback: makes llhttp stop. */
static int stop(struct h1_parse *p, unsigned status, const char *reason)
{
	refuse(p, status, reason);
	return -1;
}

static int on_name(llhttp_t *parser, const char *at, size_t len)
{
	struct h1_parse *p = parse_of(parser);
	struct h1_span *span = &p->spans[p->count ? p->count - 1 : 0];
	uint32_t offset;

	if (!place_of(p, at, len, &offset))
		return -1;
	if (p->count > 0 && !p->value_ended && !p->in_value) {
		span->name_len += (uint32_t)len;
	} else if (p->count >= p->config->max_header_count) {
		/* checked at the end of the name, so that an error in it is reported first, however the bytes are split */
		p->too_many = true;
		return 0;
	} else {
		p->spans[p->count++] = (struct h1_span){offset, (uint32_t)len, offset, 0};
		span = &p->spans[p->count - 1];
		p->in_value = p->value_ended = false;
	}
	if (span->name_len > p->config->max_header_line)
		return stop(p, 431, "a header field is too long");
	return 0;
}

static int on_name_end(llhttp_t *parser)
{
	struct h1_parse *p = parse_of(parser);

	if (p->too_many)
		return stop(p, 431, "too many header fields");
	/* llhttp takes a line that begins with a colon for a field without a name */
	if (p->count == 0 || p->value_ended || p->spans[p->count - 1].name_len == 0)
		return stop(p, 400, "a header field has no name");
	p->in_value = true;
	return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
	struct h1_parse *p = parse_of(parser);
	struct h1_span *span = &p->spans[p->count - 1];
	uint32_t offset;

	if (p->count == 0 || p->value_ended)
		return stop(p, 400, "a header field has no name");
	if (!place_of(p, at, len, &offset))
		return -1;
	if (span->value_len == 0)
		span->value = offset;
	else if (!p->in_trailers && offset != span->value + span->value_len)
		return stop(p, 400, "a folded header line");
	span->value_len += (uint32_t)len;
	if (span->value + span->value_len - span->name > p->config->max_header_line)
		return stop(p, 431, "a header field is too long");
	return 0;
}

static int on_value_end(llhttp_t *parser)
{
	parse_of(parser)->value_ended = true;
	return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
	parser->upgrade = 0; /* the application decides about upgrades, not the parser */
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_header_field = on_name,
	.on_header_field_complete = on_name_end,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_end,
	.on_headers_complete = on_headers_complete,
};

/* ---- one parser ---- */

/*
 * llhttp gets a made-up request line, since h1_line parses the real one: no method but CONNECT affects the framing. The
 * state after that line is made once and copied.
 */
static const llhttp_t *behind_line(void)
{
	static const char line[] = "POST / HTTP/1.1\r\n";
	static llhttp_t start;
	static bool made;

	if (!made) {
		llhttp_init(&start, HTTP_REQUEST, &settings);
		llhttp_execute(&start, line, sizeof line - 1);
		made = true;
	}
	return &start;
}

void h1_parse_init(struct h1_parse *p, const struct config *config)
{
	memset(&p->config, 0, offsetof(struct h1_parse, spans) - offsetof(struct h1_parse, config));
	p->parser = *behind_line();
	p->parser.data = p;
	p->config = config;
}

void h1_parse_free(struct h1_parse *p)
{
	buf_free(&p->trailers);
}

static enum h1_read_result bad(struct h1_parse *p, unsigned status, const char *reason)
{
	refuse(p, status, reason);
	return H1_BAD;
}

/* Reads the request line as far as it has arrived; p->seen of its bytes were read before. */
static enum h1_read_result read_line(struct h1_parse *p, const uint8_t *data, size_t len)
{
	size_t most = p->config->max_request_line, end = len <= most ? len : (size_t)most + 1, i = p->seen;

	i += text_printable(data + i, end - i);
	if (p->seen == 0 && i > 0 && !is_token_char(data[0]))
		return bad(p, 400, "the request line has a byte that is not allowed there");
	if (p->seen <= HTTP_METHOD_MAX && i > HTTP_METHOD_MAX && is_token(slice_of(data, HTTP_METHOD_MAX + 1)))
		return bad(p, 501, "the method is too long");
	if (i < end && data[i] != '\r')
		return bad(p, 400, "the request line has a byte that is not allowed there");
	p->seen = i;
	if (i == end || i + 1 == len)
		return i > most ? bad(p, 414, "the request line is too long") : H1_MORE;
	if (data[i + 1] != '\n')
		return bad(p, 400, "a bare CR in the request line");
	p->line_len = i;
	p->seen = i + 2;
	return H1_DONE;
}

static enum h1_read_result fault_of(struct h1_parse *p, llhttp_errno_t error)
{
	if (p->status)
		return H1_BAD;
	if (error == HPE_INVALID_TRANSFER_ENCODING)
		return bad(p, 400, "transfer-encoding is not valid");
	return bad(p, 400, llhttp_get_error_reason(&p->parser) ? llhttp_get_error_reason(&p->parser) : "malformed");
}

/* llhttp reports a field only after it has read all available bytes, so a line may already be too long before llhttp finds an
 * error in it. */
static bool beyond_a_line(const struct h1_parse *p, const uint8_t *head)
{
	const uint8_t *fault = (const uint8_t *)llhttp_get_error_pos(&p->parser);
	const uint8_t *lf = slice_last(slice_of(head, (size_t)(fault - head)), '\n');

	return lf && (size_t)(fault - lf) > p->config->max_header_line + 1;
}

/* The end of the head, if it is in these bytes; the first `seen` of them were searched before. */
static size_t end_of_head(const uint8_t *data, size_t seen, size_t len)
{
	static const char mark[] = "\r\n\r\n";
	size_t from = seen < sizeof mark ? 0 : seen - sizeof mark;
	const uint8_t *at = data + from, *end = data + len;

	for (; (at = memchr(at, '\r', (size_t)(end - at))); at++)
		if ((size_t)(end - at) >= sizeof mark - 1 && memcmp(at, mark, sizeof mark - 1) == 0)
			return (size_t)(at - data);
	return len;
}

/*
 * llhttp accepts only spaces after a Content-Length or a coding. White space at the end of a line is not part of the value
 * (RFC 9112 5.1), so tabs there become spaces. Returns how many bytes llhttp may get: trailing white space waits for the bytes
 * after it. Bytes after the head are not touched.
 */
static size_t blank_line_ends(uint8_t *data, size_t from, size_t len)
{
	size_t to = len;
	uint8_t *tab, *end;

	while (to > from && is_blank(data[to - 1]))
		to--;
	len = to;
	if (memchr(data + from, '\t', to - from))
		to = end_of_head(data, from, to);
	while (from < to && (tab = memchr(data + from, '\t', to - from))) {
		for (end = tab; is_blank(*end); end++)
			;
		if (*end == '\r')
			memset(tab, ' ', (size_t)(end - tab));
		from = (size_t)(end - data);
	}
	return len;
}

static enum h1_read_result read_fields(struct h1_parse *p, uint8_t *data, size_t len)
{
	size_t limit = len < p->config->max_header_block ? len : p->config->max_header_block;
	size_t end = blank_line_ends(data, p->seen, limit);
	llhttp_errno_t error;

	if (p->seen < end) {
		error = llhttp_execute(&p->parser, (const char *)data + p->seen, end - p->seen);
		if (error == HPE_PAUSED) {
			p->seen = p->head_len = (size_t)((const uint8_t *)llhttp_get_error_pos(&p->parser) - data);
			/* llhttp takes a bare LF for the empty line */
			return data[p->head_len - 2] == '\r' ? H1_DONE : bad(p, 400, "a bare LF");
		}
		if (error != HPE_OK && !p->status && beyond_a_line(p, data))
			return bad(p, 431, "a header field is too long");
		if (error != HPE_OK)
			return fault_of(p, error);
		p->seen = end;
	}
	return limit < p->config->max_header_block ? H1_MORE : bad(p, 431, "the header fields are too long");
}

enum h1_read_result h1_read_head(struct h1_parse *p, uint8_t *data, size_t len)
{
	enum h1_read_result result;

	p->base = data;
	if (p->head_len)
		return H1_DONE;
	if (p->line_len == 0) {
		result = read_line(p, data, len);
		if (result != H1_DONE)
			return result;
	}
	/* the first field line begins with white space: RFC 9112 2.2 */
	if (p->count == 0 && p->seen == p->line_len + 2 && p->seen < len && is_blank(data[p->seen]))
		return bad(p, 400, "white space before the first header field");
	return read_fields(p, data, len);
}

/* ---- a complete head ---- */

/* A line that begins with white space continues the previous one (RFC 9112 5.2); llhttp has joined them. */
static bool is_folded(const uint8_t *fields, const uint8_t *end)
{
	const uint8_t *at = fields;

	if (is_blank(*at))
		return true;
	while ((at = memchr(at, '\n', (size_t)(end - at))) && ++at < end)
		if (is_blank(*at))
			return true;
	return false;
}

static void describe(struct field *f, uint8_t *data, const struct h1_span *span)
{
	text_lower(data + span->name, span->name_len);
	f->name = slice_of(data + span->name, span->name_len);
	f->value = text_trim(slice_of(data + span->value, span->value_len));
	f->index = name_find(f->name);
}

static void examine_connection(struct slice value, struct h1_facts *facts)
{
	struct slice element;

	while (text_next(&value, &element)) {
		facts->close |= slice_eq_nocase(element, SLICE_LIT("close"));
		facts->keep_alive |= slice_eq_nocase(element, SLICE_LIT("keep-alive"));
		facts->upgrade |= slice_eq_nocase(element, SLICE_LIT("upgrade"));
	}
}

static bool examine_host(struct h1_parse *p, struct request_head *head, struct slice value, struct h1_facts *facts)
{
	const char *wrong;

	if (facts->host)
		return refuse(p, 400, "more than one Host field");
	facts->host = true;
	wrong = http_settle_authority(head, value, true);
	return !wrong || refuse(p, 400, wrong);
}

static bool examine_coding(struct h1_parse *p, struct request_head *head, struct slice value)
{
	if (head->version < 11)
		return refuse(p, 400, "transfer-encoding on HTTP/1.0");
	if (p->chunked)
		return refuse(p, 400, "more than one transfer-encoding field");
	p->chunked = slice_eq_nocase(value, SLICE_LIT("chunked"));
	/* an unknown coding gets 501 (RFC 9112 6.1); malformed spellings of "chunked" get 400 */
	return p->chunked || refuse(p, is_token(value) ? 501 : 400, "transfer-encoding other than chunked");
}

static bool examine_length(struct h1_parse *p, struct request_head *head, struct slice value)
{
	if (head->body != BODY_NONE)
		return refuse(p, 400, "more than one content-length field");
	return parse_length(value, &head->body) || refuse(p, 400, "content-length is not a number");
}

static bool examine_expect(struct h1_parse *p, struct request_head *head, struct slice value)
{
	if (!http_expects_continue(value))
		return refuse(p, 417, "an expectation other than 100-continue");
	if (head->version >= 11)
		head->flags |= REQUEST_EXPECTS_CONTINUE;
	return true;
}

static bool examine_field(struct h1_parse *p, const struct field *f, struct request_head *head, struct h1_facts *facts)
{
	switch (f->index) {
	case NAME_HOST:
		return examine_host(p, head, f->value, facts);
	case NAME_TRANSFER_ENCODING:
		return examine_coding(p, head, f->value);
	case NAME_CONTENT_LENGTH:
		return examine_length(p, head, f->value);
	case NAME_EXPECT:
		return examine_expect(p, head, f->value);
	case NAME_CONNECTION:
		examine_connection(f->value, facts);
		return true;
	case NAME_UPGRADE:
		facts->upgrade_field = true;
		return true;
	case NAME_TE:
		if (head->version >= 11 && text_lists(f->value, SLICE_LIT("trailers")))
			head->flags |= REQUEST_TAKES_TRAILERS;
		return true;
	default:
		return true;
	}
}

static bool examine_line(struct h1_parse *p, uint8_t *data, struct request_head *head)
{
	struct h1_line line;
	unsigned status = h1_line_parse(slice_of(data, p->line_len), &line);

	if (status)
		return refuse(p, status,
			      status == 505 ? "the version is neither HTTP/1.0 nor HTTP/1.1" : "the request line is not valid");
	*head = (struct request_head){
		.version = line.version,
		.method = line.method,
		.method_index = line.method_index,
		.https = line.https,
		.authority = line.authority,
		.path = line.path,
		.query = line.query,
		.target = line.plain ? (struct slice){0} : line.target,
		.body = BODY_NONE,
	};
	return true;
}

static bool settle_body(struct h1_parse *p, struct request_head *head)
{
	if (p->chunked && head->body != BODY_NONE)
		return refuse(p, 400, "both content-length and transfer-encoding");
	if (p->chunked)
		head->body = LENGTH_UNKNOWN;
	if (http_settle_body(head, p->config->max_body))
		return refuse(p, 413, "the body is longer than max_body");
	p->left = head->body;
	return true;
}

/* An Upgrade that Connection does not name, or with a body, or on HTTP/1.0, is not one (RFC 9110 7.8). */
static void examine_upgrade(struct request_head *head, const struct h1_facts *facts)
{
	bool asked = (facts->upgrade && facts->upgrade_field) || head->method_index == METHOD_CONNECT;

	if (asked && head->version >= 11 && head->body == BODY_NONE)
		head->flags |= REQUEST_MAY_UPGRADE;
}

bool h1_examine(struct h1_parse *p, uint8_t *data, struct field *fields, struct request_head *head, struct h1_facts *facts)
{
	*facts = (struct h1_facts){0};
	p->chunked = false;
	if (is_folded(data + p->line_len + 2, data + p->head_len))
		return refuse(p, 400, "a folded header line");
	if (!examine_line(p, data, head))
		return false;
	for (unsigned i = 0; i < p->count; i++) {
		describe(&fields[i], data, &p->spans[i]);
		if (!examine_field(p, &fields[i], head, facts))
			return false;
	}
	head->fields = fields;
	head->field_count = p->count;
	if (head->version >= 11 && !facts->host)
		return refuse(p, 400, "no Host field");
	if (!settle_body(p, head))
		return false;
	examine_upgrade(head, facts);
	return true;
}

/* ---- bodies ---- */

static enum h1_read_result read_length_body(struct h1_parse *p, uint8_t *data, size_t len, size_t *used, struct slice *body)
{
	if ((uint64_t)p->left < len)
		len = (size_t)p->left;
	p->left -= (int64_t)len;
	p->body_bytes += len;
	*used = len;
	*body = slice_of(data, len);
	return p->left == 0 ? H1_DONE : H1_MORE;
}

/* Checks the next byte of trailers, since llhttp accepts folded lines and bare LF, and has no limits. Returns 0, or the status to
 * refuse with. */
static unsigned look_at_trailers(struct h1_parse *p, uint8_t c)
{
	if ((p->after_lf && is_blank(c)) || (c == '\n' && !p->after_cr))
		return 400;
	p->trailer_line = c == '\n' ? 0 : p->trailer_line + (c != '\r');
	if (p->trailer_line > p->config->max_header_line || ++p->trailer_bytes > p->config->max_header_block)
		return 431;
	p->trailers_end = c == '\n' && p->empty_line;
	p->empty_line = c == '\r' && p->after_lf;
	p->after_cr = c == '\r';
	p->after_lf = c == '\n';
	return 0;
}

/* How many bytes of trailers are valid. Bytes after their empty line are not checked. */
static size_t sound_trailers(struct h1_parse *p, const uint8_t *data, size_t len, unsigned *status)
{
	for (size_t i = 0; i < len && !p->trailers_end; i++) {
		*status = look_at_trailers(p, data[i]);
		if (*status)
			return i;
	}
	return len;
}

/* Trailers are fields like those of a head, so they are read as one. If the input has two faults, the earlier one is reported. */
static enum h1_read_result read_trailers(struct h1_parse *p, const uint8_t *data, size_t len, size_t *used)
{
	unsigned status = 0;
	size_t sound = sound_trailers(p, data, len, &status);
	llhttp_errno_t error = llhttp_execute(&p->parser, (const char *)data, sound);

	*used = error == HPE_OK ? sound : (size_t)((const uint8_t *)llhttp_get_error_pos(&p->parser) - data);
	if (error == HPE_PAUSED)
		return H1_DONE;
	if (error != HPE_OK)
		return fault_of(p, error);
	if (status)
		return bad(p, status, status == 431 ? "trailers are too long" : "a folded trailer line, or a bare LF");
	return H1_MORE;
}

static void begin_trailers(struct h1_parse *p)
{
	p->parser = *behind_line();
	p->parser.data = p;
	p->in_trailers = p->after_lf = true;
	p->count = 0;
	p->in_value = p->value_ended = false;
}

static enum h1_read_result read_chunk_line(struct h1_parse *p, const uint8_t *data, size_t len, size_t *used)
{
	uint64_t most = p->config->max_body;

	switch (h1_chunk_read(&p->chunk, data, len, p->config->max_chunk_extension, used)) {
	case CHUNK_MORE:
		break;
	case CHUNK_DATA:
		if (most && (p->body_bytes > most || p->chunk.left > most - p->body_bytes))
			return bad(p, 413, "the body is longer than max_body");
		p->in_data = true;
		break;
	case CHUNK_LAST:
		begin_trailers(p);
		break;
	case CHUNK_BAD:
		return bad(p, 400, p->chunk.fault);
	}
	return H1_MORE;
}

/* Moves data of the chunk to the end of `body`, which begins at the call's first byte. */
static size_t take_chunk_data(struct h1_parse *p, const uint8_t *data, size_t len, uint8_t *to)
{
	size_t n = p->chunk.left < len ? (size_t)p->chunk.left : len;

	if (to != data)
		memmove(to, data, n);
	h1_chunk_took(&p->chunk, n);
	p->body_bytes += n;
	p->in_data = p->chunk.left > 0;
	return n;
}

enum h1_read_result h1_read_body(struct h1_parse *p, uint8_t *data, size_t len, size_t *used, struct slice *body)
{
	enum h1_read_result result = H1_MORE;
	size_t piece;

	if (!p->chunked)
		return read_length_body(p, data, len, used, body);
	*body = slice_of(data, 0);
	for (*used = 0; *used < len && result == H1_MORE; *used += piece) {
		if (p->in_trailers) {
			result = read_trailers(p, data + *used, len - *used, &piece);
		} else if (p->in_data) {
			piece = take_chunk_data(p, data + *used, len - *used, data + body->len);
			body->len += piece;
		} else {
			result = read_chunk_line(p, data + *used, len - *used, &piece);
		}
	}
	return result;
}

bool h1_trailers(struct h1_parse *p, struct field *fields, unsigned *count)
{
	uint8_t *data = buf_at(&p->trailers);

	*count = 0;
	if (!p->in_trailers || p->count == 0 || !data)
		return true;
	for (; *count < p->count; ++*count)
		describe(&fields[*count], data, &p->spans[*count]);
	return trailers_check(fields, *count, NULL) == NULL;
}
