/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/coding.h"

#include <stdlib.h>

#include "file/load.h"
#include "stream/rules.h"

enum { SLICE = 16384, TURN = 65536, OUT = SEND_COPIED, UNSENT_MAX = 65536, SHORT_MAX = 131072 };
/* The longest body that is encoded in one call; and room for its output, with what encoders add to bytes that do not compress. */
enum { WHOLE_MAX = 131072, WHOLE_ROOM = WHOLE_MAX + WHOLE_MAX / 128 + 1024 };

struct response_coding {
	struct stream *s;
	struct codings *all;
	const struct stream_ops *below;
	struct encoder *encoder; /* NULL before the first byte, and once it has ended */
	enum coding coding;
	int64_t length; /* of the response; LENGTH_UNKNOWN */
	size_t memory;  /* the most memory that the encoder may use; counted from the start */
	struct list link;
	struct bufq raw;           /* bytes of the host that are not encoded yet */
	uint64_t owed;             /* bytes of the host that were encoded and have not been counted as sent */
	uint64_t unsent;           /* encoded bytes that the session has and that have not left */
	struct response_head head; /* while `fields` is not NULL: the session does not have it yet */
	struct field *fields;      /* of the head, followed by their bytes */
	bool dirty;                /* the encoder may hold bytes back */
	bool ends;
	bool over;              /* the whole response is encoded */
	bool broken;            /* a file in raw is shorter than FILE said */
	struct field *trailers; /* followed by their bytes */
	unsigned trailer_count;
};

static const struct stream_ops coding_ops;

/* ---- which responses are compressed ---- */

static bool has_word(struct slice value, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= value.len; i++)
		if (strncasecmp((const char *)value.at + i, word, n) == 0)
			return true;
	return false;
}

static bool matches(const char *pattern, size_t n, struct slice type)
{
	if (n > 0 && pattern[n - 1] == '*')
		return type.len >= n - 1 && strncasecmp(pattern, (const char *)type.at, n - 1) == 0;
	return type.len == n && strncasecmp(pattern, (const char *)type.at, n) == 0;
}

static bool is_listed(const char *types, struct slice value)
{
	struct slice type = value;

	for (size_t i = 0; i < value.len && type.len == value.len; i++)
		if (value.at[i] == ';' || value.at[i] == ' ' || value.at[i] == '\t')
			type.len = i;
	while (*types) {
		size_t n = strcspn(types, " ");
		if (matches(types, n, type))
			return true;
		types += n + strspn(types + n, " ");
	}
	return false;
}

static bool is(const struct field *f, const char *name)
{
	return slice_eq_nocase(f->name, slice_str(name));
}

/* 204, 205 and 304 have nothing to compress, and 206 has a part of the unencoded file. */
static bool has_content(unsigned status)
{
	return status != 206 && !never_has_body(status, false);
}

/* RFC 9110 7.7: no-transform; 8.4: a response with a coding keeps it. */
static bool may_be_coded(const struct codings *all, const struct response_head *head)
{
	bool listed = false;

	if (!has_content(head->status) || (head->length != LENGTH_UNKNOWN && (uint64_t)head->length < all->options.least))
		return false;
	for (unsigned i = 0; i < head->field_count; i++) {
		const struct field *f = &head->fields[i];

		if (is(f, "content-encoding") || is(f, "content-range") ||
		    (is(f, "cache-control") && has_word(f->value, "no-transform")))
			return false;
		if (is(f, "content-type"))
			listed = is_listed(all->options.types, f->value);
	}
	return listed;
}

/* ---- the head ---- */

/* Length and digests describe other bytes, and there are no ranges of the encoded ones. */
static bool is_of_the_plain_bytes(const struct field *f)
{
	static const char *const names[] = {"content-length", "content-digest", "repr-digest",
					    "digest",         "content-md5",    "accept-ranges"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (is(f, names[i]))
			return true;
	return false;
}

/* Encoded variants are not identical byte for byte (RFC 9110 8.8.1), so the tag becomes weak. False: it is too long, and is left
 * out. */
static bool weaken(struct codings *all, struct field *f)
{
	if (f->value.len >= 2 && f->value.at[0] == 'W')
		return true;
	if (f->value.len + 2 > sizeof all->etag)
		return false;
	all->etag[0] = 'W';
	all->etag[1] = '/';
	memcpy(all->etag + 2, f->value.at, f->value.len);
	f->value = slice_of(all->etag, f->value.len + 2);
	return true;
}

static bool varies(const struct field *f)
{
	return is(f, "vary") && (has_word(f->value, "accept-encoding") || (f->value.len == 1 && *f->value.at == '*'));
}

/* Changes the fields of a response that may be compressed; with a coding, of one that is compressed. */
static void say(struct codings *all, struct response_head *head, enum coding coding)
{
	bool varied = false;
	unsigned n = 0;

	for (unsigned i = 0; i < head->field_count; i++) {
		struct field *f = &all->fields[n];

		*f = head->fields[i];
		varied = varied || varies(f);
		if (coding == CODING_IDENTITY || (!is_of_the_plain_bytes(f) && (!is(f, "etag") || weaken(all, f))))
			n++;
	}
	if (coding != CODING_IDENTITY)
		all->fields[n++] = (struct field){SLICE_LIT("content-encoding"), slice_str(coding_name(coding)), -1};
	if (!varied)
		all->fields[n++] = (struct field){SLICE_LIT("vary"), SLICE_LIT("accept-encoding"), -1};
	head->fields = all->fields;
	head->field_count = n;
	if (coding != CODING_IDENTITY)
		head->length = LENGTH_UNKNOWN;
}

/* `content-encoding: identity` forbids compression; it is not sent to clients (RFC 9110 8.4). */
static bool refused_by_host(struct codings *all, struct response_head *head)
{
	unsigned n = 0;

	for (unsigned i = 0; i < head->field_count; i++)
		if (!is(&head->fields[i], "content-encoding") || !slice_eq_nocase(head->fields[i].value, SLICE_LIT("identity")))
			all->fields[n++] = head->fields[i];
	if (n == head->field_count)
		return false;
	head->fields = all->fields;
	head->field_count = n;
	return true;
}

/* ---- its beginning and its end ---- */

void codings_init(struct codings *all, void *ctx, void (*room)(void *, struct stream *), void (*failed)(void *, struct stream *))
{
	memset(all, 0, sizeof *all);
	list_init(&all->active);
	list_init(&all->later);
	all->left = TURN;
	all->ctx = ctx;
	all->room = room;
	all->failed = failed;
}

void codings_free(struct codings *all)
{
	for (int i = 0; i < CODINGS; i++)
		encoder_free(all->spare[i]);
	encoder_blocks_free(&all->blocks);
	whole_free(&all->whole);
	free(all->once);
}

enum coding codings_note(const struct codings *all, const struct field *fields, unsigned count)
{
	return all->options.offers ? coding_choose(fields, count, all->options.offered, all->options.offers) : CODING_IDENTITY;
}

static size_t memory_for(const struct codings *all, enum coding coding)
{
	return encoder_memory(coding, all->options.levels[coding]);
}

/* Making an encoder takes longer than compressing a short response. */
static struct encoder *take_encoder(struct codings *all, enum coding coding)
{
	struct encoder *e = all->spare[coding];

	all->spare[coding] = NULL;
	return e ? e : encoder_new(coding, all->options.levels[coding], &all->blocks);
}

static void end_encoder(struct response_coding *c, bool finished)
{
	if (c->over)
		return;
	if (c->encoder && finished && !c->all->spare[c->coding] && encoder_reset(c->encoder))
		c->all->spare[c->coding] = c->encoder;
	else
		encoder_free(c->encoder);
	c->encoder = NULL;
	c->over = true;
	c->all->memory -= c->memory;
}

static bool attach(struct codings *all, struct stream *s, enum coding coding, int64_t length)
{
	struct response_coding *c = calloc(1, sizeof *c);

	if (!c)
		return false;
	c->length = length;
	c->s = s;
	c->all = all;
	c->coding = coding;
	c->memory = memory_for(all, coding);
	c->below = s->ops;
	list_init(&c->link);
	bufq_init(&c->raw);
	all->memory += c->memory;
	s->coding = c;
	s->ops = &coding_ops;
	return true;
}

bool coding_begin(struct codings *all, struct stream *s, enum coding accepts, struct response_head *head)
{
	enum coding coding = accepts;
	int64_t length = head->length;

	if (refused_by_host(all, head) || all->options.offers == 0 || !may_be_coded(all, head))
		return true;
	if (coding != CODING_IDENTITY && all->memory + memory_for(all, coding) > all->options.memory)
		coding = CODING_IDENTITY;
	say(all, head, coding);
	return coding == CODING_IDENTITY || s->bodiless || attach(all, s, coding, length);
}

void coding_forget(struct stream *s)
{
	struct response_coding *c = s->coding;

	if (!c)
		return;
	end_encoder(c, false);
	if (c->fields) /* nothing was sent, so the client may get another response */
		stream_response_moves(s, RESPONSE_WAITING);
	list_remove(&c->link);
	bufq_free(&c->raw);
	free(c->fields);
	free(c->trailers);
	s->ops = c->below;
	s->coding = NULL;
	free(c);
}

bool coding_is_broken(const struct stream *s)
{
	return s->coding && s->coding->broken;
}

bool coding_ends(const struct stream *s)
{
	return s->coding && s->coding->ends;
}

/* Not while the session has enough output: that waits for the client. */
static void activate(struct response_coding *c)
{
	if (!c->over && c->unsent < UNSENT_MAX && !list_linked(&c->link))
		list_append(&c->all->active, &c->link);
}

/* Once it has begun, it goes on before others, so that few encoders are in use at the same time. */
static bool is_short(const struct response_coding *c)
{
	return c->ends && c->raw.len <= SHORT_MAX;
}

static bool begun(struct response_coding *c)
{
	if (c->encoder)
		return true;
	c->encoder = take_encoder(c->all, c->coding);
	if (c->encoder && c->length != LENGTH_UNKNOWN)
		encoder_expect(c->encoder, (uint64_t)c->length);
	return c->encoder != NULL;
}

uint64_t coding_sent(struct stream *s, uint64_t bytes)
{
	struct response_coding *c = s->coding;
	uint64_t share;

	if (!c)
		return bytes;
	share = bytes >= c->unsent ? c->owed : (uint64_t)((unsigned __int128)c->owed * bytes / c->unsent);
	c->unsent -= bytes < c->unsent ? bytes : c->unsent;
	c->owed -= share;
	if (c->raw.len > 0 || c->ends)
		activate(c);
	return share;
}

/* ---- the work ---- */

/* Runs the encoder until the operation is complete, and sends its output. */
static bool encode(struct response_coding *c, enum encoder_op op, struct slice in)
{
	uint8_t out[OUT];
	size_t used;
	int complete;

	if (!begun(c))
		return false;
	do {
		complete = encoder_run(c->encoder, op, &in, out, sizeof out, &used);
		c->unsent += used;
		if (complete < 0 || (used > 0 && !c->below->send_data(c->s, slice_of(out, used))))
			return false;
	} while (!complete);
	return true;
}

/* Reads the next bytes of a file. False: that is not possible; `later` if it may be possible in a while. */
static bool load(struct response_coding *c, bool *later)
{
	struct bufq_file f;
	enum loaded found = LOADED_SOME;

	*later = false;
	if (bufq_file(&c->raw, &f) && f.before == 0)
		found = file_load(&c->raw, SLICE);
	*later = found == LOADED_LATER;
	c->broken = found == LOADED_NEVER;
	return found == LOADED_SOME;
}

static bool take(struct response_coding *c, size_t most, size_t *taken)
{
	struct iovec front;
	size_t n, before = c->raw.charged;
	bool later;

	if (!load(c, &later)) {
		if (later)
			list_append(&c->all->later, &c->link);
		return later;
	}
	bufq_iov(&c->raw, &front, 1);
	n = front.iov_len < most ? front.iov_len : most;
	if (!encode(c, ENCODER_TAKE, slice_of(front.iov_base, n)))
		return false;
	bufq_consume(&c->raw, n);
	c->owed += before - c->raw.charged;
	c->dirty = true;
	*taken = n;
	return true;
}

static bool end(struct response_coding *c)
{
	end_encoder(c, true);
	stream_response_moves(c->s, RESPONSE_ENDED);
	return c->below->send_end(c->s, c->trailers, c->trailer_count);
}

static bool finish(struct response_coding *c)
{
	return encode(c, ENCODER_FINISH, SLICE_LIT("")) && end(c);
}

static bool flush(struct response_coding *c)
{
	c->dirty = false;
	return encode(c, ENCODER_FLUSH, SLICE_LIT(""));
}

static bool release_head(struct response_coding *c, int64_t length)
{
	struct field *fields = c->fields;
	bool well;

	c->fields = NULL;
	c->head.length = length;
	well = c->below->send_head(c->s, &c->head);
	free(fields);
	return well;
}

/* ---- a whole body at once ---- */

static size_t longest_whole(const struct response_coding *c)
{
	int level = c->all->options.levels[c->coding];
	size_t whole = whole_max(c->coding, level), stream = encoder_whole_max(c->coding, level);

	return whole > stream ? whole : stream;
}

/* Trailers need chunks. */
static bool is_whole(const struct response_coding *c)
{
	return c->ends && c->trailer_count == 0 && c->raw.len <= longest_whole(c);
}

/* Whether all of it is in memory now, files too. */
static bool load_all(struct bufq *q)
{
	struct bufq_file f;

	while (bufq_file(q, &f))
		if (file_load(q, f.len) != LOADED_SOME)
			return false;
	return true;
}

/* The queue's bytes; *copy, which the caller frees, has them if they are in several blocks. False: out of memory. */
static bool join(const struct bufq *q, struct slice *bytes, uint8_t **copy)
{
	struct bufq_cursor cursor = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t) ""};
	size_t n, charged;
	uint8_t *at;

	bufq_walk(q, &cursor, q->len, &part, 1, &n, &charged);
	*copy = n < q->len ? malloc(q->len) : NULL;
	*bytes = slice_of(*copy ? *copy : part.iov_base, q->len);
	if (n == q->len || !*copy)
		return n == q->len;
	for (at = *copy; n > 0; at += n, bufq_walk(q, &cursor, q->len, &part, 1, &n, &charged))
		memcpy(at, part.iov_base, n);
	return true;
}

static bool send_pieces(struct response_coding *c, struct slice bytes)
{
	for (size_t n; bytes.len > 0; bytes = slice_of(bytes.at + n, bytes.len - n)) {
		n = bytes.len < OUT ? bytes.len : OUT;
		c->unsent += n;
		if (!c->below->send_data(c->s, slice_of(bytes.at, n)))
			return false;
	}
	return true;
}

/* Encodes a body into all->once. Returns how many bytes that are; 0 if it is not possible. */
static size_t encode_body(struct response_coding *c, struct slice body)
{
	struct codings *all = c->all;
	int level = all->options.levels[c->coding];
	size_t used = 0, most = whole_max(c->coding, level);

	if (most > 0 && body.len <= most)
		used = whole_encode(&all->whole, c->coding, level, body, all->once, WHOLE_ROOM);
	if (used > 0 || body.len > encoder_whole_max(c->coding, level))
		return used;
	c->length = (int64_t)body.len;
	if (begun(c) && encoder_run(c->encoder, ENCODER_FINISH, &body, all->once, WHOLE_ROOM, &used) == 1)
		return used;
	encoder_free(c->encoder);
	c->encoder = NULL;
	return 0;
}

/*
 * Encodes a response that has ended before its head was sent, in one call. Returns how many bytes that are; 0 if it is not
 * possible: then it is a stream, for which it is as before.
 */
static size_t encode_whole(struct response_coding *c)
{
	size_t used = 0;
	uint8_t *copy = NULL;
	struct slice body;

	if (!c->fields || !is_whole(c))
		return 0;
	if (!c->all->once)
		c->all->once = malloc(WHOLE_ROOM);
	if (c->all->once && load_all(&c->raw) && join(&c->raw, &body, &copy))
		used = encode_body(c, body);
	free(copy);
	return used;
}

/* False: out of memory. */
static bool finish_whole(struct response_coding *c, size_t used, size_t *taken)
{
	*taken = c->raw.len;
	c->owed += c->raw.charged;
	bufq_consume(&c->raw, c->raw.len);
	return release_head(c, (int64_t)used) && send_pieces(c, slice_of(c->all->once, used)) && end(c);
}

/* Encodes one slice, or the end after the last one; or all at once. False: out of memory. */
static bool step(struct response_coding *c, size_t *taken)
{
	size_t whole = encode_whole(c);

	if (whole > 0)
		return finish_whole(c, whole, taken);
	if (c->fields && !release_head(c, LENGTH_UNKNOWN))
		return false;
	if (c->raw.len > 0 && !take(c, SLICE, taken))
		return false;
	if (c->raw.len > 0)
		return true;
	if (c->ends)
		return finish(c);
	return !c->dirty || flush(c);
}

/*
 * Continues with one response until it has nothing to do, must wait for a disk, the session has enough of it, or the turn is
 * over. False: out of memory, or the file is broken.
 */
static bool work(struct response_coding *c)
{
	struct codings *all = c->all;
	bool well;

	list_remove(&c->link);
	do {
		size_t taken = 0;

		well = step(c, &taken);
		all->left -= taken < all->left ? taken : all->left;
	} while (well && c->raw.len > 0 && c->unsent < UNSENT_MAX && all->left > 0 && (list_empty(&all->active) || is_short(c)) &&
		 !list_linked(&c->link));
	if (well && c->raw.len > 0 && is_short(c) && c->unsent < UNSENT_MAX && !list_linked(&c->link))
		list_prepend(&all->active, &c->link);
	else if (well && c->raw.len > 0)
		activate(c);
	return well;
}

bool codings_wait(const struct codings *all)
{
	return !list_empty(&all->later);
}

bool codings_run(struct codings *all)
{
	list_splice(&all->active, &all->later);
	while (all->left > 0 && !list_empty(&all->active)) {
		struct response_coding *c = container_of(all->active.next, struct response_coding, link);
		struct stream *s = c->s;

		if (!work(c))
			all->failed(all->ctx, s);
		else if (c->unsent == 0 && c->owed > 0)
			all->room(all->ctx, s);
	}
	all->left = TURN;
	return !list_empty(&all->active);
}

/* ---- operations ---- */

/*
 * A copy of fields, followed by their bytes, without those that describe bytes that the client does not get. NULL: out of memory.
 */
static struct field *copy_fields(const struct field *fields, unsigned count, unsigned *copied)
{
	size_t bytes = 0;
	struct field *copy;
	uint8_t *at;

	for (unsigned i = 0; i < count; i++)
		bytes += fields[i].name.len + fields[i].value.len;
	copy = malloc(count * sizeof *copy + bytes);
	if (!copy)
		return NULL;
	at = (uint8_t *)(copy + count);
	*copied = 0;
	for (unsigned i = 0; i < count; i++) {
		struct field f = fields[i];

		if (is_of_the_plain_bytes(&f))
			continue;
		memcpy(at, f.name.at, f.name.len);
		memcpy(at + f.name.len, f.value.at, f.value.len);
		copy[(*copied)++] = (struct field){slice_of(at, f.name.len), slice_of(at + f.name.len, f.value.len), f.index};
		at += f.name.len + f.value.len;
	}
	return copy;
}

/* It leaves with the first bytes, or at the end of the turn. */
static bool coded_send_head(struct stream *s, const struct response_head *head)
{
	struct response_coding *c = s->coding;

	c->head = *head;
	c->fields = copy_fields(head->fields, head->field_count, &c->head.field_count);
	c->head.fields = c->fields;
	activate(c);
	return c->fields != NULL;
}

/* In one block if it can become a whole body: that is encoded where it is. */
static bool keep(struct response_coding *c, struct slice data)
{
	size_t length = c->length == LENGTH_UNKNOWN ? 0 : (size_t)c->length;

	if (c->raw.len == 0 && c->fields && length >= data.len && length <= WHOLE_MAX && !bufq_reserve(&c->raw, length))
		return false;
	return bufq_append(&c->raw, data.at, data.len);
}

static bool coded_send_data(struct stream *s, struct slice data)
{
	activate(s->coding);
	return data.len == 0 || keep(s->coding, data);
}

static bool coded_send_file(struct stream *s, struct file *f, uint64_t offset, size_t n)
{
	activate(s->coding);
	return bufq_append_file(&s->coding->raw, f, offset, n);
}

static bool coded_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct response_coding *c = s->coding;

	c->ends = true;
	activate(c);
	if (count > 0 && !(c->trailers = copy_fields(trailers, count, &c->trailer_count)))
		return false;
	/* Encodes at once if no other response waits, so that few encoders are in use at a time. */
	return c->all->active.next != &c->link || c->all->active.prev != &c->link || c->all->left == 0 || work(c);
}

/* All other operations go to the session. */

static bool coded_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	return s->coding->below->send_info(s, status, fields, count);
}

static bool coded_push(struct stream *s, struct slice target, const struct field *fields, unsigned count)
{
	return !s->coding->below->push || s->coding->below->push(s, target, fields, count);
}

static void coded_go_on(struct stream *s)
{
	s->coding->below->go_on(s);
}

static void coded_consume(struct stream *s)
{
	s->coding->below->consume(s);
}

static void coded_discard(struct stream *s)
{
	s->coding->below->discard(s);
}

static void coded_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	s->coding->below->reset(s, status, retry_after);
}

/* An upgrade comes instead of a head, and a release after the end: neither comes here. */
static const struct stream_ops coding_ops = {
	.send_info = coded_send_info,
	.send_head = coded_send_head,
	.send_data = coded_send_data,
	.send_file = coded_send_file,
	.send_end = coded_send_end,
	.push = coded_push,
	.consume = coded_consume,
	.go_on = coded_go_on,
	.discard = coded_discard,
	.reset = coded_reset,
};
