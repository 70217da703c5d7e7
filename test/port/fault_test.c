/*
 * Faults: an exchange of each protocol, over real sockets and pipes, again and again, with the n-th allocation or the n-th
 * system call failing, for every n. Nothing may crash or leak, and no client may be left waiting: each request is answered or
 * its connection ends. (rig.c judges what the host hears, the bridge's sums, and what is left at the end.)
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ev.h>

#include "fuzz/parts/answering.h"
#include "support.h"

/* ---- the faults ---- */

enum call { CALL_MEMORY, CALL_READ, CALL_WRITE, CALL_ACCEPT, CALL_OTHER, CALLS };

static struct {
	bool port_runs;
	enum call call;
	unsigned long at;   /* the number of the call that fails; 0: none does */
	bool and_all_after; /* and all that follow it */
	int error;          /* errno; 0: one byte is moved */
	unsigned long count[CALLS];
} fault;

/* Counts the call, and says whether it is to fail. */
static bool fails(enum call call)
{
	unsigned long n;

	if (!fault.port_runs)
		return false;
	n = ++fault.count[call];
	if (call != fault.call || fault.at == 0 || n < fault.at || (n > fault.at && !fault.and_all_after))
		return false;
	errno = fault.error;
	return true;
}

static void around(bool port_runs)
{
	fault.port_runs = port_runs;
}

/* ---- memory: also of the libraries ---- */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *at, size_t n);
void __libc_free(void *at);
void *__interceptor_malloc(size_t n) __attribute__((weak));
void *__interceptor_calloc(size_t count, size_t n) __attribute__((weak));
void *__interceptor_realloc(void *at, size_t n) __attribute__((weak));
void __interceptor_free(void *at) __attribute__((weak));

static long living; /* allocations */

void *malloc(size_t n)
{
	void *at = fails(CALL_MEMORY) ? NULL : __interceptor_malloc ? __interceptor_malloc(n) : __libc_malloc(n);

	living += at != NULL;
	return at;
}

void *calloc(size_t count, size_t n)
{
	void *at = fails(CALL_MEMORY) ? NULL : __interceptor_calloc ? __interceptor_calloc(count, n) : __libc_calloc(count, n);

	living += at != NULL;
	return at;
}

void *realloc(void *was, size_t n)
{
	void *at = fails(CALL_MEMORY) ? NULL : __interceptor_realloc ? __interceptor_realloc(was, n) : __libc_realloc(was, n);

	living += !was && at;
	return at;
}

void free(void *at)
{
	living -= at != NULL;
	if (__interceptor_free)
		__interceptor_free(at);
	else
		__libc_free(at);
}

/* libev ends the process when it gets no memory, so it always does. */
static void *for_libev(void *at, long n)
{
	bool runs = fault.port_runs;

	fault.port_runs = false;
	if (n)
		at = realloc(at, (size_t)n);
	else
		free(at), at = NULL;
	fault.port_runs = runs;
	return at;
}

/* ---- system calls of the port (linked with --wrap) ---- */

#define WRAP(type, name, parameters) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters

static bool short_by_one(enum call call, bool *one)
{
	*one = fails(call);
	if (*one && fault.error) {
		*one = false;
		return true;
	}
	return false;
}

WRAP(ssize_t, read, (int fd, void *to, size_t n))
{
	bool one;

	return short_by_one(CALL_READ, &one) ? -1 : __real_read(fd, to, one ? 1 : n);
}

WRAP(ssize_t, write, (int fd, const void *from, size_t n))
{
	bool one;

	return short_by_one(CALL_WRITE, &one) ? -1 : __real_write(fd, from, one ? 1 : n);
}

WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int count))
{
	bool one;

	if (short_by_one(CALL_WRITE, &one))
		return -1;
	return one ? __real_write(fd, iov[0].iov_base, 1) : __real_writev(fd, iov, count);
}

WRAP(int, accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags))
{
	return fails(CALL_ACCEPT) ? -1 : __real_accept4(fd, from, len, flags);
}

WRAP(int, accept, (int fd, struct sockaddr *from, socklen_t *len))
{
	return fails(CALL_ACCEPT) ? -1 : __real_accept(fd, from, len);
}

WRAP(int, socket, (int domain, int type, int protocol))
{
	return fails(CALL_OTHER) ? -1 : __real_socket(domain, type, protocol);
}

WRAP(int, bind, (int fd, const struct sockaddr *to, socklen_t len))
{
	return fails(CALL_OTHER) ? -1 : __real_bind(fd, to, len);
}

WRAP(int, listen, (int fd, int backlog))
{
	return fails(CALL_OTHER) ? -1 : __real_listen(fd, backlog);
}

WRAP(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event))
{
	return fails(CALL_OTHER) ? -1 : __real_epoll_ctl(epoll, what, fd, event);
}

WRAP(int, clock_gettime, (clockid_t clock, struct timespec *t))
{
	if (!fault.port_runs)
		return __real_clock_gettime(clock, t);
	*t = (struct timespec){.tv_sec = (time_t)(rig_clock_us / 1000000), .tv_nsec = (long)(rig_clock_us % 1000000 * 1000)};
	return 0;
}

/* ---- the exchanges ---- */

static unsigned answers_h1(struct slice wire);
static unsigned answers_h2(struct slice wire);
static unsigned answers_socket(struct slice wire);

#define SOCKET_HEAD \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define H2_START "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define H2_GET(id) "\0\0\6\1\5\0\0\0" id "\x82\x84\x86\x41\1a"
#define H2_POST(id) "\0\0\6\1\4\0\0\0" id "\x83\x84\x86\x41\1a\0\0\5\0\1\0\0\0" id "hello"
#define H2_TRAILERS(id) "\0\0\6\1\4\0\0\0" id "\x83\x84\x86\x41\1a\0\0\5\0\0\0\0\0" id "hello\0\0\5\1\5\0\0\0" id "\x40\1x\1y"

struct trial {
	const char *name;
	struct slice first, then; /* what the client says; then: once it was answered */
	enum answering_way way;
	bool compress;
	unsigned (*answers)(struct slice wire);
	unsigned wanted;
};

static const struct trial exchanges[] = {
	{"http/1 get", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
	 SLICE_LIT("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_READ, false, answers_h1, 3},
	{"http/1 post", SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\nhello"),
	 SLICE_LIT("worldGET / HTTP/1.0\r\n\r\n"), ANSWER_READ, false, answers_h1, 2},
	{"http/1 stream",
	 SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
	 SLICE_LIT("3\r\nabc\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_STREAM, false, answers_h1, 2},
	{"http/1 at once", SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"),
	 SLICE_LIT("worldGET / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_AT_ONCE, false, answers_h1, 2},
	{"http/1 wrong", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n"), SLICE_LIT(""), ANSWER_READ, false,
	 answers_h1, 2},
	{"http/1 tunnel", SLICE_LIT("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nbytes"), SLICE_LIT("more"), ANSWER_UPGRADE, false,
	 answers_h1, 1},
	{"http/2", SLICE_LIT(H2_START H2_GET("\1") H2_POST("\3")), SLICE_LIT(H2_GET("\5") H2_TRAILERS("\7")), ANSWER_READ, false,
	 answers_h2, 4},
	{"http/2 stream", SLICE_LIT(H2_START H2_GET("\1") H2_TRAILERS("\3")), SLICE_LIT(H2_POST("\5")), ANSWER_STREAM, false,
	 answers_h2, 3},
	{"websocket", SLICE_LIT(SOCKET_HEAD "\r\n\x81\x85\0\0\0\0hello\x89\x81\0\0\0\0p"),
	 SLICE_LIT("\1\x82\0\0\0\0he\x80\x83\0\0\0\0llo\x88\x82\0\0\0\0\x03\xe8"), ANSWER_SOCKET, false, answers_socket, 1},
	{"websocket deflate",
	 SLICE_LIT(SOCKET_HEAD "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
			       "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"),
	 SLICE_LIT("\x41\x83\0\0\0\0\xf2\x48\xcd\x80\x84\0\0\0\0\xc9\xc9\x07\x00\x88\x80\0\0\0\0"), ANSWER_SOCKET, true,
	 answers_socket, 1},
};
enum { EXCHANGES = sizeof exchanges / sizeof *exchanges };

/* Heads of final answers. */
static unsigned answers_h1(struct slice wire)
{
	static const char start[] = "HTTP/1.1 ";
	const uint8_t *at = wire.at, *end = wire.at + wire.len;
	unsigned count = 0;

	while (at && (at = memmem(at, (size_t)(end - at), start, sizeof start - 1))) {
		at += sizeof start - 1;
		count += at < end && *at != '1';
	}
	return count;
}

/* Ends of streams, of either kind. */
static unsigned answers_h2(struct slice wire)
{
	enum { HEAD = 9, RST_STREAM = 3, HEADERS = 1 };
	unsigned count = 0;

	while (wire.len >= HEAD) {
		size_t n = HEAD + ((size_t)wire.at[0] << 16 | (size_t)wire.at[1] << 8 | wire.at[2]);
		count += wire.at[3] == RST_STREAM || (wire.at[3] <= HEADERS && (wire.at[4] & 1));
		if (n > wire.len)
			break;
		wire = slice_of(wire.at + n, wire.len - n);
	}
	return count;
}

/* A Close, or an answer that is no upgrade. */
static unsigned answers_socket(struct slice wire)
{
	const uint8_t *end = wire.len ? memmem(wire.at, wire.len, "\r\n\r\n", 4) : NULL;
	struct slice rest;

	if (!end)
		return 0;
	if (answers_h1(wire))
		return 1;
	rest = slice_of(end + 4, (size_t)(wire.at + wire.len - end) - 4);
	while (rest.len >= 2 && rest.at[0] != 0x88) {
		size_t n = 2 + (size_t)rest.at[1];
		if (n > rest.len)
			return 0;
		rest = slice_of(rest.at + n, rest.len - n);
	}
	return rest.len >= 2;
}

/* ---- one run ---- */

static struct answering a;
static bool warm; /* what the libraries keep they have by now */

/* Answered, or at an end: nobody waits in vain. */
static bool served(const struct trial *x, const struct rig_client *k)
{
	return x->answers(slice_of(buf_at(&k->outbox), buf_len(&k->outbox))) >= x->wanted || k->shut || k->cut;
}

static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 128; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void converse(const struct trial *x)
{
	enum { SOON_MS = 150, TIMES = 4 };
	struct rig_client *k = rig_connect(&a.rig);

	if (!k)
		return; /* it does not listen */
	rig_client(k, x->first.at, x->first.len);
	answering_turn(&a);
	rig_client(k, x->then.at, x->then.len);
	answering_turn(&a);
	for (unsigned i = 0; i < TIMES; i++) { /* who could not be accepted is tried again */
		rig_pass_time(&a.rig, SOON_MS);
		answering_turn(&a);
	}
	if (!served(x, k) && a.rig.server.state != SERVER_STOPPED)
		fail_msg("%s: left waiting when call %lu of kind %d fails with %s: %.*s", x->name, fault.at, fault.call,
			 strerror(fault.error), (int)buf_len(&k->outbox), (const char *)buf_at(&k->outbox));
}

static void run(const struct trial *x)
{
	unsigned before = descriptors();
	long alive = living;

	memset(fault.count, 0, sizeof fault.count);
	answering_begin(&a, x->way);
	a.compress = x->compress;
	answering_hello(&a);
	converse(x);
	answering_stop(&a);
	if (warm && (living != alive || descriptors() != before))
		fail_msg("%s: %ld allocations and %d descriptors are left when call %lu of kind %d fails with %s", x->name,
			 living - alive, (int)(descriptors() - before), fault.at, fault.call, strerror(fault.error));
}

static void set_fault(enum call call, unsigned long at, int error)
{
	fault.call = call;
	fault.at = at;
	fault.error = error;
}

/* Each call of this kind fails in turn, until a run has fewer. */
static void each(const struct trial *x, enum call call, int error)
{
	unsigned long n = 0;

	do {
		set_fault(call, ++n, error);
		run(x);
	} while (fault.count[call] >= n);
	set_fault(call, 0, 0);
}

static void each_exchange(enum call call, int error)
{
	for (unsigned i = 0; i < EXCHANGES; i++)
		each(&exchanges[i], call, error);
}

/* ---- the tests ---- */

static void test_no_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < EXCHANGES; i++) {
		run(&exchanges[i]);
		for (enum call call = CALL_MEMORY; call < CALLS; call++)
			assert_true(fault.count[call] > 0);
	}
}

static void test_memory(void **state)
{
	(void)state;
	each_exchange(CALL_MEMORY, ENOMEM);
}

/* No memory at all from some moment on. */
static void test_no_more_memory(void **state)
{
	(void)state;
	fault.and_all_after = true;
	each_exchange(CALL_MEMORY, ENOMEM);
	fault.and_all_after = false;
}

static void test_one_byte(void **state)
{
	(void)state;
	fault.and_all_after = true;
	for (unsigned i = 0; i < EXCHANGES; i++) {
		set_fault(CALL_READ, 1, 0);
		run(&exchanges[i]);
		set_fault(CALL_WRITE, 1, 0);
		run(&exchanges[i]);
	}
	fault.and_all_after = false;
	each_exchange(CALL_READ, 0);
	each_exchange(CALL_WRITE, 0);
}

static void test_read(void **state)
{
	static const int errors[] = {EAGAIN, EINTR, ECONNRESET, ETIMEDOUT, ENOMEM};

	(void)state;
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
		each_exchange(CALL_READ, errors[i]);
}

static void test_write(void **state)
{
	static const int errors[] = {EAGAIN, EINTR, EPIPE, ECONNRESET, ENOMEM, ENOBUFS};

	(void)state;
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
		each_exchange(CALL_WRITE, errors[i]);
}

static void test_accept(void **state)
{
	static const int errors[] = {EAGAIN, EINTR, ECONNABORTED, EMFILE, ENFILE, ENOMEM, ENOBUFS, EPROTO};

	(void)state;
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
		each_exchange(CALL_ACCEPT, errors[i]);
}

static void test_other_calls(void **state)
{
	(void)state;
	each_exchange(CALL_OTHER, EMFILE);
	each_exchange(CALL_OTHER, ENOMEM);
}

/* More to say than the reserve holds, and nothing to say it with: the port gives the host up, rather than be silent. */
static void test_a_lost_message_is_the_end(void **state)
{
	struct buf many = {0};

	(void)state;
	answering_start(&a, ANSWER_READ);
	for (unsigned i = 0; i < 2000; i++)
		notation_pack(&many, "[STATS, 1]");
	memset(fault.count, 0, sizeof fault.count);
	fault.and_all_after = true;
	set_fault(CALL_MEMORY, 1, ENOMEM);
	rig_frame(&a.rig, buf_at(&many), buf_len(&many));
	rig_pass_time(&a.rig, 1000);
	assert_int_equal(a.rig.server.state, SERVER_STOPPED);
	set_fault(CALL_MEMORY, 0, 0);
	fault.and_all_after = false;
	answering_stop(&a);
	buf_free(&many);
}

int main(void)
{
	static char address[64];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_fault),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_no_more_memory),
		cmocka_unit_test(test_one_byte),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_other_calls),
		cmocka_unit_test(test_a_lost_message_is_the_end),
	};

	snprintf(address, sizeof address, "unix:/tmp/sparx-fault-%d", (int)getpid());
	rig_sockets = (struct rig_sockets){address, around};
	ev_set_allocator(for_libev);
	for (unsigned i = 0; i < EXCHANGES; i++)
		run(&exchanges[i]);
	warm = true;
	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
