/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshakes PORT KIND VERSION MODE SECONDS: TLS connections, each with a handshake and a short request, many at a time. KIND:
 * ecdsa or rsa, of the server's certificate; VERSION: 12 or 13; MODE: full or resumed. The last line is a result for tools.py.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AT_A_TIME = 16 };

struct count {
	unsigned long done, failed;
};

static SSL_SESSION *session;

static int keep(SSL *ssl, SSL_SESSION *given)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = given;
	return 1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static SSL_CTX *context(const char *kind, int version)
{
	int rsa = strcmp(kind, "rsa") == 0, number = version == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_min_proto_version(ctx, number);
	SSL_CTX_set_max_proto_version(ctx, number);
	SSL_CTX_set_cipher_list(ctx, rsa ? "ECDHE-RSA-AES128-GCM-SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256");
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set1_groups_list(ctx, "X25519:P-256");
	SSL_CTX_set1_sigalgs_list(ctx, rsa ? "RSA-PSS+SHA256" : "ECDSA+SHA256");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep);
	return ctx;
}

static int connected(int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Whether the answer arrived, and the session was resumed if it should have been. */
static int exchange(SSL_CTX *ctx, int port, int resumed)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	char answer[4096] = "";
	int fd = connected(port), n = 0, well = 0;
	SSL *ssl = SSL_new(ctx);

	SSL_set_fd(ssl, fd);
	SSL_set_tlsext_host_name(ssl, "localhost");
	if (resumed && session)
		SSL_set_session(ssl, session);
	if (fd >= 0 && SSL_connect(ssl) == 1 && SSL_write(ssl, request, sizeof request - 1) > 0)
		while (!strstr(answer, "world!\n") && (n += SSL_read(ssl, answer + n, (int)sizeof answer - 1 - n)) > 0 && n < 4095)
			answer[n] = 0;
	well = strstr(answer, " 200 ") && (!resumed || !session || SSL_session_reused(ssl));
	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
	return well;
}

/* The work of one process. */
static struct count run(char **argv)
{
	struct count n = {0, 0};
	SSL_CTX *ctx = context(argv[2], atoi(argv[3]));
	int resumed = strcmp(argv[4], "resumed") == 0;
	double began;

	if (resumed)
		exchange(ctx, atoi(argv[1]), 0); /* brings the first ticket */
	for (began = now(); now() - began < atof(argv[5]);)
		if (exchange(ctx, atoi(argv[1]), resumed))
			n.done++;
		else
			n.failed++;
	return n;
}

int main(int argc, char **argv)
{
	struct count all = {0, 0}, one;
	int pipes[2];

	if (argc != 6 || pipe(pipes) != 0)
		return 2;
	for (int i = 0; i < AT_A_TIME; i++)
		if (fork() == 0) {
			one = run(argv);
			return write(pipes[1], &one, sizeof one) != sizeof one;
		}
	for (int i = 0; i < AT_A_TIME && read(pipes[0], &one, sizeof one) == sizeof one; i++) {
		all.done += one.done;
		all.failed += one.failed;
	}
	while (wait(NULL) > 0)
		;
	printf("result {\"rate\": %.1f, \"requests\": %lu, \"errors\": %lu}\n", (double)all.done / atof(argv[5]), all.done, all.failed);
	return 0;
}
