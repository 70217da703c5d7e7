/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/descriptors.h"
#include "bridge/limit.h"
#include "bridge/say.h"
#include "bridge/waiting.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "frames/mp.h"
#include "ws/handshake.h"
#include "ws/ws.h"

enum { SPARES_MAX = 512 };

static void give_memory(struct exchange *x)
{
	x->s->sink_data = NULL;
	pool_give(&x->b->spares, x, SPARES_MAX);
}

void exchange_init(struct bridge *b)
{
	idmap_init(&b->exchanges);
	idmap_init(&b->owed);
}

void exchange_free(struct bridge *b)
{
	pool_free(&b->spares);
	pool_free(&b->heads);
	idmap_free(&b->exchanges);
	idmap_free(&b->owed);
}

/* ---- life ---- */

struct exchange *exchange_new(struct bridge *b, struct stream *s, const struct exchange_kind *kind)
{
	struct exchange *x = pool_take(&b->spares, sizeof *x);

	if (!x)
		return NULL;
	*x = (struct exchange){
		.s = s,
		.b = b,
		.kind = kind,
		.id = ++b->last_id,
		.window = b->config->window,
		.left = LENGTH_UNKNOWN,
		.whole_us = b->loop->now_us,
	};
	list_init(&x->queue);
	list_init(&x->turn);
	list_init(&x->files);
	wheel_node_init(&x->timer, NULL);
	wheel_node_init(&x->resume, NULL);
	if (idmap_put(&b->exchanges, x->id, x)) {
		s->sink_data = x;
		return x;
	}
	give_memory(x);
	return NULL;
}

/* These messages end the host's work on a stream, even if they cross a GONE. (An ABORT whose status is wrong has no effect.) */
static bool is_last_word(const struct message *m)
{
	return m->kind == MSG_RESPOND || m->kind == MSG_END ||
	       (m->kind == MSG_ABORT && m->abort.status >= 400 && m->abort.status <= 599);
}

struct exchange *exchange_find(struct bridge *b, const struct message *m)
{
	struct exchange *x = idmap_get(&b->exchanges, m->stream);

	if (x && x->known) {
		if (is_last_word(m))
			work_ends(x);
		return x;
	}
	if (m->left > 0)
		return NULL; /* only the last part of the message counts as dropped or refused */
	if (x || m->stream == 0 || m->stream > b->last_id)
		say_fault(b, m, "stream", "was never used", "ignored");
	else
		b->n.dropped++;
	if (!x && is_last_word(m))
		exchange_release(b, m->stream);
	return NULL;
}

/* Frees what the exchange has in the bridge. */
static void let_go(struct exchange *x)
{
	struct bridge *b = x->b;

	idmap_del(&b->exchanges, x->id);
	wheel_cancel(&b->loop->wheel, &x->timer);
	limit_leaves(x);
	b->n.read_credit -= x->chunks;
	waiting_forget(x);
	if (x->unsent)
		exchange_unspend(x, x->unsent);
	work_forget(x);
	descriptors_forget(x);
	coding_forget(x->s);
	if (x->kind->forget)
		x->kind->forget(x);
	free(x->handshake);
	ws_free(x->ws);
	x->handshake = NULL;
	x->ws = NULL;
}

void exchange_forget(struct exchange *x)
{
	let_go(x);
	give_memory(x);
}

void exchange_part(struct exchange *x)
{
	struct stream *s = x->s;
	bool owed = s->owed && x->known;

	let_go(x);
	if (owed && idmap_put(&x->b->owed, x->id, x))
		return;
	give_memory(x);
	if (s->owed)
		s->ops->release(s);
}

void exchange_lapse(struct exchange *x)
{
	idmap_del(&x->b->owed, x->id);
	give_memory(x);
}

void exchange_release(struct bridge *b, uint64_t id)
{
	struct exchange *x = idmap_get(&b->owed, id);

	if (x) {
		struct stream *s = x->s;
		exchange_lapse(x);
		s->ops->release(s);
	}
	work_released(b, id);
}

/* ---- ends ---- */

void exchange_end(struct exchange *x, unsigned status, enum stream_end why)
{
	struct bridge *b = x->b;
	struct stream *s = x->s;
	uint64_t id = x->id;
	bool known = x->known, said = x->kind->goodbye && x->kind->goodbye(x, why);

	exchange_forget(x);
	stream_detach(s);
	if (said)
		s->ops->send_end(s, NULL, 0);
	else
		s->ops->reset(s, status, status == 503 ? (unsigned)b->config->retry_after : 0);
	if (known)
		say_gone(b, &(struct msg_gone){.stream = id, .reason = slice_str(stream_end_name(why))});
}

void exchange_break_rule(struct exchange *x, const struct message *m, const char *field, const char *rule)
{
	say_fault(x->b, m, field, rule, "reset");
	exchange_end(x, 500, END_ERROR);
}

enum { OFFENDER_MAX = 64 };

/* Appends the name of the field to the rule, with other characters than ASCII replaced, since the host chose it. */
static void put_offender(char *text, size_t size, const char *rule, struct slice offender)
{
	size_t len = (size_t)snprintf(text, size, offender.len ? "%s: " : "%s", rule);
	size_t n = offender.len < OFFENDER_MAX ? offender.len : OFFENDER_MAX;

	for (size_t i = 0; i < n && len + 1 < size; i++) {
		text[len] = (char)offender.at[i];
		if (offender.at[i] <= 0x20 || offender.at[i] >= 0x7f)
			text[len] = '?';
		len++;
	}
	text[len] = 0;
}

void exchange_refuse_field(struct exchange *x, const struct message *m, const char *field, const char *rule, struct slice offender)
{
	char text[192];

	put_offender(text, sizeof text, rule, offender);
	log_line(LOG_ERROR, "response to %s refused: %s %s", x->label, field, text);
	exchange_break_rule(x, m, field, text);
}

void exchange_refuse(struct exchange *x, const struct message *m, const char *field, const char *rule)
{
	exchange_refuse_field(x, m, field, rule, (struct slice){0});
}

void exchange_no_memory(struct exchange *x)
{
	log_line(LOG_ERROR, "out of memory: %s is cut", x->label);
	exchange_end(x, 0, END_ERROR);
}

void exchange_blames_file(const struct exchange *x)
{
	log_line(LOG_WARNING, "response to %s cut: its file is shorter than FILE said, or cannot be read", x->label);
}

void exchange_fails(struct exchange *x)
{
	if (!coding_is_broken(x->s)) {
		exchange_no_memory(x);
		return;
	}
	exchange_blames_file(x);
	exchange_end(x, 0, END_FILE);
}

/* ---- for all kinds ---- */

void exchange_grant(struct exchange *x, uint64_t chunks, uint64_t max)
{
	x->chunks += chunks;
	x->b->n.read_credit += chunks;
	x->chunk = max < CHUNK_MAX ? max : CHUNK_MAX;
	exchange_wants(x);
}

void exchange_spend_chunk(struct exchange *x)
{
	x->chunks--;
	x->b->n.read_credit--;
	exchange_wants(x);
}

void exchange_drop_chunks(struct exchange *x)
{
	x->b->n.read_credit -= x->chunks;
	x->chunks = 0;
	exchange_wants(x);
}

void exchange_read(struct exchange *x, uint64_t chunks, uint64_t max)
{
	if (x->s->request != REQUEST_OPEN)
		return; /* the end and this have crossed */
	exchange_grant(x, chunks, max);
	if (!x->waits_in)
		x->s->ops->consume(x->s);
}

void exchange_body(struct exchange *x, struct slice data)
{
	assert(x->chunks > 0 && data.len <= CHUNK_MAX);
	limit_came(x, data.len);
	if (say_body(x->b, &(struct msg_body){.stream = x->id, .data = data}))
		exchange_spend_chunk(x);
	else
		exchange_no_memory(x);
}

void exchange_body_ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	uint8_t *at = say_begin(x->b, MSG_BODY_END, MP_MAX_UINT + fields_bound(trailers, count));

	if (!at) {
		exchange_no_memory(x);
		return;
	}
	exchange_drop_chunks(x);
	at = mp_uint(at, x->id);
	link_commit(x->b->link, count ? fields_encode(at, trailers, count) : mp_nil(at));
}

void exchange_answers(struct exchange *x, unsigned status)
{
	wheel_cancel(&x->b->loop->wheel, &x->timer);
	x->answered_us = x->b->loop->now_us;
	x->s->status = (uint16_t)status;
}

void exchange_spend(struct exchange *x, uint64_t cost)
{
	x->window -= cost;
	x->unsent += cost;
	limit_goes(x);
	x->b->n.body_queued += cost;
	shares_hold(&x->b->shares, x->share, cost);
}

void exchange_unspend(struct exchange *x, uint64_t cost)
{
	struct bridge *b = x->b;

	x->unsent -= cost;
	b->n.body_queued -= cost;
	if (shares_let_go(&b->shares, x->share, cost, b->config->share))
		b->hand_out(b);
}

bool exchange_fields(struct exchange *x, const struct message *m, const char *field, struct slice raw, unsigned *count)
{
	struct bridge *b = x->b;
	const char *rule = "is longer than 65536 bytes";

	*count = 0;
	if (!raw.at)
		return true;
	if (raw.len <= FIELDS_BYTES_MAX && fields_decode(raw, b->fields, BRIDGE_FIELDS, count, &rule))
		return true;
	exchange_break_rule(x, m, field, rule);
	return false;
}
