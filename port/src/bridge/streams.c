/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge's way in: messages about streams are checked, and become operations. */
#include <stdio.h>

#include "base/shared.h"
#include "bridge/descriptors.h"
#include "bridge/orders.h"
#include "bridge/queue.h"
#include "bridge/say.h"
#include "bridge/work.h"
#include "stream/rules.h"

/* The limit, in bytes, of a stream's interim responses and promises that wait for its client, since they cost no window. */
enum { INTERIM_MAX = 16384 };

/* No file and no response is longer, and sums of two fit. */
#define FILE_BYTES_MAX (SIZE_MAX / 4 < INT64_MAX / 4 ? SIZE_MAX / 4 : (uint64_t)INT64_MAX / 4)

static bool in_range(struct bridge *b, const struct message *m, const char *field, uint64_t value, uint64_t min, uint64_t max)
{
	char rule[64];

	if (value >= min && value <= max)
		return true;
	snprintf(rule, sizeof rule, "must be %llu to %llu", (unsigned long long)min, (unsigned long long)max);
	say_fault(b, m, field, rule, "ignored");
	return false;
}

/* ---- credits ---- */

void order_demand(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)x;
	if (!in_range(b, m, "count", m->demand.count, 1, UINT32_MAX))
		return;
	b->demand += m->demand.count;
	queue_hand_out(b);
}

void order_read(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_read *r = &m->read;

	if (!in_range(b, m, "chunks", r->chunks, 1, UINT32_MAX) || !in_range(b, m, "max", r->max, 1, UINT32_MAX))
		return;
	x->was_read = true;
	x->kind->read(x, r->chunks, r->max);
}

void order_discard(struct bridge *b, struct exchange *x, const struct message *m)
{
	struct stream *s = x->s;

	(void)b;
	(void)m;
	if (s->upgraded)
		return;
	if (x->kind->forget)
		x->kind->forget(x);
	exchange_drop_chunks(x);
	if (s->request != REQUEST_OPEN)
		return;
	stream_request_moves(s, REQUEST_SKIPPED);
	s->ops->discard(s);
}

/* ---- responses ---- */

/* RFC 6797: adds strict-transport-security, unless the host has set it. */
static void add_hsts(const struct exchange *x, struct response_head *head)
{
	const char *value = x->b->config->listeners[x->listener].hsts;
	struct field hsts = {SLICE_LIT("strict-transport-security"), slice_str(value), -1};

	if (!*value || head->field_count == BRIDGE_FIELDS)
		return;
	for (unsigned i = 0; i < head->field_count; i++)
		if (slice_eq_nocase(head->fields[i].name, hsts.name))
			return;
	x->b->fields[head->field_count++] = hsts;
}

/* RFC 7838: adds alt-svc for clients of other versions, if the listener has HTTP/3. */
static void add_alt_svc(const struct exchange *x, struct response_head *head)
{
	const char *value = x->b->config->listeners[x->listener].alt_svc;
	struct field alt = {SLICE_LIT("alt-svc"), slice_str(value), -1};

	if (!*value || x->h3 || head->field_count == BRIDGE_FIELDS)
		return;
	for (unsigned i = 0; i < head->field_count; i++)
		if (slice_eq_nocase(head->fields[i].name, alt.name))
			return;
	x->b->fields[head->field_count++] = alt;
}

/* Checks the head of a response and passes it to the session. False: the exchange has ended. */
static bool start_response(struct exchange *x, const struct message *m, uint64_t status, struct slice headers, int64_t length)
{
	struct stream *s = x->s;
	struct response_head head = {.status = (unsigned)status, .fields = x->b->fields, .length = length};
	struct slice offender;
	const char *rule;

	if (s->response != RESPONSE_WAITING) {
		exchange_break_rule(x, m, "message", "the response has begun already");
		return false;
	}
	if (status < 200 || status > 599) {
		exchange_refuse(x, m, "status", "must be 200 to 599");
		return false;
	}
	if (!exchange_fields(x, m, "headers", headers, &head.field_count))
		return false;
	s->bodiless = never_has_body(head.status, s->head_method);
	rule = response_check(&head, s->bodiless, &offender);
	if (rule) {
		exchange_refuse_field(x, m, "headers", rule, offender);
		return false;
	}
	add_hsts(x, &head);
	add_alt_svc(x, &head);
	x->left = head.length;
	exchange_answers(x, head.status);
	stream_response_moves(s, RESPONSE_STREAMING);
	if (coding_begin(&x->b->codings, s, (enum coding)x->accepts, &head) && s->ops->send_head(s, &head))
		return true;
	exchange_no_memory(x);
	return false;
}

/* Checks a part of the body of this length, which costs `cost` bytes of window. */
static void count_body(struct exchange *x, uint64_t length, uint64_t cost)
{
	x->active = x->b->loop->now;
	exchange_spend(x, cost);
	x->body_out += length;
	if (x->left != LENGTH_UNKNOWN)
		x->left -= (int64_t)length;
}

static bool send_body(struct exchange *x, struct slice data)
{
	struct stream *s = x->s;

	count_body(x, data.len, data.len);
	if (s->ops->send_data(s, data))
		return true;
	exchange_no_memory(x);
	return false;
}

static void finish_response(struct exchange *x, unsigned trailers)
{
	struct stream *s = x->s;

	descriptors_forget(x);
	if (!s->coding) /* else it ends when the last of it is encoded */
		stream_response_moves(s, RESPONSE_ENDED);
	if (!s->ops->send_end(s, x->b->fields, trailers))
		exchange_fails(x);
}

void order_respond(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_respond *r = &m->respond;
	int64_t length = (int64_t)r->body.len;
	bool bodiless = never_has_body((unsigned)r->status, x->s->head_method);

	(void)b;
	/* without a body, only the host's content-length says its length */
	if (length == 0 && bodiless)
		length = LENGTH_UNKNOWN;
	if (x->s->response == RESPONSE_WAITING && r->body.len > x->window && !bodiless)
		exchange_break_rule(x, m, "body", "exceeds the window");
	else if (start_response(x, m, r->status, r->headers, length) && (bodiless || send_body(x, r->body)))
		finish_response(x, 0);
}

void order_head(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_head *h = &m->head;

	(void)b;
	if (h->has_length && h->length > INT64_MAX)
		exchange_refuse(x, m, "length", "is too large");
	else if (start_response(x, m, h->status, h->headers, h->has_length ? (int64_t)h->length : LENGTH_UNKNOWN) && x->s->bodiless)
		finish_response(x, 0);
}

/* A response without a body is complete with its head: DATA and END for it cost nothing and are dropped. */
static bool is_in_vain(struct exchange *x, const struct message *m)
{
	bool vain = x->s->bodiless && x->s->response == RESPONSE_ENDED;

	x->b->n.dropped += vain && m->left == 0; /* a DATA in parts counts once, with its last part */
	return vain;
}

/* Why neither a part of the body nor its end may come now; NULL: they may. */
static const char *no_body_now(const struct exchange *x)
{
	if (x->s->response != RESPONSE_STREAMING || coding_ends(x->s))
		return "the response has not begun, or has ended";
	return x->kind->no_data;
}

/* `size`: of the whole message; `data` is the part that has arrived. */
static void take_data(struct exchange *x, const struct message *m, struct slice data, uint64_t size)
{
	const char *rule = no_body_now(x);

	if (is_in_vain(x, m))
		return;
	if (rule)
		exchange_break_rule(x, m, "message", rule);
	else if (size > x->window)
		exchange_break_rule(x, m, "data", "exceeds the window");
	else if (x->left != LENGTH_UNKNOWN && size > (uint64_t)x->left)
		exchange_refuse(x, m, "data", "exceeds the declared length");
	else
		send_body(x, data);
}

void order_data(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)b;
	take_data(x, m, m->data.data, m->data.data.len + m->left);
}

/* Like DATA, with bytes in slots, which are returned to the host whatever happens to the stream. */
void order_shared(struct bridge *b, struct exchange *x, const struct message *m)
{
	struct message_fault fault;
	struct slice bytes = descriptors_share(b, m->shared.slot, m->shared.length, &fault);

	if (!bytes.len) {
		exchange_break_rule(x, m, fault.field, fault.rule);
		return;
	}
	take_data(x, m, bytes, bytes.len);
	shared_give(bytes.at, bytes.len);
}

/* Like DATA, but the bytes are in a file. */
static void send_file(struct exchange *x, const struct message *m)
{
	const struct msg_file *f = &m->file;
	struct file *file;

	if (!descriptors_find(x, f->token, &file)) {
		exchange_break_rule(x, m, "token", "names no file that was handed over for this stream");
		return;
	}
	count_body(x, f->length, FILE_COST);
	if (!file || !x->s->ops->send_file(x->s, file, f->offset, (size_t)f->length))
		exchange_no_memory(x);
	if (file)
		file_give(file);
}

void order_file(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_file *f = &m->file;
	const char *rule = no_body_now(x);

	if (is_in_vain(x, m) || !in_range(b, m, "length", f->length, 1, FILE_BYTES_MAX) ||
	    !in_range(b, m, "offset", f->offset, 0, FILE_BYTES_MAX))
		return;
	if (rule)
		exchange_break_rule(x, m, "message", rule);
	else if (x->window < FILE_COST)
		exchange_break_rule(x, m, "message", "exceeds the window");
	else if (x->left != LENGTH_UNKNOWN && f->length > (uint64_t)x->left)
		exchange_refuse(x, m, "length", "exceeds the declared length");
	else if (x->body_out > FILE_BYTES_MAX - f->length)
		exchange_refuse(x, m, "length", "is too large together with what came before it");
	else
		send_file(x, m);
}

void order_end(struct bridge *b, struct exchange *x, const struct message *m)
{
	const char *rule, *wrong = no_body_now(x);
	struct slice offender;
	unsigned count;

	if (is_in_vain(x, m) || !exchange_fields(x, m, "trailers", m->end.trailers, &count))
		return;
	rule = trailers_check(b->fields, count, &offender);
	if (wrong)
		exchange_break_rule(x, m, "message", wrong);
	else if (x->left > 0)
		exchange_refuse(x, m, "message", "the body is shorter than its declared length");
	else if (rule)
		exchange_refuse_field(x, m, "trailers", rule, offender);
	else
		finish_response(x, count);
}

void order_inform(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_inform *i = &m->inform;
	struct stream *s = x->s;
	struct slice offender;
	const char *rule;
	unsigned count;

	if (!in_range(b, m, "status", i->status, 100, 199) || !exchange_fields(x, m, "headers", i->headers, &count))
		return;
	rule = info_check((unsigned)i->status, b->fields, count, &offender);
	if (s->interim > INTERIM_MAX) {
		b->n.dropped++;
		return;
	}
	if (s->response != RESPONSE_WAITING)
		exchange_break_rule(x, m, "message", "the response has begun already");
	else if (rule)
		exchange_refuse_field(x, m, "headers", rule, offender);
	else if (!s->ops->send_info(s, (unsigned)i->status, b->fields, count))
		exchange_no_memory(x);
}

/* Visible ASCII that begins with a slash, without a fragment. */
static bool is_path(struct slice target)
{
	for (size_t i = 0; i < target.len; i++)
		if (target.at[i] <= 0x20 || target.at[i] >= 0x7f || target.at[i] == '#')
			return false;
	return target.len > 0 && target.at[0] == '/';
}

/* A client may stop accepting pushes at any time, so a useless push is not an error of the host. */
void order_push(struct bridge *b, struct exchange *x, const struct message *m)
{
	struct slice target = m->push.target;
	struct stream *s = x->s;
	struct slice offender;
	const char *rule;
	unsigned count;

	if (!exchange_fields(x, m, "headers", m->push.headers, &count))
		return;
	rule = push_check(b->fields, count, &offender);
	if (s->interim > INTERIM_MAX) {
		b->n.dropped++;
		return;
	}
	if (!is_path(target))
		exchange_refuse(x, m, "target", "must be a path, and a query if there is one");
	else if (rule)
		exchange_refuse_field(x, m, "headers", rule, offender);
	else if (s->response != RESPONSE_ENDED && s->ops->push && !s->ops->push(s, target, b->fields, count))
		exchange_no_memory(x);
}

void order_abort(struct bridge *b, struct exchange *x, const struct message *m)
{
	if (in_range(b, m, "status", m->abort.status, 400, 599) && x->s->response != RESPONSE_ENDED && !coding_ends(x->s))
		exchange_end(x, (unsigned)m->abort.status, END_ABORTED); /* after a complete response, ABORT does nothing */
}

/* ---- the host's work ---- */

void order_yield(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)b;
	(void)m;
	work_yields(x);
}

void order_resume(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)b;
	(void)m;
	work_resumes(x);
}

/* The host sends RELEASE for every stream reported GONE; ignore it if nothing is waiting for it. */
void order_release(struct bridge *b, struct exchange *x, const struct message *m)
{
	uint64_t id = m->stream;

	(void)x;
	if (id == 0 || id > b->last_id)
		say_fault(b, m, "stream", "was never used", "ignored");
	else if (idmap_get(&b->exchanges, id))
		say_fault(b, m, "stream", "has not ended", "ignored");
	else
		exchange_release(b, id);
}
