/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over a pair of sockets; the other end is the library's client. The bytes on the wire are checked too. */
#include "transport/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls_fixture.h"

enum { RECORDS = 4096, BULK = 400000 };

static uint64_t now = 5000;
static struct transport_tls shared = {.now = &now};
static const struct transport_ops *const ops = &transport_tls_ops;

/* The server's end. */
static int fd;
static void *state;
static struct io_result shaken; /* the result of its handshake */

/* The client's. */
static struct {
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
	int fd, result;          /* of its handshake: 1 while it goes on */
	struct text wire;        /* records that have arrived: heads and bodies */
	unsigned sizes[RECORDS]; /* of the records that arrived */
	unsigned count;
	const char *priority, *name;
	const char *alpn[2];
	unsigned flags;
	gnutls_datum_t ticket;
} client;

static ssize_t client_pull(gnutls_transport_ptr_t ctx, void *bytes, size_t n)
{
	ssize_t got = read(client.fd, bytes, n);

	(void)ctx;
	if (got > 0)
		text_add_bytes(&client.wire, bytes, (size_t)got);
	return got;
}

/* The sizes of the records that arrived. */
static void measure(void)
{
	struct buf *b = &client.wire.buf;

	client.count = 0;
	while (buf_len(b) >= 5 && client.count < RECORDS) {
		size_t n = 5 + ((size_t)buf_at(b)[3] << 8 | buf_at(b)[4]);
		if (buf_len(b) < n)
			break;
		client.sizes[client.count++] = (unsigned)n;
		buf_consume(b, n);
	}
}

static void connect_client(void)
{
	static const char everything[] = "NORMAL";
	gnutls_datum_t list[2];
	unsigned count = 0;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	fd = fds[0];
	client.fd = fds[1];
	state = transport_tls_open(&shared);
	shaken = io_again(IO_READ);
	client.result = 1;
	gnutls_init(&client.session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | client.flags);
	assert_int_equal(gnutls_priority_set_direct(client.session, client.priority ? client.priority : everything, NULL), 0);
	gnutls_credentials_set(client.session, GNUTLS_CRD_CERTIFICATE, client.credentials);
	if (client.name)
		gnutls_server_name_set(client.session, GNUTLS_NAME_DNS, client.name, strlen(client.name));
	for (unsigned i = 0; i < 2 && client.alpn[i]; i++)
		list[count++] = (gnutls_datum_t){(uint8_t *)(uintptr_t)client.alpn[i], (unsigned)strlen(client.alpn[i])};
	if (count)
		gnutls_alpn_set_protocols(client.session, list, count, 0);
	if (client.ticket.data)
		gnutls_session_set_data(client.session, client.ticket.data, client.ticket.size);
	gnutls_transport_set_int(client.session, client.fd);
	gnutls_transport_set_pull_function(client.session, client_pull);
}

static void shake(void)
{
	for (unsigned i = 0; i < 20 && (shaken.status == IO_AGAIN || client.result == 1); i++) {
		if (client.result == 1) {
			int r = gnutls_handshake(client.session);
			if (r == 0 || gnutls_error_is_fatal(r))
				client.result = r;
		}
		if (shaken.status == IO_AGAIN)
			shaken = ops->handshake(fd, state);
	}
}

static void begin(const char *name)
{
	client.name = name;
	connect_client();
	shake();
}

static void end(void)
{
	if (client.session)
		gnutls_deinit(client.session);
	client.session = NULL;
	if (client.fd >= 0)
		close(client.fd);
	client.fd = -1;
	if (state)
		ops->close(fd, state, false);
	state = NULL;
	text_clear(&client.wire);
}

static void serve(const char *certificates, const char *more)
{
	tls_store_drop(shared.store);
	shared.store = tls_store_of(certificates, more);
}

static int setup(void **s)
{
	(void)s;
	memset(&client, 0, sizeof client);
	client.fd = -1;
	assert_true(tls_start());
	gnutls_certificate_allocate_credentials(&client.credentials);
	shared = (struct transport_tls){.now = &now};
	serve("a-ec a-rsa wild ed b", NULL);
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	end();
	gnutls_free(client.ticket.data);
	gnutls_certificate_free_credentials(client.credentials);
	tls_store_drop(shared.store);
	text_free(&client.wire);
	return 0;
}

static void expect_open(void)
{
	if (client.result != 0)
		fail_msg("the client: %s", gnutls_strerror(client.result));
	assert_int_equal(shaken.status, IO_OK);
}

/* The client got the alert, and the server's handshake failed. */
static void expect_alert(gnutls_alert_description_t alert)
{
	assert_int_equal(shaken.status, IO_ERROR);
	assert_int_equal(shaken.error, EPROTO);
	assert_int_equal(client.result, GNUTLS_E_FATAL_ALERT_RECEIVED);
	assert_int_equal(gnutls_alert_get(client.session), alert);
}

/* The common name of the certificate that the client received. */
static const char *shown(void)
{
	static char text[64];
	unsigned count = 0;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(client.session, &count);
	gnutls_x509_crt_t crt;
	size_t size = sizeof text;

	assert_true(list && count == 1);
	gnutls_x509_crt_init(&crt);
	assert_int_equal(gnutls_x509_crt_import(crt, list, GNUTLS_X509_FMT_DER), 0);
	assert_int_equal(gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &size), 0);
	gnutls_x509_crt_deinit(crt);
	return text;
}

static struct io_result write_text(const char *text)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

	return ops->writev(fd, state, &iov, 1);
}

static void expect_client_reads(const char *text)
{
	char bytes[256];
	ssize_t n = GNUTLS_E_AGAIN;

	for (unsigned i = 0; i < 4 && n == GNUTLS_E_AGAIN; i++) /* a ticket may come before */
		n = gnutls_record_recv(client.session, bytes, sizeof bytes);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(bytes, text, (size_t)n);
}

static struct io_result read_some(char *bytes, size_t n)
{
	return ops->read(fd, state, bytes, n);
}

static void expect_read(const char *text)
{
	char bytes[256];
	struct io_result r = read_some(bytes, sizeof bytes);

	assert_int_equal(r.status, IO_OK);
	assert_int_equal(r.n, strlen(text));
	assert_memory_equal(bytes, text, r.n);
}

/* ---- handshakes ---- */

static void test_both_ends_speak(void **s)
{
	const struct secure *f;

	(void)s;
	client.alpn[0] = "http/1.1";
	client.alpn[1] = "h2";
	begin("A.Example");
	expect_open();
	f = ops->secure(state);
	assert_int_equal(f->version, 13);
	assert_int_equal(f->cipher, 0x1301);
	EXPECT_SLICE(f->sni, "a.example");
	EXPECT_SLICE(f->alpn, "h2");
	assert_false(f->resumed);
	assert_null(f->client.at);
	assert_int_equal(shared.handshakes, 1);
	assert_int_equal(gnutls_record_send(client.session, "hello", 5), 5);
	expect_read("hello");
	assert_int_equal(read_some((char[8]){0}, 8).status, IO_AGAIN);
	assert_int_equal(write_text("world").n, 5);
	expect_client_reads("world");
}

static void test_tls_1_2(void **s)
{
	(void)s;
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	begin("b.example");
	expect_open();
	assert_int_equal(ops->secure(state)->version, 12);
	assert_int_equal(ops->secure(state)->cipher, 0xc02b);
	assert_null(ops->secure(state)->alpn.at);
	assert_int_equal(gnutls_record_send(client.session, "hello", 5), 5);
	expect_read("hello");
}

static void test_old_versions_and_ciphers_are_refused(void **s)
{
	static const struct {
		const char *priority;
		gnutls_alert_description_t alert;
	} cases[] = {
		{"NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0:%COMPAT", GNUTLS_A_PROTOCOL_VERSION},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA:-CIPHER-ALL:+AES-128-GCM", GNUTLS_A_HANDSHAKE_FAILURE},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+DHE-RSA:-CIPHER-ALL:+AES-128-GCM", GNUTLS_A_HANDSHAKE_FAILURE},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:+AES-256-CBC", GNUTLS_A_HANDSHAKE_FAILURE},
	};

	(void)s;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		client.priority = cases[i].priority;
		begin("a.example");
		expect_alert(cases[i].alert);
		end();
	}
	serve("a-ec", "{'ciphers': 1}");
	client.priority = cases[3].priority;
	begin("a.example");
	expect_open();
	end();
	serve("a-ec", "{'min': 13}");
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	begin("a.example");
	expect_alert(GNUTLS_A_PROTOCOL_VERSION);
	assert_int_equal(shared.failed, 5);
}

static void test_each_name_has_its_certificate(void **s)
{
	static const struct {
		const char *name, *priority, *shown;
	} cases[] = {
		{"a.example", NULL, "a-ec"},
		{"A.EXAMPLE", NULL, "a-ec"},
		{"a.example", "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256", "a-rsa"},
		{"both.example", NULL, "a-ec"},
		{"x.wild.example", NULL, "wild"},
		{"X.WILD.example", NULL, "wild"},
		{"ed.example", NULL, "ed"},
		{"b.example", NULL, "b"},
		{NULL, NULL, "a-ec"},
		{"unknown.example", NULL, "a-ec"},
		{"wild.example", NULL, "a-ec"},
		{"x.y.wild.example", NULL, "a-ec"},
	};

	(void)s;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		client.priority = cases[i].priority;
		begin(cases[i].name);
		expect_open();
		assert_string_equal(shown(), cases[i].shown);
		end();
	}
	/* A client that cannot use the name's certificate does not get another one's. */
	client.priority = "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256";
	begin("b.example");
	assert_int_equal(shaken.status, IO_ERROR);
	assert_int_equal(client.result, GNUTLS_E_FATAL_ALERT_RECEIVED);
}

static void test_strict_names(void **s)
{
	(void)s;
	serve("a-ec", "{'strict_sni': true}");
	begin("a.example");
	expect_open();
	end();
	begin("b.example");
	expect_alert(GNUTLS_A_UNRECOGNIZED_NAME);
	end();
	begin(NULL);
	expect_alert(GNUTLS_A_UNRECOGNIZED_NAME);
}

static void test_no_protocol_in_common(void **s)
{
	(void)s;
	client.alpn[0] = "ftp";
	begin("a.example");
	expect_alert(GNUTLS_A_NO_APPLICATION_PROTOCOL);
}

static void test_a_second_hello_keeps_what_the_first_one_asked(void **s)
{
	(void)s;
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X448:+GROUP-SECP256R1";
	client.flags = GNUTLS_KEY_SHARE_TOP;
	client.alpn[0] = "h2";
	begin("b.example");
	expect_open();
	EXPECT_SLICE(ops->secure(state)->alpn, "h2");
	assert_string_equal(shown(), "b");
}

static void test_a_hello_byte_by_byte(void **s)
{
	uint8_t bytes[4096];
	ssize_t n;
	int fds[2], ours;

	(void)s;
	client.name = "a.example";
	connect_client();
	gnutls_handshake(client.session);
	n = recv(fd, bytes, sizeof bytes, 0); /* it was for the server */
	assert_true(n > 100);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	ours = fd;
	fd = fds[0];
	for (ssize_t i = 0; i < n; i++) {
		shaken = ops->handshake(fd, state);
		assert_int_equal(shaken.status, IO_AGAIN);
		assert_int_equal(shaken.until, IO_READ);
		assert_int_equal(write(fds[1], bytes + i, 1), 1);
	}
	assert_int_equal(ops->handshake(fd, state).status, IO_AGAIN);
	assert_true(recv(fds[1], bytes, sizeof bytes, MSG_PEEK) > 500); /* the whole flight, at once */
	close(fds[1]);
	close(ours);
}

static void test_plain_http_is_answered_in_plain_text(void **s)
{
	char bytes[512] = {0};

	(void)s;
	connect_client();
	assert_true(write(client.fd, "GET / HTTP/1.1\r\n\r\n", 18) == 18);
	shaken = ops->handshake(fd, state);
	assert_int_equal(shaken.error, EPROTO);
	assert_true(read(client.fd, bytes, sizeof bytes - 1) > 0);
	assert_non_null(strstr(bytes, "HTTP/1.1 400 Bad Request\r\n"));
	assert_non_null(strstr(bytes, "Content-Length: 48\r\n"));
	assert_int_equal(strlen(strstr(bytes, "\r\n\r\n") + 4), 48);
	assert_int_equal(ops->shutdown(fd, state).status, IO_OK);
	assert_int_equal(read(client.fd, bytes, sizeof bytes), 0); /* and nothing that resembles TLS */
}

static void test_garbage_gets_an_alert(void **s)
{
	static const struct slice garbage[] = {
		SLICE_LIT("\x80\x2e\x01\x03\x01"),
		SLICE_LIT("\x16\x03\x01\0\0"),
		SLICE_LIT("\x17\x03\x03\0\5hello"),
		SLICE_LIT("\0\0\0\0\0\0\0\0"),
	};
	uint8_t bytes[64];

	(void)s;
	for (unsigned i = 0; i < sizeof garbage / sizeof *garbage; i++) {
		connect_client();
		assert_int_equal(write(client.fd, garbage[i].at, garbage[i].len), garbage[i].len);
		shaken = ops->handshake(fd, state);
		if (shaken.status == IO_AGAIN) { /* the library waits for the rest of a record */
			shutdown(client.fd, SHUT_WR);
			shaken = ops->handshake(fd, state);
			assert_int_not_equal(shaken.status, IO_OK);
		} else {
			assert_int_equal(shaken.error, EPROTO);
			assert_int_equal(read(client.fd, bytes, sizeof bytes), 7);
			assert_int_equal(bytes[0], 21);
		}
		end();
	}
}

static void test_a_client_that_leaves_in_between(void **s)
{
	(void)s;
	connect_client();
	gnutls_handshake(client.session);
	assert_int_equal(ops->handshake(fd, state).status, IO_AGAIN);
	close(client.fd);
	client.fd = -1;
	assert_int_not_equal(ops->handshake(fd, state).status, IO_OK);
}

/* ---- tickets ---- */

/* A session with this name, and then another one with its ticket: true if that one was resumed. */
static bool resumes(const char *name, const char *again)
{
	bool resumed;

	begin(name);
	expect_open();
	write_text("x");
	expect_client_reads("x"); /* the ticket came before */
	gnutls_free(client.ticket.data);
	assert_int_equal(gnutls_session_get_data2(client.session, &client.ticket), 0);
	end();
	begin(again);
	expect_open();
	resumed = ops->secure(state)->resumed;
	assert_int_equal(gnutls_session_is_resumed(client.session), resumed);
	end();
	gnutls_free(client.ticket.data);
	client.ticket.data = NULL;
	return resumed;
}

static void test_a_session_is_resumed_for_its_name_only(void **s)
{
	static const char *const versions[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"};

	(void)s;
	for (unsigned i = 0; i < 2; i++) {
		client.priority = versions[i];
		assert_true(resumes("a.example", "a.example"));
		assert_false(resumes("a.example", "both.example")); /* the same certificate */
		assert_false(resumes("a.example", NULL));
		assert_false(resumes(NULL, "a.example"));
	}
	assert_int_equal(shared.resumed, 2);
	serve("a-ec", "{'tickets': false}");
	client.priority = versions[1];
	assert_false(resumes("a.example", "a.example"));
}

static void test_stores_that_share_a_secret_share_tickets(void **s)
{
	static const char secret[] = "{'tickets': '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}";
	struct tls_store *before;

	(void)s;
	serve("a-ec", secret);
	begin("a.example");
	write_text("x");
	expect_client_reads("x");
	assert_int_equal(gnutls_session_get_data2(client.session, &client.ticket), 0);
	end();
	serve("a-ec b", secret);
	begin("a.example");
	assert_true(ops->secure(state)->resumed);
	end();
	before = tls_store_keep(shared.store);
	serve("a-ec", NULL);
	begin("a.example");
	assert_false(ops->secure(state)->resumed);
	end();
	tls_store_inherit(shared.store, before);
	tls_store_drop(before);
	begin("a.example");
	assert_true(ops->secure(state)->resumed);
	end();
	assert_false(tls_store_tickets(shared.store, SLICE_LIT("short")));
	assert_true(tls_store_tickets(shared.store, slice_of(secret, TLS_TICKET_KEY)));
	begin("a.example");
	assert_false(ops->secure(state)->resumed);
}

/* ---- clients' certificates ---- */

static void show(const char *name)
{
	char crt[32], key[32];
	struct buf c, k;
	gnutls_datum_t cd, kd;

	snprintf(crt, sizeof crt, "%s.crt", name);
	snprintf(key, sizeof key, "%s.key", name);
	c = tls_file(crt);
	k = tls_file(key);
	cd = (gnutls_datum_t){buf_at(&c), (unsigned)buf_len(&c)};
	kd = (gnutls_datum_t){buf_at(&k), (unsigned)buf_len(&k)};
	gnutls_certificate_free_keys(client.credentials);
	assert_true(gnutls_certificate_set_x509_key_mem(client.credentials, &cd, &kd, GNUTLS_X509_FMT_PEM) >= 0);
	gnutls_certificate_set_flags(client.credentials, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
	buf_free(&c);
	buf_free(&k);
}

static void test_a_required_certificate(void **s)
{
	static const char *const versions[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
	struct buf der = tls_file("client.crt");

	(void)s;
	buf_free(&der);
	serve("a-ec", "{'client': 2, 'client_ca': 'CA:ca'}");
	for (unsigned i = 0; i < 2; i++) {
		client.priority = versions[i];
		gnutls_certificate_free_keys(client.credentials);
		begin("a.example");
		assert_int_equal(shaken.error, EPROTO);
		end();
		show("client");
		begin("a.example");
		expect_open();
		assert_true(ops->secure(state)->client.len > 100);
		end();
		show("b"); /* a server's */
		client.flags = GNUTLS_FORCE_CLIENT_CERT;
		begin("a.example");
		assert_int_equal(shaken.error, EPROTO);
		end();
		show("stranger");
		begin("a.example");
		assert_int_equal(shaken.error, EPROTO);
		end();
		client.flags = 0;
	}
}

static void test_a_certificate_that_is_only_asked_for_must_be_good_too(void **s)
{
	(void)s;
	serve("a-ec", "{'client': 1, 'client_ca': 'CA:ca'}");
	begin("a.example");
	expect_open();
	assert_null(ops->secure(state)->client.at);
	end();
	show("client");
	begin("a.example");
	expect_open();
	assert_non_null(ops->secure(state)->client.at);
	end();
	show("stranger");
	client.flags = GNUTLS_FORCE_CLIENT_CERT;
	begin("a.example");
	assert_int_equal(shaken.error, EPROTO);
}

static void test_a_resumed_session_keeps_its_certificate_and_no_other_rules(void **s)
{
	static const char *const versions[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
	struct tls_store *before;

	(void)s;
	for (unsigned i = 0; i < 2; i++) {
		client.priority = versions[i];
		serve("a-ec", "{'client': 2, 'client_ca': 'CA:ca'}");
		show("client");
		begin("a.example");
		expect_open();
		write_text("x");
		expect_client_reads("x");
		assert_int_equal(gnutls_session_get_data2(client.session, &client.ticket), 0);
		end();
		gnutls_certificate_free_keys(client.credentials);
		begin("a.example");
		expect_open();
		assert_true(ops->secure(state)->resumed);
		assert_true(ops->secure(state)->client.len > 100);
		end();
		before = tls_store_keep(shared.store);
		serve("a-ec", "{'client': 2, 'client_ca': 'CA:other-ca'}");
		tls_store_inherit(shared.store, before);
		begin("a.example");
		assert_int_equal(shaken.status, IO_ERROR); /* a full handshake, and no certificate */
		end();
		serve("a-ec", NULL);
		tls_store_inherit(shared.store, before);
		tls_store_drop(before);
		begin("a.example");
		expect_open();
		assert_false(ops->secure(state)->resumed);
		end();
		gnutls_free(client.ticket.data);
		client.ticket.data = NULL;
	}
}

static void test_which_hosts_are_covered(void **s)
{
	(void)s;
	begin("a.example");
	assert_true(ops->covers(state, SLICE_LIT("A.example")));
	assert_true(ops->covers(state, SLICE_LIT("localhost")));
	assert_false(ops->covers(state, SLICE_LIT("both.example"))); /* one certificate of a.example does not suit it */
	assert_false(ops->covers(state, SLICE_LIT("b.example")));
	end();
	begin("x.wild.example");
	assert_true(ops->covers(state, SLICE_LIT("Y.wild.example")));
	assert_false(ops->covers(state, SLICE_LIT("wild.example")));
	assert_false(ops->covers(state, SLICE_LIT("a.b.wild.example")));
	end();
	begin("unknown.example");
	assert_true(ops->covers(state, SLICE_LIT("unknown.example")));
	assert_true(ops->covers(state, SLICE_LIT("a.example")));
	assert_false(ops->covers(state, SLICE_LIT("other.example")));
	end();
	begin(NULL);
	assert_true(ops->covers(state, SLICE_LIT("anything")));
}

/* ---- records ---- */

static char bulk[BULK];

/* The client sends a little, which the server reads; then what was written before may leave. */
static void talk(void)
{
	char bytes[8];

	gnutls_record_send(client.session, "x", 1);
	ops->read(fd, state, bytes, sizeof bytes);
}

/* The server writes all of it, the client reads; true: the socket was full in between. */
static bool pour(size_t piece, bool both_ways)
{
	static char got[BULK];
	size_t sent = 0, read_so_far = 0;
	bool was_full = false;

	for (size_t i = 0; i < BULK; i++)
		bulk[i] = (char)(i * 7 + i / 251);
	while (read_so_far < BULK) {
		struct iovec iov[8];
		int count = 0;
		struct io_result r = {0};
		for (size_t at = sent; count < 8 && at < BULK; at += piece, count++)
			iov[count] = (struct iovec){bulk + at, piece < BULK - at ? piece : BULK - at};
		if (count)
			r = ops->writev(fd, state, iov, count);
		assert_int_not_equal(r.status, IO_ERROR);
		if (r.status == IO_OK)
			sent += r.n;
		assert_true(sent <= BULK);
		if (count && r.status == IO_AGAIN) {
			ssize_t n = gnutls_record_recv(client.session, got + read_so_far, BULK - read_so_far);
			assert_int_equal(r.until, IO_WRITE);
			was_full = true;
			if (n > 0)
				read_so_far += (size_t)n;
		} else if (!count) {
			ssize_t n = gnutls_record_recv(client.session, got + read_so_far, BULK - read_so_far);
			assert_true(n > 0 || n == GNUTLS_E_AGAIN);
			if (n > 0)
				read_so_far += (size_t)n;
		}
		if (both_ways)
			talk();
	}
	assert_int_equal(sent, BULK);
	assert_memory_equal(got, bulk, BULK);
	measure();
	return was_full;
}

static void test_a_long_answer_in_pieces_of_any_size(void **s)
{
	static const size_t pieces[] = {700, 5000, 16384, 100000, BULK};

	(void)s;
	for (unsigned i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		int small = 4608;
		begin("a.example");
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		assert_true(pour(pieces[i], false));
		end();
	}
}

static void test_bytes_both_ways_are_written_once(void **s)
{
	static const size_t pieces[] = {5000, 16384, BULK};

	(void)s;
	for (unsigned i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		int small = 4608;
		begin("a.example");
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		assert_true(pour(pieces[i], true));
		end();
	}
}

static unsigned largest(unsigned from, unsigned to)
{
	unsigned most = 0;

	for (unsigned i = from; i < to && i < client.count; i++)
		most = client.sizes[i] > most ? client.sizes[i] : most;
	return most;
}

static void test_first_small_records_then_large_ones(void **s)
{
	enum { HANDSHAKE = 8, SMALL = 46, OVERHEAD = 22 };

	(void)s;
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
	begin("a.example");
	pour(BULK, false);
	assert_in_range(largest(HANDSHAKE, SMALL), 1400, 1400 + OVERHEAD);
	assert_int_equal(largest(SMALL + 10, client.count), 16384 + OVERHEAD);
	pour(BULK, false);
	assert_int_equal(client.sizes[0], 16384 + OVERHEAD);
	now += 1500; /* a silence */
	pour(BULK, false);
	assert_int_equal(client.sizes[0], 1400 + OVERHEAD);
}

/* Offers much; returns how much the call accepted, 0 if the socket is full. */
static size_t offer_much(void)
{
	struct iovec iov = {bulk, sizeof bulk};
	struct io_result r = ops->writev(fd, state, &iov, 1);

	assert_int_not_equal(r.status, IO_ERROR);
	return r.status == IO_OK ? r.n : 0;
}

static void read_all(void)
{
	static char got[BULK];

	while (gnutls_record_recv(client.session, got, sizeof got) != GNUTLS_E_AGAIN)
		;
}

static void test_a_slow_client_gets_one_record_at_a_time(void **s)
{
	enum { RECORD = 16384, SEVERAL = 65536, SLOW_CALLS = 8 };

	(void)s;
	begin("a.example");
	read_all();
	for (unsigned i = 0; i < 1 + SLOW_CALLS; i++, read_all())
		assert_int_equal(offer_much(), i == 0 ? 47 * 1400 : RECORD);
	for (unsigned i = 0; i < 10; i++, read_all())
		assert_int_equal(offer_much(), SEVERAL);
	while (offer_much())
		;
	read_all();
	assert_in_range(offer_much(), 1, SEVERAL); /* what was kept */
	for (unsigned i = 0; i < SLOW_CALLS; i++, read_all())
		assert_int_equal(offer_much(), RECORD);
	assert_int_equal(offer_much(), SEVERAL);
	now += 500;
	while (offer_much())
		;
	now += 1500; /* this was not silence: the socket was full */
	read_all();
	assert_true(offer_much());
	assert_int_equal(offer_much(), RECORD);
}

static void test_reading_into_little_room(void **s)
{
	static char got[60000];
	size_t total = 0;

	(void)s;
	begin("a.example");
	for (size_t i = 0; i < sizeof got; i++)
		bulk[i] = (char)(i * 3);
	for (size_t sent = 0; sent < sizeof got; sent += 15000)
		assert_int_equal(gnutls_record_send(client.session, bulk + sent, 15000), 15000);
	for (bool more = true; more;) {
		struct io_result r = read_some(got + total, total + 1000 < sizeof got ? 1000 : sizeof got - total);
		assert_int_equal(r.status, IO_OK);
		total += r.n;
		more = total < sizeof got;
		assert_true(r.more || !more); /* or no event would come for bytes that have already arrived */
	}
	assert_memory_equal(got, bulk, sizeof got);
}

/* Takes the client's bytes out of the server's socket. */
static size_t intercept(uint8_t *bytes, size_t size)
{
	ssize_t n = recv(fd, bytes, size, 0);

	assert_true(n > 0);
	return (size_t)n;
}

static void test_records_in_pieces_of_any_size(void **s)
{
	static const size_t pieces[] = {1, 3, 4, 5, 6, 1000, 17000};
	static uint8_t wire[40000];
	static char got[30000];

	(void)s;
	for (size_t i = 0; i < sizeof got; i++)
		bulk[i] = (char)(i * 5);
	for (unsigned i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		size_t total = 0, n;
		begin("a.example");
		read_all();
		gnutls_record_send(client.session, bulk, 13);
		gnutls_record_send(client.session, bulk + 13, 1);
		gnutls_record_send(client.session, bulk + 14, 16384);
		gnutls_record_send(client.session, bulk + 16398, sizeof got - 16398);
		n = intercept(wire, sizeof wire);
		for (size_t at = 0; at < n; at += pieces[i]) {
			size_t part = n - at < pieces[i] ? n - at : pieces[i];
			struct io_result r;
			assert_int_equal(write(client.fd, wire + at, part), part);
			r = read_some(got + total, sizeof got - total);
			if (r.status == IO_OK)
				total += r.n;
			else
				assert_int_equal(r.status, IO_AGAIN);
			assert_int_equal(r.until & IO_WRITE, 0);
		}
		assert_int_equal(total, sizeof got);
		assert_memory_equal(got, bulk, sizeof got);
		assert_int_equal(write_text("well").n, 4);
		expect_client_reads("well");
		end();
	}
}

static void test_after_many_records_others_have_their_turn(void **s)
{
	enum { MANY = 200 };
	char got[1000];
	size_t total = 0;

	(void)s;
	begin("a.example");
	for (unsigned i = 0; i < MANY; i++)
		gnutls_record_send(client.session, "x", 1);
	for (unsigned reads = 0; total < MANY; reads++) {
		struct io_result r = read_some(got, sizeof got);
		assert_int_equal(r.status, IO_OK);
		assert_in_range(r.n, 1, 50); /* as many as there is room for if they were large */
		assert_false(r.more);
		total += r.n;
	}
	assert_int_equal(read_some(got, sizeof got).status, IO_AGAIN);
	for (unsigned i = 0; i < 4; i++)
		gnutls_record_send(client.session, bulk, 700);
	assert_true(read_some(got, sizeof got).more); /* of few, more are read at once */
}

static void test_a_record_that_is_cut_off(void **s)
{
	static uint8_t wire[20000];
	char got[64];
	size_t n;

	(void)s;
	for (unsigned i = 0; i < 2; i++) {
		begin("a.example");
		read_all();
		gnutls_record_send(client.session, bulk, 16384);
		n = intercept(wire, sizeof wire);
		assert_int_equal(write(client.fd, wire, i ? n - 1 : 3), i ? n - 1 : 3);
		assert_int_equal(read_some(got, sizeof got).status, IO_AGAIN);
		close(client.fd);
		client.fd = -1;
		assert_int_equal(read_some(got, sizeof got).status, IO_EOF);
		end();
	}
}

static void test_a_goodbye_ends_the_stream(void **s)
{
	char bytes[8];

	(void)s;
	begin("a.example");
	gnutls_record_send(client.session, "last", 4);
	gnutls_bye(client.session, GNUTLS_SHUT_WR);
	expect_read("last");
	assert_int_equal(read_some(bytes, 8).status, IO_EOF);
	write_text("answer"); /* the other direction continues */
	expect_client_reads("answer");
	assert_int_equal(ops->shutdown(fd, state).status, IO_OK);
	assert_int_equal(gnutls_record_recv(client.session, bytes, 8), 0);
	end();
	begin("a.example");
	assert_int_equal(gnutls_record_recv(client.session, bytes, 8), GNUTLS_E_AGAIN); /* the ticket */
	close(client.fd);                                                               /* without a word */
	client.fd = -1;
	assert_int_equal(read_some(bytes, 8).status, IO_EOF);
}

static void test_a_close_says_goodbye(void **s)
{
	char bytes[8];

	(void)s;
	begin("a.example");
	ops->close(fd, state, false);
	state = NULL;
	while (gnutls_record_recv(client.session, bytes, 8) == GNUTLS_E_AGAIN)
		;
	assert_int_equal(gnutls_record_recv(client.session, bytes, 8), 0);
}

static void test_a_record_that_was_changed(void **s)
{
	uint8_t bytes[64] = {23, 3, 3, 0, 40};
	char got[64];

	(void)s;
	begin("a.example");
	assert_int_equal(write(client.fd, bytes, 45), 45);
	assert_int_equal(read_some(got, sizeof got).error, EPROTO);
	assert_int_equal(gnutls_record_recv(client.session, got, sizeof got), GNUTLS_E_AGAIN); /* the ticket */
	assert_int_equal(gnutls_record_recv(client.session, got, sizeof got), GNUTLS_E_FATAL_ALERT_RECEIVED);
	assert_int_equal(gnutls_alert_get(client.session), GNUTLS_A_BAD_RECORD_MAC);
}

/* The client sends until the server accepts no more, or so many times. */
static bool has_enough(int (*send)(void), unsigned times)
{
	char bytes[64];

	for (unsigned i = 0; i < times; i++) {
		struct io_result r;
		if (send() < 0)
			return true;
		r = read_some(bytes, sizeof bytes);
		if (r.status == IO_ERROR)
			return true;
		while (gnutls_record_recv(client.session, bytes, sizeof bytes) > 0)
			;
	}
	return false;
}

static int send_key_update(void)
{
	return gnutls_session_key_update(client.session, GNUTLS_KU_PEER);
}

static int send_warning(void)
{
	return gnutls_alert_send(client.session, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED);
}

static void test_floods_of_what_is_no_data(void **s)
{
	(void)s;
	begin("a.example");
	assert_false(has_enough(send_key_update, 1));
	assert_true(has_enough(send_key_update, 20));
	end();
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	begin("a.example");
	assert_false(has_enough(send_warning, 16));
	assert_true(has_enough(send_warning, 1000));
}

static void test_renegotiation_is_refused(void **s)
{
	char bytes[64];

	(void)s;
	client.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	begin("a.example");
	expect_open();
	gnutls_handshake(client.session);
	assert_int_equal(read_some(bytes, sizeof bytes).error, EPROTO);
	assert_int_not_equal(gnutls_handshake(client.session), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ends_speak),
		TEST(test_tls_1_2),
		TEST(test_old_versions_and_ciphers_are_refused),
		TEST(test_each_name_has_its_certificate),
		TEST(test_strict_names),
		TEST(test_no_protocol_in_common),
		TEST(test_a_second_hello_keeps_what_the_first_one_asked),
		TEST(test_a_hello_byte_by_byte),
		TEST(test_plain_http_is_answered_in_plain_text),
		TEST(test_garbage_gets_an_alert),
		TEST(test_a_client_that_leaves_in_between),
		TEST(test_a_session_is_resumed_for_its_name_only),
		TEST(test_stores_that_share_a_secret_share_tickets),
		TEST(test_a_required_certificate),
		TEST(test_a_certificate_that_is_only_asked_for_must_be_good_too),
		TEST(test_a_resumed_session_keeps_its_certificate_and_no_other_rules),
		TEST(test_which_hosts_are_covered),
		TEST(test_a_long_answer_in_pieces_of_any_size),
		TEST(test_bytes_both_ways_are_written_once),
		TEST(test_first_small_records_then_large_ones),
		TEST(test_a_slow_client_gets_one_record_at_a_time),
		TEST(test_reading_into_little_room),
		TEST(test_records_in_pieces_of_any_size),
		TEST(test_after_many_records_others_have_their_turn),
		TEST(test_a_record_that_is_cut_off),
		TEST(test_a_goodbye_ends_the_stream),
		TEST(test_a_close_says_goodbye),
		TEST(test_a_record_that_was_changed),
		TEST(test_floods_of_what_is_no_data),
		TEST(test_renegotiation_is_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("transport_tls", tests, NULL, NULL);
}
