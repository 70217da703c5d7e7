/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/descriptors.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/shared.h"
#include "bridge/orders.h"
#include "bridge/say.h"
#include "platform/platform.h"

enum {
	PACKETS_A_TURN = 256, /* more packets per turn would keep the sockets waiting */
	NAMED_MS = 5000,      /* how long to wait for the descriptors that HELLO names */
};

/* A file that is kept for FILE messages: until the response of its stream has ended, or until CLOSE_FILE. */
struct handed {
	struct list link;         /* exchange->files or bridge->open_files */
	const struct exchange *x; /* NULL: every response may use it */
	uint64_t token;
	struct file *file;
};

/* Reports an invalid descriptor, which is closed. */
static void wrong(struct bridge *b, uint64_t stream, const char *rule)
{
	struct message none = {.kind = MSG_NONE, .stream = stream};

	say_fault(b, &none, "descriptor", rule, "ignored");
}

/* The exchange that a file is for. NULL: there is none, or it has ended; this is counted or reported. */
static struct exchange *find(struct bridge *b, uint64_t stream)
{
	struct exchange *x = idmap_get(&b->exchanges, stream);

	if (x && x->known && x->s->response != RESPONSE_ENDED && !coding_ends(x->s))
		return x;
	if (stream == 0 || stream > b->last_id || (x && !x->known))
		wrong(b, stream, "is for a stream that was never used");
	else
		b->n.dropped++; /* the end and this have crossed */
	return NULL;
}

/* `x`: NULL for a file of all responses. Returns NULL, or why the file cannot be kept: then it is closed. */
static const char *hold(struct bridge *b, struct exchange *x, const struct descriptor *d)
{
	struct handed *h = malloc(sizeof *h);

	if (h && (h->file = file_new(d->fd))) {
		h->x = x;
		h->token = d->token;
		if (idmap_put(&b->handed, d->token, h)) {
			list_append(x ? &x->files : &b->open_files, &h->link);
			return NULL;
		}
		file_give(h->file);
	} else if (!h) {
		close(d->fd);
	}
	free(h);
	return "cannot be kept: out of memory";
}

/* The rule that a file breaks; NULL: none. */
static const char *refusal(const struct bridge *b, const struct descriptor *d)
{
	if (idmap_get(&b->handed, d->token))
		return "has a token that is in use";
	if (b->handed.count >= b->config->max_files)
		return "exceeds max_files";
	if (!platform_is_file(d->fd))
		return "must be a regular file that is open for reading only";
	return NULL;
}

/* Keeps a file, or closes it and reports the broken rule. */
static void keep(struct bridge *b, struct exchange *x, const struct descriptor *d)
{
	const char *rule = refusal(b, d);

	if (rule)
		close(d->fd);
	else
		rule = hold(b, x, d);
	if (rule)
		wrong(b, d->stream, rule);
}

static void take_file(struct bridge *b, const struct descriptor *d)
{
	struct exchange *x = find(b, d->stream);

	if (x)
		keep(b, x, d);
	else
		close(d->fd);
}

static void take_open_file(struct bridge *b, const struct descriptor *d)
{
	if (d->stream == 0) {
		keep(b, NULL, d);
		return;
	}
	close(d->fd);
	wrong(b, d->stream, "is for all streams, and must name none");
}

static void take(struct bridge *b, const struct descriptor *d)
{
	switch (d->use) {
	case DESCRIPTOR_FILE:
		take_file(b, d);
		break;
	case DESCRIPTOR_OPEN_FILE:
		take_open_file(b, d);
		break;
	case DESCRIPTOR_LISTENER: /* listeners and the region arrive before READY */
	case DESCRIPTOR_REGION:
		close(d->fd);
		wrong(b, d->stream, "is not named in HELLO");
		break;
	case DESCRIPTOR_USES:
		break;
	}
}

/* ---- descriptors that HELLO names ---- */

/* Where the descriptor is to be stored. NULL: HELLO does not name it, or it has already arrived. */
static int *place_of(struct bridge *b, const struct descriptor *d)
{
	struct config *c = b->config;

	if (d->stream != 0)
		return NULL;
	if (d->use == DESCRIPTOR_REGION && c->region == d->token && c->region_fd < 0)
		return &c->region_fd;
	for (unsigned i = 0; i < c->listener_count && d->use == DESCRIPTOR_LISTENER; i++)
		if (c->listeners[i].descriptor == d->token && c->listeners[i].fd < 0)
			return &c->listeners[i].fd;
	return NULL;
}

static unsigned missing(const struct bridge *b)
{
	unsigned n = b->config->region && b->config->region_fd < 0;

	for (unsigned i = 0; i < b->config->listener_count; i++)
		n += b->config->listeners[i].descriptor && b->config->listeners[i].fd < 0;
	return n;
}

/* Receives a packet, if there is one. NULL: all is well; else the broken rule. */
static const char *take_named(struct bridge *b, int ms)
{
	struct descriptor d;
	const char *rule;
	int *place;

	switch (channel_take(&b->channel, &d, &rule)) {
	case CHANNEL_GOT:
		place = place_of(b, &d);
		if (place)
			*place = d.fd;
		else
			close(d.fd);
		return place ? NULL : "is not named in HELLO";
	case CHANNEL_WRONG:
		return rule;
	case CHANNEL_OVER:
		return "did not arrive before the channel was closed";
	case CHANNEL_EMPTY:
		break;
	}
	return channel_wait(&b->channel, ms) ? NULL : "did not arrive in time";
}

/* The mapping stays as long as the process. */
static bool map_region(struct bridge *b, struct config_fault *fault)
{
	size_t size = 0;
	const void *bytes = platform_map(b->config->region_fd, &size);

	close(b->config->region_fd);
	b->config->region_fd = -1;
	if (bytes && size > 0 && size % SHARED_SLOT == 0 && size / SHARED_SLOT <= SHARED_SLOTS_MAX &&
	    shared_begin(bytes, (uint32_t)(size / SHARED_SLOT)))
		return true;
	return option_wrong(fault, SLICE_LIT("region"), "must be a regular file, open for reading only, of 1 to %d times %d bytes",
			    SHARED_SLOTS_MAX, SHARED_SLOT);
}

bool descriptors_await(struct bridge *b, struct config_fault *fault)
{
	const char *rule = b->channel.open ? NULL : "needs a channel, and there is none";

	while (missing(b)) {
		rule = rule ? rule : take_named(b, NAMED_MS);
		if (rule)
			return option_wrong(fault, SLICE_LIT("descriptor"), "%s", rule);
	}
	return !b->config->region || map_region(b, fault);
}

/* ---- memory that the host shares ---- */

void descriptors_unused(struct bridge *b, uint64_t slot, uint64_t length)
{
	(void)b;
	if (length == 0 || !shared_fits(slot, length))
		length = 1; /* this much is invalid anyway: only the first slots are returned */
	if (!shared_fits(slot, length) || shared_is_used((uint32_t)slot, (size_t)length))
		return;
	shared_keep(shared_bytes((uint32_t)slot), (size_t)length);
	shared_give(shared_bytes((uint32_t)slot), (size_t)length);
}

struct slice descriptors_share(struct bridge *b, uint64_t slot, uint64_t length, struct message_fault *fault)
{
	bool fits = length > 0 && shared_fits(slot, length);
	struct slice bytes = {0};

	if (!shared_fits(slot, 1) || shared_is_used((uint32_t)slot, fits ? (size_t)length : 1)) {
		*fault = (struct message_fault){.field = "slot", .rule = "does not exist, or belongs to the port"};
		return bytes;
	}
	if (!fits) {
		descriptors_unused(b, slot, 1);
		*fault = (struct message_fault){.field = "length", .rule = "must be at least 1, and not reach beyond the region"};
		return bytes;
	}
	bytes = slice_of(shared_bytes((uint32_t)slot), (size_t)length);
	shared_keep(bytes.at, bytes.len);
	return bytes;
}

void bridge_return_slots(struct bridge *b)
{
	uint32_t slot, count;

	while ((count = shared_next_free(&slot)))
		say_unused(b, &(struct msg_unused){.slot = slot, .count = count});
}

bool bridge_receive(struct bridge *b)
{
	struct descriptor d;
	const char *rule;

	for (unsigned i = 0; i < PACKETS_A_TURN; i++)
		switch (channel_take(&b->channel, &d, &rule)) {
		case CHANNEL_GOT:
			take(b, &d);
			break;
		case CHANNEL_WRONG:
			wrong(b, d.stream, rule);
			break;
		case CHANNEL_OVER:
			channel_close(&b->channel, b->loop);
			return false;
		case CHANNEL_EMPTY:
			return false;
		}
	return true;
}

static struct handed *find_token(struct bridge *b, uint64_t token)
{
	struct handed *h = idmap_get(&b->handed, token);

	/* The packet was sent before the message, but the loop may not yet have noticed that it is readable. */
	for (bool more = true; !h && more && token; h = idmap_get(&b->handed, token)) {
		b->channel.ready = b->channel.open;
		more = bridge_receive(b);
	}
	return h;
}

bool descriptors_find(struct exchange *x, uint64_t token, struct file **file)
{
	struct handed *h = find_token(x->b, token);

	if (!h || (h->x && h->x != x))
		return false;
	*file = h->x ? file_keep(h->file) : file_view(h->file);
	return true;
}

static void let_go(struct bridge *b, struct handed *h)
{
	idmap_del(&b->handed, h->token);
	file_give(h->file);
	free(h);
}

static void let_all_go(struct bridge *b, struct list *files)
{
	struct list *l;

	while ((l = list_pop(files)))
		let_go(b, container_of(l, struct handed, link));
}

void descriptors_forget(struct exchange *x)
{
	let_all_go(x->b, &x->files);
}

void order_close_file(struct bridge *b, struct exchange *x, const struct message *m)
{
	struct handed *h = find_token(b, m->close_file.token);

	(void)x;
	if (!h || h->x) {
		say_fault(b, m, "token", "names no file that was handed over for all streams", "ignored");
		return;
	}
	list_remove(&h->link);
	let_go(b, h);
}

void descriptors_begin(struct bridge *b)
{
	struct config *config = b->config;

	if (!config->descriptors[0])
		return;
	if (channel_open(&b->channel, b->loop, config->descriptors))
		config->channel = loop_io_fd(&b->channel.io);
	else
		log_line(LOG_WARNING, "no channel for descriptors: %s: %s", config->descriptors, strerror(errno));
}

void descriptors_end(struct bridge *b)
{
	for (unsigned i = 0; i < b->config->listener_count; i++) /* handed over, but not listened on */
		if (b->config->listeners[i].fd >= 0)
			close(b->config->listeners[i].fd);
	if (b->config->region_fd >= 0)
		close(b->config->region_fd);
	let_all_go(b, &b->open_files);
	shared_end();
	channel_close(&b->channel, b->loop);
	idmap_free(&b->handed);
}
