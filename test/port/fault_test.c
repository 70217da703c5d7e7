/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults: an exchange of each protocol, over real sockets and pipes, again and again, with the n-th allocation or the n-th
 * system call failing, for every n. Nothing may crash or leak, and no client may be left waiting: each request is answered or
 * its connection ends. (rig.c checks the host's messages, the bridge's sums, and that nothing remains at the end.)
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <ev.h>
#include <gnutls/gnutls.h>
#include <link.h>

#include "fuzz/parts/answering.h"
#ifdef SPARX_HTTP3
#include "quic_fixture.h"
#endif
#include "support.h"
#include "tls_fixture.h"

/* ---- the faults ---- */

enum call { CALL_MEMORY, CALL_READ, CALL_WRITE, CALL_ACCEPT, CALL_OTHER, CALL_PACKETS_IN, CALL_PACKETS_OUT, CALLS };

static struct {
	bool port_runs;
	enum call call;
	unsigned long at;   /* the number of the call that fails; 0: none does */
	bool and_all_after; /* and all that follow it */
	bool rests;         /* no call fails now */
	int error;          /* errno; 0: one byte is moved */
	bool trickles;      /* sockets accept few bytes at a time */
	bool one_clock;     /* the port's clock is the clients' too */
	unsigned long count[CALLS];
} fault;

/* Counts the call; true: it is to fail. */
static bool fails(enum call call)
{
	unsigned long n;

	if (!fault.port_runs || fault.rests)
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

/* ---- memory, also the libraries' ---- */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *at, size_t n);
void __libc_free(void *at);
void *__interceptor_malloc(size_t n) __attribute__((weak));
void *__interceptor_calloc(size_t count, size_t n) __attribute__((weak));
void *__interceptor_realloc(void *at, size_t n) __attribute__((weak));
void __interceptor_free(void *at) __attribute__((weak));

static long living; /* allocations */

/*
 * The libraries below GnuTLS: numbers, curves, ASN.1. They do not check for NULL, and crash; so they always get memory here.
 * GnuTLS itself is tested.
 */
static struct {
	uintptr_t from, to;
} careless[8];
static unsigned careless_count;

static int find_careless(struct dl_phdr_info *info, size_t size, void *ctx)
{
	static const char *const names[] = {"libtasn1", "libgmp", "libhogweed", "libnettle"};

	(void)size;
	(void)ctx;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		if (!strstr(info->dlpi_name, names[i]))
			continue;
		careless[careless_count].from = info->dlpi_addr;
		for (unsigned h = 0; h < info->dlpi_phnum; h++) {
			uintptr_t end = info->dlpi_addr + info->dlpi_phdr[h].p_vaddr + info->dlpi_phdr[h].p_memsz;
			if (end > careless[careless_count].to)
				careless[careless_count].to = end;
		}
		careless_count++;
	}
	return 0;
}

static bool no_memory_for(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;

	for (unsigned i = 0; i < careless_count; i++)
		if (at >= careless[i].from && at < careless[i].to)
			return false;
	return fails(CALL_MEMORY);
}

void *malloc(size_t n)
{
	void *at = no_memory_for(__builtin_return_address(0)) ? NULL
		   : __interceptor_malloc                     ? __interceptor_malloc(n)
							      : __libc_malloc(n);

	living += at != NULL;
	return at;
}

void *calloc(size_t count, size_t n)
{
	void *at = no_memory_for(__builtin_return_address(0)) ? NULL
		   : __interceptor_calloc                     ? __interceptor_calloc(count, n)
							      : __libc_calloc(count, n);

	living += at != NULL;
	return at;
}

void *realloc(void *was, size_t n)
{
	void *at = no_memory_for(__builtin_return_address(0)) ? NULL
		   : __interceptor_realloc                    ? __interceptor_realloc(was, n)
							      : __libc_realloc(was, n);

	living += !was && at;
	return at;
}

/* GnuTLS itself leaks when it gets no memory; we cannot mend that. The leak sanitizer reads this. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libgnutls.so\n";
}

/* The sanitizer's own allocations do not pass here. */
char *strdup(const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy = malloc(n);

	return copy ? memcpy(copy, text, n) : NULL;
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

static bool is_socket(int fd)
{
	struct stat s;

	return fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode);
}

/* Part of the first vector; every second time nothing. */
static ssize_t trickle(int fd, const struct iovec *iov)
{
	enum { MOST = 5000 };
	static bool nothing;

	nothing = !nothing;
	if (!nothing)
		return __real_write(fd, iov[0].iov_base, iov[0].iov_len < MOST ? iov[0].iov_len : MOST);
	errno = EAGAIN;
	return -1;
}

WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int count))
{
	bool one;

	if (short_by_one(CALL_WRITE, &one))
		return -1;
	if (fault.trickles && fault.port_runs && is_socket(fd))
		return trickle(fd, iov);
	return one ? __real_write(fd, iov[0].iov_base, 1) : __real_writev(fd, iov, count);
}

WRAP(ssize_t, platform_read_cached, (int fd, void *to, size_t n, uint64_t offset))
{
	bool one;

	return short_by_one(CALL_READ, &one) ? -1 : __real_platform_read_cached(fd, to, one ? 1 : n, offset);
}

WRAP(ssize_t, platform_sendfile, (int to, int fd, uint64_t offset, size_t n))
{
	bool one;

	return short_by_one(CALL_WRITE, &one) ? -1 : __real_platform_sendfile(to, fd, offset, one ? 1 : n);
}

WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags))
{
	return fails(CALL_OTHER) && fault.error ? -1 : __real_recvmsg(fd, m, flags);
}

/* Packets that have arrived: all, or one. */
WRAP(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *wait))
{
	bool one;

	return short_by_one(CALL_PACKETS_IN, &one) ? -1 : __real_recvmmsg(fd, m, one ? 1 : n, flags, wait);
}

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags))
{
	return fails(CALL_PACKETS_OUT) && fault.error ? -1 : __real_sendmsg(fd, m, flags);
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
	if (!fault.port_runs && !fault.one_clock)
		return __real_clock_gettime(clock, t);
	*t = (struct timespec){.tv_sec = (time_t)(rig_clock_us / 1000000), .tv_nsec = (long)(rig_clock_us % 1000000 * 1000)};
	return 0;
}

/* ---- the exchanges ---- */

static unsigned answers_h1(struct slice wire);
static unsigned answers_h2(struct slice wire);
static unsigned answers_socket(struct slice wire);
static unsigned answers_tls(struct slice wire);
static unsigned answers_h3(struct slice seen);

#define SOCKET_HEAD \
	"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define H2_START "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define H2_GET(id) "\0\0\6\1\5\0\0\0" id "\x82\x84\x86\x41\1a"
#define H2_CODED(id) "\0\0\7\1\5\0\0\0" id "\x82\x84\x86\x90\x41\1a" /* accept-encoding: gzip, deflate */
#define H2_POST(id) "\0\0\6\1\4\0\0\0" id "\x83\x84\x86\x41\1a\0\0\5\0\1\0\0\0" id "hello"
#define H2_TRAILERS(id) "\0\0\6\1\4\0\0\0" id "\x83\x84\x86\x41\1a\0\0\5\0\0\0\0\0" id "hello\0\0\5\1\5\0\0\0" id "\x40\1x\1y"

/* "hello" */
#define GZIP_BEGINS "\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03\xcb\x48\xcd"
#define GZIP_ENDS "\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00"

struct trial {
	const char *name;
	struct slice first, then; /* what the client sends; then: after the answer */
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
	{"http/1 coded", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"),
	 SLICE_LIT("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_READ,
	 true, answers_h1, 3},
	{"http/1 coded stream",
	 SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello"),
	 SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"), ANSWER_STREAM, true, answers_h1, 2},
	{"http/2 coded", SLICE_LIT(H2_START H2_CODED("\1") H2_GET("\3")), SLICE_LIT(H2_CODED("\5")), ANSWER_STREAM, true,
	 answers_h2, 3},
	{"http/1 decoded",
	 SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n" GZIP_BEGINS),
	 SLICE_LIT(GZIP_ENDS "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip, br\r\nContent-Length: 2\r\n\r\nab"),
	 ANSWER_READ, false, answers_h1, 2},
	{"http/1 decoded twice, with trailers",
	 SLICE_LIT("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip, gzip\r\nTransfer-Encoding: "
		   "chunked\r\n\r\n19\r\n" GZIP_BEGINS),
	 SLICE_LIT(GZIP_ENDS "\r\n0\r\nx: y\r\n\r\n"), ANSWER_STREAM, false, answers_h1, 1},
	{"http/1 file", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"),
	 SLICE_LIT("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_FILE, false, answers_h1, 3},
	{"http/2 file", SLICE_LIT(H2_START H2_GET("\1") H2_GET("\3")), SLICE_LIT(H2_GET("\5")), ANSWER_FILE, false, answers_h2, 3},
	{"http/1 file coded", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"),
	 SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"), ANSWER_FILE, true, answers_h1, 2},
	{"websocket", SLICE_LIT(SOCKET_HEAD "\r\n\x81\x85\0\0\0\0hello\x89\x81\0\0\0\0p"),
	 SLICE_LIT("\1\x82\0\0\0\0he\x80\x83\0\0\0\0llo\x88\x82\0\0\0\0\x03\xe8"), ANSWER_SOCKET, false, answers_socket, 1},
	{"websocket deflate",
	 SLICE_LIT(SOCKET_HEAD "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
			       "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"),
	 SLICE_LIT("\x41\x83\0\0\0\0\xf2\x48\xcd\x80\x84\0\0\0\0\xc9\xc9\x07\x00\x88\x80\0\0\0\0"), ANSWER_SOCKET, true,
	 answers_socket, 1},
	{"tls", SLICE_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
	 SLICE_LIT("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER_READ, false, answers_tls, 3},
#ifdef SPARX_HTTP3
	/* two requests, one with a body */
	{"http/3", SLICE_LIT(""), SLICE_LIT("hello"), ANSWER_READ, false, answers_h3, 2},
	{"http/3 stream", SLICE_LIT(""), SLICE_LIT("hello"), ANSWER_STREAM, true, answers_h3, 2},
	{"http/3 file", SLICE_LIT(""), SLICE_LIT("hello"), ANSWER_FILE, false, answers_h3, 2},
#endif
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

/* HTTP/1 over TLS. */
static unsigned answers_tls(struct slice wire)
{
	return answers_h1(wire);
}

/* Ends of streams, of either kind, that the HTTP/3 client has seen. */
static unsigned answers_h3(struct slice seen)
{
	unsigned count = 0;

	for (size_t i = 0; i + 4 <= seen.len; i++)
		count += memcmp(seen.at + i, " end", 4) == 0 || memcmp(seen.at + i, " res", 4) == 0;
	return count;
}

static bool is_http3(const struct trial *x)
{
	return x->answers == answers_h3;
}

static bool is_secure(const struct trial *x)
{
	return x->answers == answers_tls || is_http3(x);
}

/* ---- one run ---- */

static struct answering a;
static char unix_address[64];
static struct buf tls_given; /* the listener's `tls` */
static bool warm;            /* by now the libraries have allocated what they keep */

/* ---- a client of TLS ---- */

static struct {
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
	struct rig_client *k;
	struct buf plain; /* what it got */
	bool shaken, over;
} tls;

static ssize_t tls_pull(gnutls_transport_ptr_t ctx, void *bytes, size_t n)
{
	struct buf *from = &tls.k->outbox;

	n = n < buf_len(from) ? n : buf_len(from);
	if (n == 0 && !tls.k->shut) {
		gnutls_transport_set_errno(tls.session, EAGAIN);
		return -1;
	}
	(void)ctx;
	if (n)
		memcpy(bytes, buf_at(from), n);
	buf_consume(from, n);
	return (ssize_t)n;
}

static ssize_t tls_push(gnutls_transport_ptr_t ctx, const void *bytes, size_t n)
{
	(void)ctx;
	rig_client(tls.k, bytes, n);
	return (ssize_t)n;
}

static void tls_begin(struct rig_client *k)
{
	tls.k = k;
	tls.shaken = tls.over = false;
	gnutls_certificate_allocate_credentials(&tls.credentials);
	gnutls_init(&tls.session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(tls.session);
	gnutls_credentials_set(tls.session, GNUTLS_CRD_CERTIFICATE, tls.credentials);
	gnutls_transport_set_pull_function(tls.session, tls_pull);
	gnutls_transport_set_push_function(tls.session, tls_push);
}

static void tls_end(void)
{
	if (tls.session) {
		gnutls_deinit(tls.session);
		gnutls_certificate_free_credentials(tls.credentials);
	}
	tls.session = NULL;
	buf_free(&tls.plain);
}

/* Reads what has arrived, and continues the handshake. */
static void tls_moves(void)
{
	char bytes[4096];
	ssize_t n = 0;

	if (!tls.shaken && !tls.over) {
		n = gnutls_handshake(tls.session);
		tls.shaken = n == 0;
	}
	while (tls.shaken && !tls.over && (n = gnutls_record_recv(tls.session, bytes, sizeof bytes)) > 0)
		buf_append(&tls.plain, bytes, (size_t)n);
	tls.over = tls.over || (n < 0 && gnutls_error_is_fatal((int)n)) || (tls.shaken && n == 0);
}

static void client_says(struct rig_client *k, struct slice text)
{
	if (!tls.session)
		rig_client(k, text.at, text.len);
	else if (tls.shaken && !tls.over && text.len)
		gnutls_record_send(tls.session, text.at, text.len);
}

static void turn(void)
{
	answering_turn(&a);
	if (tls.session) {
		tls_moves();
		answering_turn(&a);
		tls_moves();
	}
}

/* Answered or ended: nobody waits in vain. */
static bool served(const struct trial *x, const struct rig_client *k)
{
	const struct buf *got = tls.session ? &tls.plain : &k->outbox;

	return x->answers(slice_of(buf_at(got), buf_len(got))) >= x->wanted || k->shut || k->cut;
}

static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 128; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* ---- a client of HTTP/3 ---- */

#ifdef SPARX_HTTP3

enum { H3_SOON = 20, H3_LATER = 60, H3_ROUNDS = 90, H3_SOON_MS = 25, H3_LATER_MS = 250, H3_LAST_MS = 1500 };

static bool h3_is_served(const struct trial *x, struct quic_client *c)
{
	return c->over || a.rig.server.state == SERVER_STOPPED || answers_h3(slice_str(text_str(&c->seen))) >= x->wanted;
}

static void h3_asks(const struct trial *x, struct quic_client *c)
{
	static struct slice body;

	body = x->then;
	quic_client_gets(c, "/");
	quic_client_posts(c, "/", &body);
}

/* Packets may be lost; so time passes, and they are resent. */
static void converse_h3(const struct trial *x)
{
	struct quic_client c;
	bool asked = false;

	if (!a.rig.server.quic[0] || a.rig.server.state == SERVER_STOPPED)
		return; /* it does not listen */
	fault.one_clock = true;
	fault.rests = x->way != ANSWER_READ; /* the handshake of the first one */
	quic_client_init_at(&c, ntohs(a.rig.server.quic[0]->local.v4.sin_port));
	quic_client_begin(&c);
	for (unsigned i = 0; i < H3_ROUNDS && !h3_is_served(x, &c); i++) {
		bool read = quic_client_goes_on(&c);
		if (c.shaken && !c.over && !asked) {
			asked = true;
			fault.rests = false;
			h3_asks(x, &c);
			quic_client_goes_on(&c);
		}
		answering_turn(&a);
		if (!read)
			rig_pass_time(&a.rig, i < H3_SOON ? H3_SOON_MS : i < H3_LATER ? H3_LATER_MS : H3_LAST_MS);
	}
	/* without memory for a client, the server has forgotten it */
	if (!h3_is_served(x, &c) && !(fault.call == CALL_MEMORY && fault.and_all_after && a.rig.server.pool.open == 0))
		fail_msg("%s: left waiting when call %lu of kind %d fails with %s: %s", x->name, fault.at, fault.call,
			 strerror(fault.error), text_str(&c.seen));
	quic_client_free(&c);
	fault.one_clock = false;
	fault.rests = false;
}

#else

static void converse_h3(const struct trial *x)
{
	(void)x;
}

#endif

static void converse(const struct trial *x)
{
	enum { SOON_MS = 150, TIMES = 4 };
	struct rig_client *k = rig_connect(&a.rig);

	if (!k)
		return; /* it does not listen */
	if (is_secure(x)) {
		tls_begin(k);
		for (unsigned i = 0; i < TIMES; i++) {
			tls_moves();
			rig_pass_time(&a.rig, SOON_MS);
			turn();
		}
	}
	client_says(k, x->first);
	turn();
	client_says(k, x->then);
	turn();
	for (unsigned i = 0; i < TIMES; i++) { /* a connection that could not be accepted is tried again */
		rig_pass_time(&a.rig, SOON_MS);
		turn();
	}
	if (is_secure(x) && !tls.shaken && a.rig.server.state != SERVER_STOPPED && !k->shut &&
	    !k->cut) /* its handshake has a deadline */
		rig_pass_time(&a.rig, a.rig.config.handshake_timeout);
	turn();
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
	a.decode = strstr(x->name, "decoded") != NULL;
	if (x->way == ANSWER_FILE) /* three fit the window of an HTTP/2 client; one arrives soon even byte by byte */
		a.size = fault.and_all_after ? 2000 : x->answers == answers_h2 ? 20000 : 70000;
	if (is_secure(x))
		rig_tls = slice_of(buf_at(&tls_given), buf_len(&tls_given));
	fault.rests = is_secure(x); /* GnuTLS crashes if it gets no memory while it reads a certificate */
	rig_http3 = is_http3(x);
	rig_sockets.address = is_http3(x) ? "127.0.0.1" : unix_address;
	answering_hello(&a);
	fault.rests = rig_http3 = false;
	rig_tls = (struct slice){0};
	if (is_http3(x))
		converse_h3(x);
	else
		converse(x);
	tls_end();
	answering_stop(&a);
	rig_sockets.address = unix_address;
	if (is_secure(x) && fault.call == CALL_MEMORY && fault.at)
		alive = living; /* a GnuTLS handshake that gets no memory leaks some */
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

/* Makes each call of this kind fail in turn, until a run has fewer calls. */
static void each(const struct trial *x, enum call call, int error)
{
	unsigned long n = 0;

	do {
		n++;
		set_fault(call, n, error);
		run(x);
	} while (fault.count[call] >= n);
	set_fault(call, 0, 0);
}

static void each_exchange(enum call call, int error)
{
	for (unsigned i = 0; i < EXCHANGES; i++)
		each(&exchanges[i], call, error);
}

/* ---- a client that checks every byte ---- */

enum { LARGE = 60000 };

static void expect_body(struct slice body, uint8_t letter, bool whole)
{
	if (body.len > LARGE || (whole && body.len != LARGE))
		fail_msg("%c: %zu octets when call %lu of kind %d fails", letter, body.len, fault.at, fault.call);
	for (size_t i = 0; i < body.len; i++)
		if (body.at[i] != answering_octet(letter, i))
			fail_msg("%c: something else at %zu when call %lu of kind %d fails", letter, i, fault.at, fault.call);
}

static void pass(struct slice *in, size_t n)
{
	assert_true(n <= in->len);
	*in = slice_of(in->at + n, in->len - n);
}

/* The line without its CRLF. False: it is incomplete. */
static bool take_line(struct slice *in, struct slice *line)
{
	const uint8_t *end = in->len ? memmem(in->at, in->len, "\r\n", 2) : NULL;

	if (!end)
		return false;
	*line = slice_of(in->at, (size_t)(end - in->at));
	pass(in, line->len + 2);
	return true;
}

static bool begins(struct slice line, const char *with)
{
	return line.len >= strlen(with) && memcmp(line.at, with, strlen(with)) == 0;
}

struct answer {
	unsigned status;
	bool chunked, whole;
	size_t length;
	struct buf body;
};

static bool take_head(struct slice *in, struct answer *got)
{
	struct slice line;

	if (!take_line(in, &line))
		return false;
	if (!begins(line, "HTTP/1.1 "))
		fail_msg("no answer, but %.*s when call %lu of kind %d fails", (int)line.len, (const char *)line.at, fault.at,
			 fault.call);
	got->status = (unsigned)strtoul((const char *)line.at + 9, NULL, 10);
	while (take_line(in, &line)) {
		if (line.len == 0)
			return true;
		got->chunked |= begins(line, "Transfer-Encoding: chunked");
		if (begins(line, "Content-Length: "))
			got->length = strtoul((const char *)line.at + 16, NULL, 10);
	}
	return false;
}

static void take_bytes(struct slice *in, size_t n, struct buf *body)
{
	n = n < in->len ? n : in->len;
	assert_true(n == 0 || buf_append(body, in->at, n));
	pass(in, n);
}

/* False: it is incomplete. */
static bool take_chunks(struct slice *in, struct buf *body)
{
	struct slice line, size;
	char *end;

	for (;;) {
		size_t n, had = buf_len(body);
		if (!take_line(in, &size))
			return false;
		n = strtoul((const char *)size.at, &end, 16);
		if ((const uint8_t *)end != size.at + size.len || size.len == 0)
			fail_msg("no chunk when call %lu of kind %d fails", fault.at, fault.call);
		if (n == 0)
			break;
		take_bytes(in, n, body);
		if (buf_len(body) - had < n || in->len < 2)
			return false;
		assert_memory_equal(in->at, "\r\n", 2);
		pass(in, 2);
	}
	if (!take_line(in, &line))
		return false;
	assert_true(line.len == 0 || begins(line, "x-t: 1"));
	return line.len == 0 || (take_line(in, &line) && line.len == 0);
}

static bool take_body(struct slice *in, struct answer *got)
{
	if (got->chunked)
		return take_chunks(in, &got->body);
	take_bytes(in, got->length, &got->body);
	return buf_len(&got->body) == got->length;
}

/* Each answer belongs to its request and is complete, except the last one if the connection has ended. */
static void look_at_h1(struct slice wire, const char *letters, bool ended)
{
	for (; wire.len; letters++) {
		struct answer got = {0};
		if (take_head(&wire, &got))
			got.whole = take_body(&wire, &got);
		assert_true(*letters);
		if (got.status == 200)
			expect_body(slice_of(buf_at(&got.body), buf_len(&got.body)), (uint8_t)*letters, got.whole);
		if (!got.whole)
			assert_true(ended && wire.len == 0);
		buf_free(&got.body);
	}
}

/* Each stream that ended properly has the answer to its request, and every byte belongs to a frame. */
static void look_at_h2(struct slice wire, const char *letters, bool ended)
{
	enum { HEAD = 9, DATA = 0, HEADERS = 1, LAST_TYPE = 9, STATUS_200 = 0x88, STREAMS = 8, ID = 5, LENGTH_MAX = 16384 };
	struct answer answers[STREAMS] = {0};

	while (wire.len >= HEAD) {
		size_t n = (size_t)wire.at[0] << 16 | (size_t)wire.at[1] << 8 | wire.at[2], id = wire.at[ID + 3];
		struct answer *got = &answers[id / 2 % STREAMS];
		struct slice payload = slice_of(wire.at + HEAD, n < wire.len - HEAD ? n : wire.len - HEAD);
		if (n > LENGTH_MAX || wire.at[3] > LAST_TYPE || wire.at[ID] || wire.at[ID + 1] || wire.at[ID + 2] ||
		    id / 2 >= STREAMS)
			fail_msg("no frame when call %lu of kind %d fails", fault.at, fault.call);
		if (wire.at[3] == HEADERS && payload.len && !got->status)
			got->status = payload.at[0] == STATUS_200 ? 200 : 500;
		if (wire.at[3] == DATA && payload.len)
			assert_true(buf_append(&got->body, payload.at, payload.len));
		if (wire.at[3] <= HEADERS && (wire.at[4] & 1) && payload.len == n)
			got->whole = true;
		pass(&wire, HEAD + payload.len);
		assert_true(payload.len == n || ended);
	}
	assert_true(wire.len == 0 || ended);
	for (unsigned i = 0; i < STREAMS; i++) {
		if (answers[i].status == 200)
			expect_body(slice_of(buf_at(&answers[i].body), buf_len(&answers[i].body)), (uint8_t)letters[i],
				    answers[i].whole);
		buf_free(&answers[i].body);
	}
}

struct talk {
	const char *name;
	struct slice says;
	const char *letters; /* the end of its requests' paths */
	enum answering_way way;
	void (*look)(struct slice wire, const char *letters, bool ended);
};

#define GETS \
	"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nTE: " \
	"trailers\r\n\r\n"
#define H2_WIDE "\0\0\4\x8\0\0\0\0\0\0\x10\0\0"
#define H2_ASK(id, path) "\0\0\x9\1\5\0\0\0" id "\x82\4\2/" path "\x86\x41\1a"
#define H2_ASKS H2_START H2_WIDE H2_ASK("\1", "a") H2_ASK("\3", "b") H2_ASK("\5", "c")

#define FILES "GET /f HTTP/1.1\r\nHost: a\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\n\r\n"
#define H2_FILES H2_START H2_WIDE H2_ASK("\1", "f") H2_ASK("\3", "f") H2_ASK("\5", "f")

static const struct talk talks[] = {
	{"http/1 whole", SLICE_LIT(GETS), "abc", ANSWER_READ, look_at_h1},
	{"http/1 streamed", SLICE_LIT(GETS), "abc", ANSWER_STREAM, look_at_h1},
	{"http/2 whole", SLICE_LIT(H2_ASKS), "abc", ANSWER_READ, look_at_h2},
	{"http/2 streamed", SLICE_LIT(H2_ASKS), "abc", ANSWER_STREAM, look_at_h2},
	{"http/1 file", SLICE_LIT(FILES), "fff", ANSWER_FILE, look_at_h1},
	{"http/2 file", SLICE_LIT(H2_FILES), "fff", ANSWER_FILE, look_at_h2},
};

static void run_talk(const struct talk *t)
{
	struct rig_client *k;

	memset(fault.count, 0, sizeof fault.count);
	answering_begin(&a, t->way);
	a.size = LARGE;
	answering_hello(&a);
	k = rig_connect(&a.rig);
	if (k) {
		rig_client(k, t->says.at, t->says.len);
		answering_turn(&a);
		rig_pass_time(&a.rig, 150);
		answering_turn(&a);
		t->look(slice_of(buf_at(&k->outbox), buf_len(&k->outbox)), t->letters, k->cut || k->shut);
		if (fault.at == 0)
			assert_true(buf_len(&k->outbox) > 3 * LARGE);
	}
	answering_stop(&a);
}

/* ---- the tests ---- */

/* Whether an exchange needs it. */
static bool is_called(const struct trial *x, enum call call)
{
	switch (call) {
	case CALL_ACCEPT:
		return !is_http3(x);
	case CALL_PACKETS_IN:
	case CALL_PACKETS_OUT:
		return is_http3(x);
	case CALL_OTHER:
		return !is_secure(x);
	default:
		return true;
	}
}

static void test_no_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < EXCHANGES; i++) {
		run(&exchanges[i]);
		for (enum call call = CALL_MEMORY; call < CALLS; call++)
			assert_true(fault.count[call] > 0 || !is_called(&exchanges[i], call));
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

/* Packets that have not arrived yet, that cannot be sent, that are lost, or that the kernel does not split. */
static void test_packets(void **state)
{
	static const int in[] = {0, EAGAIN, EINTR, ENOMEM, ENOBUFS, ECONNREFUSED};
	static const int out[] = {EAGAIN, ENOBUFS, EINTR, EPERM, EMSGSIZE, EINVAL, EIO, ENOMEM, ENETUNREACH, ECONNREFUSED};

	(void)state;
	for (unsigned i = 0; i < sizeof in / sizeof *in; i++)
		each_exchange(CALL_PACKETS_IN, in[i]);
	for (unsigned i = 0; i < sizeof out / sizeof *out; i++)
		each_exchange(CALL_PACKETS_OUT, out[i]);
}

/* More messages than fit the reserve, and no memory: the port ends the connection to the host rather than lose messages. */
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

/*
 * Whatever memory is missing, a client never mistakes a part of an answer for the whole, or one answer for another. The sockets
 * accept few bytes, so that bodies are copied at the end of a turn.
 */
static void test_no_answer_is_taken_for_another(void **state)
{
	(void)state;
	fault.trickles = true;
	for (unsigned i = 0; i < sizeof talks / sizeof *talks; i++) {
		run_talk(&talks[i]);
		for (fault.and_all_after = false;; fault.and_all_after = true) {
			unsigned long n = 0;
			do {
				set_fault(CALL_MEMORY, ++n, ENOMEM);
				run_talk(&talks[i]);
			} while (fault.count[CALL_MEMORY] >= n);
			set_fault(CALL_MEMORY, 0, 0);
			if (fault.and_all_after)
				break;
		}
		fault.and_all_after = false;
	}
	fault.trickles = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_fault),       cmocka_unit_test(test_memory),
		cmocka_unit_test(test_no_more_memory), cmocka_unit_test(test_no_answer_is_taken_for_another),
		cmocka_unit_test(test_one_byte),       cmocka_unit_test(test_read),
		cmocka_unit_test(test_write),          cmocka_unit_test(test_accept),
		cmocka_unit_test(test_other_calls),    cmocka_unit_test(test_a_lost_message_is_the_end),
		cmocka_unit_test(test_packets),
	};

	snprintf(unix_address, sizeof unix_address, "unix:/tmp/sparx-fault-%d", (int)getpid());
	rig_sockets = (struct rig_sockets){unix_address, around};
	ev_set_allocator(for_libev);
	dl_iterate_phdr(find_careless, NULL);
	if (!tls_start())
		return 1;
	tls_given = tls_map("a-ec", NULL);
	for (unsigned i = 0; i < EXCHANGES; i++)
		run(&exchanges[i]);
	warm = true;
	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
