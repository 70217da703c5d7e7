/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records between a socket and a TLS session.
 *
 * A silent connection has no session, and an idle one has no buffer: all connections share one buffer for reading and one for
 * writing, unless the socket does not accept all bytes. The session gets only whole records: for the first byte of one the
 * library allocates room for the largest, and more for each part that follows, up to 75 kB. A record that is encrypted must be
 * sent unchanged: the writer is told that bytes were sent only when their records have left, and nothing more is encrypted until
 * then.
 */
#include "transport/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "platform/platform.h"

enum {
	READ_SIZE = 49218,    /* bytes of one read: three of the largest records of TLS 1.3; */
	READ_OVERHEAD = 88,   /* but no more than there is room for, and this: so only an incomplete record is stored */
	RECORD_SMALL = 1400,  /* bytes of a record that fits one packet, so that a browser can use each packet at once */
	RECORD_LARGE = 16384, /* bytes of the largest record */
	SMALL_FIRST = 65536,  /* bytes that go in small records, */
	IDLE_MS = 1000,       /* and again after this much silence (ms) */
	AT_ONCE = 65536,      /* plain bytes of one write, */
	PROVEN = 196608,      /* if the socket has accepted this many without a pause, since the rest must be stored */
	FLIGHT_MAX = 131072,  /* memory that stays for the next write */
	OWED_MAX = 262144,    /* bytes for a socket that accepts none: a client may request KeyUpdates repeatedly */
	RECORD_HEAD = 5,      /* type, version, length of the rest, */
	RECORD_BODY = 18432,  /* which is at most this (RFC 5246 6.2.3) */
	RECORDS_MANY = 32,    /* of one read: a record of one byte takes as long as one of a hundred, so others get a turn */
};

struct tls {
	struct transport_tls *shared;
	struct tls_session *session; /* NULL: the ClientHello is incomplete */
	struct buf in;               /* from the socket, not yet pulled by the session */
	struct buf out;              /* bytes that the socket did not accept */
	struct slice wire;           /* bytes after `in`: in scratch.in, and only within a call */
	size_t open;                 /* bytes still to be pulled of a record, which is whole in `in` and `wire` */
	size_t spent;                /* plain bytes of the writer that are in `out`, encrypted */
	uint64_t burst;              /* bytes since the last silence */
	uint64_t wrote_at;           /* ms */
	int fd;
	int error;     /* errno of the socket */
	bool eof;      /* of the socket */
	bool was_full; /* the last read filled its buffer: the next one need not wait for an event */
	bool emptied;  /* a read of this call has emptied the socket */
	bool over;     /* the session has reported the end, or an error of the peer */
	bool shaken, failed, said_bye;
};

/* Static, since there is one thread and one call at a time: each call empties it before it returns. */
static struct {
	uint8_t in[READ_SIZE];
	uint8_t plain[RECORD_LARGE];
	struct buf flight; /* bytes that the session has pushed in this call */
} scratch;

void *transport_tls_open(struct transport_tls *shared)
{
	struct tls *t = calloc(1, sizeof *t);

	if (t)
		t->shared = shared;
	return t;
}

/* ---- the socket: to it ---- */

static bool would_wait(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* How many bytes the socket accepts; -1: it is broken. */
static ssize_t put(struct tls *t, const void *bytes, size_t n)
{
	ssize_t sent = n ? write(t->fd, bytes, n) : 0;

	if (sent >= 0)
		return sent;
	if (would_wait())
		return 0;
	t->error = errno;
	return -1;
}

/* Writes the pushed bytes to the socket, and keeps those that it does not accept. False: the socket is broken, or out of memory.
 * */
static bool flush(struct tls *t)
{
	struct buf *from = buf_len(&t->out) ? &t->out : &scratch.flight;
	size_t n = buf_len(from);
	ssize_t sent = t->error ? -1 : put(t, buf_at(from), n);

	if (sent > 0)
		buf_consume(from, (size_t)sent);
	n = buf_len(&scratch.flight);
	if (sent >= 0 && n && !buf_append(&t->out, buf_at(&scratch.flight), n)) {
		t->error = ENOMEM;
		sent = -1;
	}
	buf_consume(&scratch.flight, n);
	if (scratch.flight.cap > FLIGHT_MAX)
		buf_free(&scratch.flight);
	if (buf_len(&t->out) == 0)
		buf_free(&t->out);
	return sent >= 0;
}

/* ---- the session's wire ---- */

/* The bytes that were not pulled: first the kept ones, then those of the last read. */
static uint8_t unpulled_at(const struct tls *t, size_t i)
{
	size_t kept = buf_len(&t->in);

	return i < kept ? buf_at(&t->in)[i] : t->wire.at[i - kept];
}

/* Whether the session may pull: the rest of a record, or the next, which must be whole. The session reports a record that is too
 * long. */
static bool has_record(struct tls *t)
{
	size_t have = buf_len(&t->in) + t->wire.len, body;

	if (t->open == 0 && have >= RECORD_HEAD) {
		body = (size_t)unpulled_at(t, 3) << 8 | unpulled_at(t, 4);
		if (body > RECORD_BODY)
			t->open = SIZE_MAX;
		else if (have - RECORD_HEAD >= body)
			t->open = RECORD_HEAD + body;
	}
	return t->open > 0 && have > 0;
}

static size_t take_kept(struct tls *t, uint8_t *bytes, size_t n)
{
	n = n < buf_len(&t->in) ? n : buf_len(&t->in);
	if (n == 0)
		return 0;
	memcpy(bytes, buf_at(&t->in), n);
	buf_consume(&t->in, n);
	return n;
}

static size_t take_read(struct tls *t, uint8_t *bytes, size_t n)
{
	n = n < t->wire.len ? n : t->wire.len;
	if (n == 0)
		return 0;
	memcpy(bytes, t->wire.at, n);
	t->wire = slice_of(t->wire.at + n, t->wire.len - n);
	return n;
}

static ssize_t wire_pull(void *ctx, void *bytes, size_t n)
{
	struct tls *t = ctx;
	size_t got;

	if (!has_record(t)) {
		errno = EAGAIN;
		return t->eof ? 0 : -1;
	}
	n = n < t->open ? n : t->open;
	got = take_kept(t, bytes, n);
	got += take_read(t, (uint8_t *)bytes + got, n - got);
	t->open -= got;
	return (ssize_t)got;
}

static ssize_t wire_push(void *ctx, const struct iovec *iov, int count)
{
	struct tls *t = ctx;
	size_t n = 0;

	for (int i = 0; i < count; i++) {
		if (buf_len(&t->out) + buf_len(&scratch.flight) > OWED_MAX ||
		    !buf_append(&scratch.flight, iov[i].iov_base, iov[i].iov_len)) {
			t->error = ENOMEM;
			return -1;
		}
		n += iov[i].iov_len;
	}
	return (ssize_t)n;
}

static const struct tls_wire wire = {.pull = wire_pull, .push = wire_push};

/* ---- the socket: from it ---- */

/* Keeps bytes that were read and not pulled for the next call. False: no memory. */
static bool keep(struct tls *t)
{
	bool well = buf_append(&t->in, t->wire.at, t->wire.len);

	t->wire = (struct slice){0};
	if (buf_len(&t->in) == 0)
		buf_free(&t->in);
	return well;
}

/* One read, when the session has no record left. IO_AGAIN: nothing is there; IO_OK also if it never will. */
static struct io_result fill(struct tls *t, size_t room)
{
	size_t size = room < READ_SIZE - READ_OVERHEAD ? room + READ_OVERHEAD : READ_SIZE;
	ssize_t n;

	if (!keep(t))
		return io_failed(ENOMEM);
	if (t->emptied && !t->eof)
		return io_again(IO_READ);
	n = t->eof ? 0 : read(t->fd, scratch.in, size);
	t->was_full = n == (ssize_t)size;
	t->emptied = !t->was_full;
	if (n < 0 && would_wait())
		return io_again(IO_READ);
	if (n < 0) {
		t->error = errno;
		return io_failed(errno);
	}
	t->eof = n == 0;
	t->wire = slice_of(scratch.in, (size_t)n);
	return (struct io_result){.status = IO_OK, .n = (size_t)n};
}

/* Bytes that were not pulled are no longer needed. */
static void drop(struct tls *t)
{
	t->wire = (struct slice){0};
	buf_free(&t->in);
}

/* The outcome of a call, after the pushed bytes were written to the socket. */
static struct io_result end(struct tls *t, struct io_result r)
{
	if (!keep(t))
		return io_failed(ENOMEM);
	if (!flush(t))
		return io_failed(t->error);
	if (r.status == IO_AGAIN && buf_len(&t->out))
		r.until |= IO_WRITE;
	return r;
}

static void begin(struct tls *t, int fd)
{
	t->fd = fd;
	t->emptied = false;
}

/* ---- the handshake ---- */

static struct io_result fail(struct tls *t, int error)
{
	t->failed = true;
	t->shared->failed++;
	drop(t);
	return end(t, io_failed(error));
}

static struct io_result refuse_http(struct tls *t)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 48\r\n"
				     "Connection: close\r\n\r\nThis port speaks HTTPS: the URL begins https://\n";
	struct iovec iov = {(void *)(uintptr_t)answer, sizeof answer - 1};

	wire_push(t, &iov, 1);
	return fail(t, EPROTO);
}

/* Sends an alert without a session, which would cost too much. */
static struct io_result refuse(struct tls *t, uint8_t alert)
{
	uint8_t record[] = {21, 3, 3, 0, 2, 2, alert};
	struct iovec iov = {record, sizeof record};

	if (alert)
		wire_push(t, &iov, 1);
	return fail(t, EPROTO);
}

static bool make_session(struct tls *t, const char *name)
{
	struct tls_wire mine = wire;

	mine.ctx = t;
	t->session = tls_session_new(t->shared->store, name, &mine);
	return t->session;
}

/* Keeps bytes until the ClientHello is complete: only then a session is made. */
static struct io_result await_hello(struct tls *t)
{
	struct tls_hello hello = {.alert = 0};
	struct io_result r;

	for (;;) {
		struct slice all = buf_len(&t->in) ? slice_of(buf_at(&t->in), buf_len(&t->in)) : t->wire;
		switch (all.len ? tls_first_bytes(all.at, all.len, &hello) : TLS_FIRST_MORE) {
		case TLS_FIRST_HTTP:
			return refuse_http(t);
		case TLS_FIRST_WRONG:
			return refuse(t, hello.alert);
		case TLS_FIRST_WHOLE:
			hello.alert = tls_store_refuses(t->shared->store, &hello);
			if (hello.alert)
				return refuse(t, hello.alert);
			return make_session(t, hello.name) ? (struct io_result){.status = IO_OK} : fail(t, ENOMEM);
		case TLS_FIRST_MORE:
			break;
		}
		r = fill(t, RECORD_LARGE);
		if (r.status != IO_OK)
			return r;
		if (t->eof)
			return (struct io_result){.status = IO_EOF};
		if (buf_len(&t->in) && !keep(t))
			return io_failed(ENOMEM);
	}
}

static struct io_result shaken(struct tls *t)
{
	t->shaken = true;
	t->shared->handshakes++;
	t->shared->resumed += tls_session_facts(t->session)->resumed;
	return end(t, (struct io_result){.status = IO_OK, .n = 1, .more = true});
}

static struct io_result tls_handshake(int fd, void *state)
{
	struct tls *t = state;
	struct io_result r;

	begin(t, fd);
	if (!t->session) {
		r = await_hello(t);
		if (r.status != IO_OK)
			return r;
	}
	for (;;) {
		switch (tls_session_handshake(t->session)) {
		case TLS_DONE:
			return shaken(t);
		case TLS_FAILED:
			return fail(t, t->error ? t->error : EPROTO);
		case TLS_EOF:
			return end(t, (struct io_result){.status = IO_EOF});
		case TLS_AGAIN:
			break;
		}
		r = fill(t, RECORD_LARGE);
		if (r.status != IO_OK)
			return end(t, r);
	}
}

/* ---- reading ---- */

/* Otherwise the session would return TLS_AGAIN, which costs as much as a short record. */
static bool has_something(struct tls *t)
{
	return has_record(t) || t->eof || t->over || tls_session_pending(t->session);
}

/* Decrypts what has arrived. Fewer than n bytes: TLS_AGAIN without a whole record, or it is the end. */
static size_t decrypt(struct tls *t, uint8_t *bytes, size_t n, enum tls_outcome *outcome)
{
	size_t total = 0, got;
	unsigned records = 0;

	for (*outcome = TLS_DONE; total < n && *outcome == TLS_DONE; records++) {
		*outcome = has_something(t) ? tls_session_read(t->session, bytes + total, n - total, &got) : TLS_AGAIN;
		total += *outcome == TLS_DONE ? got : 0;
	}
	t->over = *outcome == TLS_EOF || *outcome == TLS_FAILED;
	if (records > RECORDS_MANY)
		t->was_full = false; /* the loop's next event says whether there is more */
	return total;
}

/* A lingering connection is only read to empty the socket. */
static struct io_result read_and_drop(struct tls *t)
{
	struct io_result r = fill(t, READ_SIZE);

	drop(t);
	if (r.status == IO_OK && t->eof)
		return (struct io_result){.status = IO_EOF};
	return end(t, r);
}

static struct io_result tls_read(int fd, void *state, void *bytes, size_t n)
{
	enum tls_outcome outcome;
	struct tls *t = state;
	struct io_result r;
	size_t total;

	begin(t, fd);
	if (!t->shaken || t->failed || t->said_bye)
		return read_and_drop(t);
	for (;;) {
		total = decrypt(t, bytes, n, &outcome);
		if (total > 0) /* the next call finds the reason again */
			return end(t, (struct io_result){.status = IO_OK, .n = total, .more = outcome != TLS_AGAIN || t->was_full});
		if (outcome == TLS_FAILED)
			return fail(t, EPROTO);
		if (outcome == TLS_EOF)
			return end(t, (struct io_result){.status = IO_EOF});
		r = fill(t, n);
		if (r.status != IO_OK)
			return end(t, r);
	}
}

/* ---- writing ---- */

/* Bytes to write that are contiguous in memory: as many as a record holds, or all. */
struct source {
	const struct iovec *iov;
	int count;
	size_t used; /* of the first */
};

static void advance(struct source *from, size_t n)
{
	while (n > 0) {
		size_t left = from->iov->iov_len - from->used, part = n < left ? n : left;
		from->used += part;
		n -= part;
		if (from->used == from->iov->iov_len) {
			from->iov++;
			from->count--;
			from->used = 0;
		}
	}
}

static size_t next_record(const struct source *from, size_t record, const void **at)
{
	struct source walk = *from;
	size_t n = 0;

	if (walk.count == 0)
		return 0;
	*at = (const uint8_t *)walk.iov->iov_base + walk.used;
	if (walk.count == 1 || walk.iov->iov_len - walk.used >= record)
		return walk.iov->iov_len - walk.used < record ? walk.iov->iov_len - walk.used : record;
	while (walk.count > 0 && n < record) {
		size_t left = walk.iov->iov_len - walk.used, part = left < record - n ? left : record - n;
		memcpy(scratch.plain + n, (const uint8_t *)walk.iov->iov_base + walk.used, part);
		n += part;
		advance(&walk, part);
	}
	*at = scratch.plain;
	return n;
}

/* A burst begins after a silence; waiting for a full socket is not a silence. */
static void note_time(struct tls *t)
{
	uint64_t now = *t->shared->now;

	if (now > t->wrote_at + IDLE_MS)
		t->burst = 0;
	t->wrote_at = now;
}

static size_t record_size(const struct tls *t)
{
	return t->burst < SMALL_FIRST ? RECORD_SMALL : RECORD_LARGE;
}

/*
 * Several records go out in one write, which costs less than a write for each. A client that reads slowly gets one record at a
 * time, so that at most one is stored for it.
 */
static size_t size_at_once(const struct tls *t)
{
	return t->burst < SMALL_FIRST || t->burst >= PROVEN ? AT_ONCE : RECORD_LARGE;
}

static size_t encrypt_all(struct tls *t, const struct iovec *iov, int count)
{
	struct source from = {iov, count, 0};
	size_t total = 0, n, at_once;
	const void *at;

	note_time(t);
	at_once = size_at_once(t);
	while (total < at_once) {
		size_t record = record_size(t), sent;
		n = next_record(&from, record, &at);
		if (n == 0)
			break;
		sent = tls_session_write(t->session, at, n, record);
		if (sent == 0) {
			t->error = t->error ? t->error : EPROTO;
			break;
		}
		advance(&from, sent);
		total += sent;
		t->burst += sent;
	}
	return total;
}

/* How many of the plain bytes in `out` have left, in proportion. */
static struct io_result sent_some(struct tls *t, size_t left_before)
{
	size_t left = buf_len(&t->out), n;

	n = left == 0 ? t->spent : (size_t)((double)t->spent * (double)(left_before - left) / (double)left_before);
	t->spent -= n;
	t->wrote_at = *t->shared->now;
	return n ? (struct io_result){.status = IO_OK, .n = n, .more = left == 0} : io_again(IO_WRITE);
}

static struct io_result write_rest(struct tls *t)
{
	size_t before = buf_len(&t->out);

	if (!flush(t))
		return io_failed(t->error);
	return t->spent ? sent_some(t, before) : io_again(IO_WRITE);
}

static struct io_result tls_writev(int fd, void *state, const struct iovec *iov, int count)
{
	struct tls *t = state;
	size_t offered = 0, total;
	struct io_result r;

	t->fd = fd;
	if (buf_len(&t->out) || t->spent) { /* a read may have written the last of it to the socket */
		r = write_rest(t);
		if (r.status != IO_AGAIN || buf_len(&t->out))
			return r;
	}
	for (int i = 0; i < count; i++)
		offered += iov[i].iov_len;
	total = encrypt_all(t, iov, count);
	if (!flush(t))
		return io_failed(t->error);
	if (buf_len(&t->out) == 0)
		return (struct io_result){.status = IO_OK, .n = total, .more = total == offered};
	t->spent = total;
	t->burst = t->burst < SMALL_FIRST ? t->burst : SMALL_FIRST;
	return io_again(IO_WRITE);
}

/* ---- the end ---- */

static void say_bye(struct tls *t)
{
	if (t->shaken && !t->failed && !t->said_bye && !t->error)
		tls_session_bye(t->session);
	t->said_bye = true;
}

static struct io_result tls_shutdown(int fd, void *state)
{
	struct tls *t = state;

	t->fd = fd;
	say_bye(t);
	if (!flush(t))
		return io_failed(t->error);
	if (buf_len(&t->out))
		return io_again(IO_WRITE);
	shutdown(fd, SHUT_WR);
	return (struct io_result){.status = IO_OK};
}

static void tls_close(int fd, void *state, bool abort)
{
	struct tls *t = state;

	t->fd = fd;
	if (!abort && !t->said_bye) { /* as much as the socket accepts */
		say_bye(t);
		flush(t);
	}
	tls_session_free(t->session);
	buf_free(&t->in);
	buf_free(&t->out);
	free(t);
	transport_tcp.close(fd, NULL, abort);
}

static const struct secure *tls_secure(const void *state)
{
	const struct tls *t = state;

	return tls_session_facts(t->session);
}

static bool tls_covers(const void *state, struct slice host)
{
	const struct tls *t = state;

	return tls_session_covers(t->session, host);
}

/* The socket's count, which includes the overhead of records, so the peer looks a little slower than it is. */
static size_t tls_unsent(int fd, void *state)
{
	(void)state;
	return platform_unsent(fd);
}

static const char *tls_why(const void *state)
{
	const struct tls *t = state;

	return t->session ? tls_session_why(t->session) : "the first bytes are not a valid ClientHello";
}

const struct transport_ops transport_tls_ops = {
	.handshake = tls_handshake,
	.read = tls_read,
	.writev = tls_writev,
	.shutdown = tls_shutdown,
	.close = tls_close,
	.secure = tls_secure,
	.why = tls_why,
	.covers = tls_covers,
	.unsent = tls_unsent,
};
