/* SPDX-License-Identifier: Apache-2.0 */
#include "link/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "frames/mp.h"

enum { FRAME_CAP = FRAME_HEAD + FRAME_PAYLOAD_MAX, WRITE_FRAMES_MAX = 16 };

struct link_frame {
	struct list link;
	uint32_t len;     /* bytes filled, including the length */
	uint32_t written; /* how many of these are written */
	uint8_t data[FRAME_CAP];
};

static void on_in(struct loop_io *io, int ready)
{
	struct link *k = container_of(io, struct link, in);

	(void)ready;
	k->in_ready = true;
}

static void on_out(struct loop_io *io, int ready)
{
	struct link *k = container_of(io, struct link, out);

	(void)ready;
	k->out_blocked = false;
}

static void on_lazy(struct wheel_node *node)
{
	struct link *k = container_of(node, struct link, lazy);

	k->urgent = k->queued > 0; /* or the waiting messages have left together with others */
}

void link_init(struct link *k, struct loop *loop, int in_fd, int out_fd, const struct link_handler *handler, void *ctx)
{
	*k = (struct link){.loop = loop, .handler = handler, .ctx = ctx};
	buf_init(&k->input);
	list_init(&k->frames);
	k->reserve = malloc(sizeof *k->reserve);
	link_limits(k, 1 << 20, 1 << 20);
	k->part_min = LINK_PART_MIN;
	wheel_node_init(&k->lazy, on_lazy);
	loop_io_init(&k->in, on_in, NULL, in_fd);
	loop_io_init(&k->out, on_out, NULL, out_fd);
	loop_io_watch(loop, &k->in, LOOP_READ);
}

void link_free(struct link *k)
{
	struct list *l;

	loop_io_watch(k->loop, &k->in, 0);
	loop_io_watch(k->loop, &k->out, 0);
	wheel_cancel(&k->loop->wheel, &k->lazy);
	while ((l = list_pop(&k->frames)))
		free(container_of(l, struct link_frame, link));
	free(k->spare);
	free(k->reserve);
	k->spare = k->reserve = NULL;
	buf_free(&k->input);
}

void link_limits(struct link *k, size_t max_frame, size_t high)
{
	k->max_frame = max_frame;
	k->high = high;
	k->low = high / 4;
}

/* ---- from the host ---- */

static void read_messages(struct link *k, struct slice payload)
{
	struct message m;
	struct message_fault fault;

	while (payload.len > 0) {
		if (message_read(&payload, FROM_HOST, &m, &fault))
			k->handler->on_message(k->ctx, &m);
		else
			k->handler->on_fault(k->ctx, &m, &fault, false);
		if (m.kind == MSG_NONE && fault.frame_lost)
			return;
	}
}

static uint32_t frame_length(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void too_long(struct link *k)
{
	struct message none = {.kind = MSG_NONE};
	struct message_fault fault = {.field = "frame", .rule = "is longer than max_frame", .frame_lost = true};

	k->in_ended = true;
	k->handler->on_fault(k->ctx, &none, &fault, true);
}

/* Reads the length of a frame. False: it is incomplete, or the framing is broken. */
static bool begin_frame(struct link *k)
{
	uint32_t len;

	if (buf_len(&k->input) < FRAME_HEAD)
		return false;
	len = frame_length(buf_at(&k->input));
	if (len > k->max_frame) {
		too_long(k);
		return false;
	}
	buf_consume(&k->input, FRAME_HEAD);
	k->frame_left = len;
	return true;
}

static void hand_on_part(struct link *k, size_t n)
{
	k->part_left -= n;
	k->part.left = k->part_left;
	k->part.data.data = slice_of(buf_at(&k->input), n);
	k->handler->on_message(k->ctx, &k->part);
	buf_consume(&k->input, n);
}

/*
 * Whether the frame consists of one DATA: then its bytes are passed on as they arrive, so that they are processed while they are
 * in the CPU's caches, and moved at most once.
 */
static bool begin_part(struct link *k)
{
	struct slice in = slice_of(buf_at(&k->input), k->frame_left); /* only its header is read */
	struct mp_value array, kind, stream, data;
	size_t head;

	if (k->frame_left < k->part_min || buf_len(&k->input) < MESSAGE_DATA_HEAD_MAX)
		return false;
	if (!mp_read(&in, &array) || array.type != MP_ARRAY || array.u != 3)
		return false;
	if (!mp_read(&in, &kind) || kind.type != MP_UINT || kind.u != MSG_DATA)
		return false;
	if (!mp_read(&in, &stream) || stream.type != MP_UINT || !mp_read(&in, &data) || data.type != MP_BIN)
		return false;
	if (data.bytes.len < k->part_min)
		return false;
	head = (size_t)(data.bytes.at - buf_at(&k->input));
	k->part = (struct message){.def = message_def(MSG_DATA), .kind = MSG_DATA, .stream = stream.u, .data.stream = stream.u};
	k->part_left = data.bytes.len;
	k->parts = true;
	k->frame_left -= head + data.bytes.len;
	buf_consume(&k->input, head);
	return true;
}

/* Passes on the next message, or part of a DATA, in the buffer. False: there is none. */
static bool read_next(struct link *k)
{
	size_t have, n;

	if (!k->part_left && !k->frame_left && !begin_frame(k))
		return false;
	have = buf_len(&k->input);
	if (k->part_left) {
		n = have < k->part_left ? have : k->part_left;
		if (n)
			hand_on_part(k, n);
		return n > 0;
	}
	if (have < k->frame_left)
		return begin_part(k);
	n = k->frame_left;
	k->frame_left = 0;
	k->parts = false;
	read_messages(k, slice_of(buf_at(&k->input), n));
	buf_consume(&k->input, n);
	return true;
}

static void read_frames(struct link *k)
{
	while (!k->in_ended && read_next(k))
		;
}

static void in_ended(struct link *k)
{
	k->in_ended = true;
	loop_io_watch(k->loop, &k->in, 0);
	k->handler->on_eof(k->ctx);
}

/*
 * Makes room for the whole frame that is being read. After one long frame others will be long too, so it makes room for several.
 * This moves bytes, so it is done just before reading: messages of the last turn may point into the buffer until then.
 */
static bool make_room(struct link *k)
{
	size_t have = buf_len(&k->input), wanted = k->part_left ? 0 : k->frame_left;

	if (have == 0 && k->input.cap > LINK_STREAM_CAP)
		buf_free(&k->input);
	if (wanted < LINK_INPUT_CAP)
		wanted = LINK_INPUT_CAP;
	else if (wanted < LINK_STREAM_CAP)
		wanted = LINK_STREAM_CAP;
	return buf_reserve_wiping(&k->input, wanted > have ? wanted - have : 1);
}

void link_wipe(struct link *k)
{
	buf_wipe_slack(&k->input);
}

bool link_read(struct link *k)
{
	ssize_t n;
	size_t room;

	if (!k->in_ready || k->in_ended)
		return false;
	if (!make_room(k)) {
		log_line(LOG_ERROR, "out of memory: the host cannot be read");
		in_ended(k);
		return false;
	}
	room = buf_room(&k->input);
	if (k->parts && room > LINK_INPUT_CAP)
		room = LINK_INPUT_CAP;
	n = read(loop_io_fd(&k->in), k->input.data + k->input.tail, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		k->in_ready = false;
		return false;
	}
	if (n <= 0) {
		in_ended(k);
		return false;
	}
	k->bytes_in += (uint64_t)n;
	buf_filled(&k->input, (size_t)n);
	read_frames(k);
	k->in_ready = (size_t)n == room;
	return k->in_ready && !k->in_ended;
}

/* ---- to the host ---- */

/* Out of memory: uses the frame in reserve. If that is used up too, a message is lost that the host needs: see link_flush. */
static struct link_frame *new_frame(struct link *k)
{
	struct link_frame *f = k->spare ? k->spare : malloc(sizeof *f);

	k->spare = NULL;
	if (f)
		return f;
	f = k->reserve;
	k->reserve = NULL;
	k->starved = !f;
	return f;
}

static struct link_frame *open_frame(struct link *k)
{
	struct link_frame *f = new_frame(k);

	if (!f)
		return NULL;
	f->len = FRAME_HEAD;
	f->written = 0;
	list_append(&k->frames, &f->link);
	k->queued += FRAME_HEAD;
	return f;
}

static struct link_frame *last_frame(struct link *k)
{
	return list_empty(&k->frames) ? NULL : container_of(k->frames.prev, struct link_frame, link);
}

uint8_t *link_reserve(struct link *k, size_t n)
{
	struct link_frame *f = last_frame(k);

	assert(n <= FRAME_PAYLOAD_MAX);
	if (!f || f->written > 0 || FRAME_CAP - f->len < n)
		f = open_frame(k);
	return f ? f->data + f->len : NULL;
}

void link_commit_lazy(struct link *k, const uint8_t *end)
{
	struct link_frame *f = last_frame(k);
	uint32_t len = (uint32_t)(end - f->data);

	assert(len >= f->len && len <= FRAME_CAP);
	if (!wheel_pending(&k->lazy))
		wheel_set(&k->loop->wheel, &k->lazy, k->loop->now + LINK_LAZY_MS);
	k->queued += len - f->len;
	f->len = len;
}

void link_commit(struct link *k, const uint8_t *end)
{
	link_commit_lazy(k, end);
	k->urgent = true;
}

bool link_full(struct link *k)
{
	if (k->queued > k->high)
		k->full = true;
	else if (k->queued <= k->low)
		k->full = false;
	return k->full;
}

static void set_length(struct link_frame *f)
{
	uint32_t payload = f->len - FRAME_HEAD;

	f->data[0] = (uint8_t)(payload >> 24);
	f->data[1] = (uint8_t)(payload >> 16);
	f->data[2] = (uint8_t)(payload >> 8);
	f->data[3] = (uint8_t)payload;
}

static int gather(struct link *k, struct iovec *iov)
{
	int count = 0;

	for (struct list *l = k->frames.next; l != &k->frames && count < WRITE_FRAMES_MAX; l = l->next) {
		struct link_frame *f = container_of(l, struct link_frame, link);
		set_length(f);
		iov[count++] = (struct iovec){f->data + f->written, f->len - f->written};
	}
	return count;
}

static void frame_done(struct link *k, struct link_frame *f)
{
	struct link_frame **place = k->reserve ? &k->spare : &k->reserve;

	list_remove(&f->link);
	if (*place)
		free(f);
	else
		*place = f;
}

static void written(struct link *k, size_t n)
{
	k->bytes_out += n;
	k->queued -= n;
	while (n > 0) {
		struct link_frame *f = container_of(k->frames.next, struct link_frame, link);
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a frame is unlinked before it is freed */
		size_t part = f->len - f->written < n ? f->len - f->written : n;
		f->written += (uint32_t)part;
		n -= part;
		if (f->written == f->len)
			frame_done(k, f);
	}
}

static void out_broke(struct link *k)
{
	k->out_broken = true;
	k->urgent = false;
	loop_io_watch(k->loop, &k->out, 0);
	if (!k->in_ended)
		in_ended(k);
}

static bool write_some(struct link *k)
{
	struct iovec iov[WRITE_FRAMES_MAX];
	int count = gather(k, iov);
	ssize_t n = writev(loop_io_fd(&k->out), iov, count);

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN) {
		k->out_blocked = true;
		return false;
	}
	if (n < 0) {
		out_broke(k);
		return false;
	}
	written(k, (size_t)n);
	return k->queued > 0;
}

void link_flush(struct link *k)
{
	if (k->starved && !k->out_broken)
		out_broke(k);
	if (k->queued == 0 || k->out_broken || (!k->urgent && k->queued < FRAME_PAYLOAD_MAX / 2))
		return;
	while (!k->out_blocked && write_some(k))
		;
	if (k->out_broken)
		return;
	k->urgent = k->queued > 0;
	loop_io_watch(k->loop, &k->out, k->out_blocked ? LOOP_WRITE : 0);
}
