/* SPDX-License-Identifier: Apache-2.0 */
/* sparx_port: connects the parts, and makes no decisions. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "bridge/bridge.h"
#include "platform/platform.h"
#include "sandbox/sandbox.h"
#include "server/server.h"
#include "version.h"

enum { EXIT_USAGE = 1, EXIT_SYSTEM = 5, PIPE_SIZE = 1 << 18, MALLOC_SLACK = 1 << 20, GOODBYE_MS = 1000 };

struct port {
	struct config config;
	struct loop loop;
	struct link link;
	struct bridge bridge;
	struct server server;
};

/* One turn: the host's messages, connections, one write to the host, pausing sockets, freeing. */
static bool turn(void *ctx)
{
	struct port *p = ctx;
	bool more;

	if (p->loop.signalled) {
		bridge_drain(&p->bridge, p->config.drain_timeout);
		p->loop.signalled = 0;
	}
	more = bridge_receive(&p->bridge);
	more |= link_read(&p->link);
	bridge_run(&p->bridge);
	wheel_fire(&p->loop.wheel, p->loop.now);
	wheel_fire(&p->loop.fine, p->loop.now_us / LOOP_FINE_US);
	more |= server_run(&p->server);
	bridge_return_slots(&p->bridge);
	link_flush(&p->link);
	conn_pool_pause(&p->server.pool, link_full(&p->link));
	server_reap(&p->server);
	return more || bridge_has_work(&p->bridge);
}

/* Moves the pipes to other descriptors, so that nothing that is printed to stdout, or read from stdin, can break the framing. */
static bool take_pipes(int *in, int *out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	*in = fcntl(0, F_DUPFD_CLOEXEC, 3);
	*out = fcntl(1, F_DUPFD_CLOEXEC, 3);
	if (null < 0 || *in < 0 || *out < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
		return false;
	close(null);
	platform_pipe_size(*in, PIPE_SIZE);
	platform_pipe_size(*out, PIPE_SIZE);
	return fcntl(*in, F_SETFL, fcntl(*in, F_GETFL) | O_NONBLOCK) == 0 &&
	       fcntl(*out, F_SETFL, fcntl(*out, F_GETFL) | O_NONBLOCK) == 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Before exit, writes the remaining messages to the host, for a limited time. */
static void say_goodbye(struct link *link)
{
	struct pollfd out = {.fd = loop_io_fd(&link->out), .events = POLLOUT};
	uint64_t deadline = now_ms() + GOODBYE_MS;

	do { /* at least once, since on a busy machine the time may already be over */
		link->urgent = true;
		link->out_blocked = false;
		link_flush(link);
		if (link->out_blocked)
			poll(&out, 1, GOODBYE_MS / 10);
	} while (link->queued > 0 && !link->out_broken && now_ms() < deadline);
}

static int serve(void)
{
	static struct port port, *const p = &port;
	uint8_t secret[SHARES_SECRET];
	int in, out, status;

	if (!take_pipes(&in, &out) || !loop_init(&p->loop, turn, p) || !platform_random(secret, sizeof secret)) {
		log_line(LOG_ERROR, "cannot start: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	config_defaults(&p->config);
	link_init(&p->link, &p->loop, in, out, &bridge_link_handler, &p->bridge);
	bridge_init(&p->bridge, &p->loop, &p->link, &p->config, secret);
	if (!server_init(&p->server, &p->loop, &p->config, &p->bridge.sink)) {
		log_line(LOG_ERROR, "out of memory");
		return EXIT_SYSTEM;
	}
	p->server.on_drained = bridge_drained;
	p->server.ctx = &p->bridge;
	p->server.pool.watch = bridge_watch(&p->bridge);
	p->server.pool.env.shares = &p->bridge.shares;
	bridge_control(&p->bridge, (struct control){&server_control, &p->server});
	p->bridge.shut_in = sandbox_enter;
	log_to(bridge_log, &p->bridge);
	loop_run(&p->loop);
	log_to(NULL, NULL);
	say_goodbye(&p->link);
	status = p->server.exit_status;
	server_free(&p->server);
	bridge_free(&p->bridge);
	link_free(&p->link);
	loop_free(&p->loop);
	return status;
}

/* ---- the command line ---- */

static const char usage[] = "usage: sparx_port            serve; a host speaks PROTOCOL.md on stdin and stdout\n"
			    "       sparx_port --help     this text\n"
			    "       sparx_port --version  the versions of the program and of the protocol\n"
			    "       sparx_port --protocol the table of messages\n"
			    "       sparx_port --options  the table of numeric options of HELLO\n";

static int print_version(void)
{
	printf("sparx_port %s, protocol %d\n", SPARX_VERSION, SPARX_PROTOCOL_VERSION);
	return 0;
}

static int print_protocol(void)
{
	const struct message_def *def;

	printf("| kind | name | from | fields |\n| --- | --- | --- | --- |\n");
	for (unsigned i = 0; (def = message_def_at(i)); i++)
		printf("| %u | %s | %s | %s |\n", def->kind, def->name, def->direction == FROM_HOST ? "host" : "port", def->fields);
	return 0;
}

static int print_options(void)
{
	const struct option_def *def;

	printf("| option | default | range | unit | meaning |\n| --- | --- | --- | --- | --- |\n");
	for (unsigned i = 0; (def = option_at(i)); i++)
		printf("| `%s` | %" PRIu64 " | %" PRIu64 " – %" PRIu64 " | %s | %s |\n", def->name, def->value, def->min, def->max,
		       def->unit, def->meaning);
	return 0;
}

static int print_usage(void)
{
	fputs(usage, stdout);
	return 0;
}

static int run_option(const char *option)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} options[] = {
		{"--help", print_usage},
		{"--version", print_version},
		{"--protocol", print_protocol},
		{"--options", print_options},
	};

	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (strcmp(option, options[i].name) == 0)
			return options[i].run();
	fprintf(stderr, "sparx_port: unknown option %s\n%s", option, usage);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return run_option(argv[1]);
	if (argc > 2 || isatty(0)) {
		fprintf(stderr,
			"sparx_port: an HTTP server for a host program, which starts it with pipes as stdin and stdout.\n%s",
			usage);
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	platform_keep_memory(MALLOC_SLACK);
	return serve();
}
