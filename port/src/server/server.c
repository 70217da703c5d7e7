/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/bufq.h"
#include "base/sm.h"
#include "platform/platform.h"

enum {
	ACCEPT_BATCH = 64,
	ACCEPT_SHARED = 1, /* the other port programs should get some of them too */
	ACCEPT_RETRY_MS = 100,
	SPARE_DESCRIPTORS = 64, /* for everything that is not a connection */
};

static const char *const state_names[] = {"new", "serving", "draining", "stopped"};
static const uint32_t state_next[] = {
	[SERVER_NEW] = SM_BIT(SERVER_SERVING) | SM_BIT(SERVER_DRAINING) | SM_BIT(SERVER_STOPPED),
	[SERVER_SERVING] = SM_BIT(SERVER_DRAINING) | SM_BIT(SERVER_STOPPED),
	[SERVER_DRAINING] = SM_BIT(SERVER_STOPPED),
	[SERVER_STOPPED] = 0,
};
static const struct sm machine = {"server", state_names, state_next};

static unsigned descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur > 1u << 20 ? 1u << 20 : (unsigned)limit.rlim_cur;
}

/* Files of the host use a part of the descriptors. */
static unsigned connection_limit(struct config *config)
{
	unsigned descriptors = descriptor_limit();
	unsigned most;

	if (config->channel < 0)
		config->max_files = 0;
	if (config->max_files > descriptors / 4)
		config->max_files = descriptors / 4;
	descriptors -= (unsigned)config->max_files;
	most = descriptors > 2 * SPARE_DESCRIPTORS ? descriptors - SPARE_DESCRIPTORS : descriptors / 2;

	return config->max_connections && config->max_connections < most ? (unsigned)config->max_connections : most;
}

/* ---- accepting ---- */

static bool at_limit(const struct server *s)
{
	return s->pool.open >= s->max_connections;
}

static void watch_listeners(struct server *s)
{
	bool on = s->state == SERVER_SERVING && !s->accept_paused && !s->pool.env.paused;

	for (unsigned i = 0; i < s->listener_count; i++)
		if (loop_io_fd(&s->listeners[i].io) >= 0)
			loop_io_watch(s->loop, &s->listeners[i].io, on ? LOOP_READ : 0);
}

static void on_accept_timer(struct wheel_node *node)
{
	struct server *s = container_of(node, struct server, accept_timer);

	s->accept_paused = false;
	watch_listeners(s);
}

static void pause_accept(struct server *s)
{
	s->accept_paused = true;
	watch_listeners(s);
	wheel_set(&s->loop->wheel, &s->accept_timer, s->loop->now + ACCEPT_RETRY_MS);
}

/* No descriptor is left: the reserved one is used to take a connection from the queue and close it. */
static void turn_away(struct server *s, struct listener *l)
{
	struct peer peer;
	int fd;

	if (conn_pool_spare(&s->pool))
		return;
	if (s->reserve_fd >= 0)
		close(s->reserve_fd);
	fd = listener_accept(l, &peer);
	if (fd >= 0)
		close(fd);
	s->reserve_fd = platform_spare_descriptor();
	pause_accept(s);
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void open_connection(struct server *s, int fd, const struct peer *peer)
{
	struct transport_tls *tls = &s->tls[peer->listener];
	void *state;

	s->accepted++;
	if (!tls->store) {
		conn_open(&s->pool, fd, &transport_tcp, NULL, peer);
		return;
	}
	state = transport_tls_open(tls);
	if (state)
		conn_open(&s->pool, fd, &transport_tls_ops, state, peer);
	else
		close(fd);
}

/* True if there may be more. */
static bool accept_one(struct server *s, struct listener *l)
{
	struct peer peer;
	int fd;

	if (at_limit(s) && !listener_waiting(l))
		return false; /* no connection waits for which another would have to be closed */
	if (at_limit(s) && !conn_pool_spare(&s->pool)) {
		if (list_empty(&s->pool.dirty)) /* else the newly accepted ones run first */
			pause_accept(s);
		return false;
	}
	fd = listener_accept(l, &peer);
	if (fd >= 0) {
		open_connection(s, fd, &peer);
		return true;
	}
	if (!is_shortage(errno))
		return errno == ECONNABORTED || errno == EINTR;
	if (listener_waiting(l)) /* the kernel reports this also when no connection waits */
		turn_away(s, l);
	return false;
}

static bool run_listener(struct server *s, struct listener *l)
{
	unsigned i = 0;

	if (!l->ready || s->state != SERVER_SERVING || s->accept_paused || s->pool.env.paused)
		return false;
	while (i < l->batch && accept_one(s, l))
		i++;
	l->ready = i == l->batch;
	return l->ready;
}

/* ---- turns ---- */

/* RFC 9110 5.6.7; the names are fixed, whatever the locale. */
static void update_date(struct server *s)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = (time_t)s->loop->unix_sec;
	char text[80];
	struct tm tm;

	if (s->date_second == s->loop->unix_sec)
		return;
	s->date_second = s->loop->unix_sec;
	gmtime_r(&now, &tm);
	snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
		 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	memcpy(s->pool.env.date, text, DATE_LEN);
}

static void end_drain(struct server *s)
{
	if (s->state == SERVER_DRAINING && s->pool.open == 0 && s->on_drained)
		s->on_drained(s->ctx, s->cut);
}

/* When crowded, busy_idle_timeout applies, including to connections that were idle before; and connections that only wait for
 * their clients are recorded. */
static void begin_crowd(struct server *s)
{
	conn_pool_thin_out(&s->pool, s->config->busy_idle_timeout);
	if (s->crowd_second == s->loop->now / 1000)
		return; /* the crowd comes and goes, and looking at all connections takes time */
	s->crowd_second = s->loop->now / 1000;
	conn_pool_wake(&s->pool);
}

bool server_run(struct server *s)
{
	bool more = false, was_crowded = s->pool.env.crowded;

	update_date(s);
	s->pool.env.crowded = (uint64_t)s->pool.open * 10 > (uint64_t)s->max_connections * 8;
	if (s->pool.env.crowded && !was_crowded)
		begin_crowd(s);
	for (unsigned i = 0; i < s->listener_count; i++) {
		more |= run_listener(s, &s->listeners[i]);
		more |= s->quic[i] && quic_run(s->quic[i]);
	}
	return conn_pool_run(&s->pool) || more;
}

void server_reap(struct server *s)
{
	conn_pool_reap(&s->pool);
	end_drain(s);
}

/* ---- orders ---- */

enum { PORT_ATTEMPTS = 16 };

/* Opens HTTP/3 for a listener. False: *rule says why not; *taken: another program uses the port that the system chose, over UDP. */
static bool open_quic(struct server *s, unsigned i, bool *taken, char *rule, size_t size)
{
	struct listener_config *config = &s->config->listeners[i];
	struct listener_name name;

	*taken = false;
	if (!config->http3)
		return true;
	if (!tls_store_fits_quic(s->tls[i].store)) {
		snprintf(rule, size, "HTTP/3 needs TLS 1.3, but max is lower");
		return false;
	}
	listener_name(&s->listeners[i], &name);
	s->quic[i] = quic_open(&s->pool, config, i, name.port, &s->tls[i].store, taken, rule, size);
	if (!s->quic[i])
		return false;
	config->udp = quic_descriptor(s->quic[i]);
	if (config->alt_svc_age)
		snprintf(config->alt_svc, sizeof config->alt_svc, "h3=\":%u\"; ma=%lu", (unsigned)name.port,
			 (unsigned long)config->alt_svc_age);
	return true;
}

/* If the system chooses the port, tries until one is free for both TCP and UDP. */
static bool open_listener(struct server *s, unsigned i, char *rule, size_t size)
{
	const struct listener_config *config = &s->config->listeners[i];
	struct listener *l = &s->listeners[i];
	bool taken;

	for (unsigned attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
		if (!listener_open(l, config, rule, size))
			return false;
		l->index = (uint8_t)i;
		l->batch = config->shared ? ACCEPT_SHARED : ACCEPT_BATCH;
		if (config->descriptor)
			s->config->listeners[i].fd = -1; /* the listener owns it now */
		if (open_quic(s, i, &taken, rule, size))
			return true;
		listener_close(l, s->loop);
		if (!taken || config->port || config->descriptor)
			return false;
	}
	return false;
}

static bool control_listen(void *ctx, struct config_fault *fault)
{
	struct server *s = ctx;

	s->max_connections = connection_limit(s->config);
	s->config->max_connections = s->max_connections; /* READY reports what is in force */
	if (s->config->max_handshakes == 0)
		s->config->max_handshakes = s->max_connections / 4 ? s->max_connections / 4 : 1;
	s->pool.max_handshakes = (unsigned)s->config->max_handshakes;
	for (unsigned i = 0; i < s->config->listener_count; i++) {
		if (!open_listener(s, i, fault->rule, sizeof fault->rule)) {
			snprintf(fault->field, sizeof fault->field, "listeners");
			return false;
		}
		s->listener_count++;
	}
	sm_move(&machine, &s->state, SERVER_SERVING);
	watch_listeners(s);
	return true;
}

/* Nothing is replaced. */
static unsigned tried(const struct transport_tls *tls, struct tls_store *store, struct config_fault *fault)
{
	unsigned count = tls->store ? tls_store_certificates(store) : 0;

	tls_store_drop(store);
	if (count == 0) {
		snprintf(fault->field, sizeof fault->field, "trial");
		snprintf(fault->rule, sizeof fault->rule, "must be false in HELLO");
	}
	return count;
}

/* If one fails, nothing changes. Open connections keep their certificates. */
static unsigned control_certify(void *ctx, unsigned i, struct slice map, struct config_fault *fault)
{
	struct server *s = ctx;
	struct transport_tls *tls = &s->tls[i];
	struct tls_store *store;

	if (!s->tls_started && !tls_start()) {
		snprintf(fault->field, sizeof fault->field, "tls");
		snprintf(fault->rule, sizeof fault->rule, "the TLS library cannot start");
		return 0;
	}
	s->tls_started = true;
	store = tls_store_read(map, fault);
	if (!store)
		return 0;
	if (tls_store_is_trial(store))
		return tried(tls, store, fault);
	if (tls->store)
		tls_store_inherit(store, tls->store);
	tls_store_drop(tls->store);
	tls->store = store;
	return tls_store_certificates(store);
}

static bool control_tickets(void *ctx, unsigned i, struct slice key)
{
	struct server *s = ctx;

	return tls_store_tickets(s->tls[i].store, key);
}

static bool control_is_secure(void *ctx, unsigned i)
{
	struct server *s = ctx;

	return i < LISTENERS_MAX && s->tls[i].store;
}

static void control_name(void *ctx, unsigned i, struct listener_name *name)
{
	struct server *s = ctx;

	listener_name(&s->listeners[i], name);
}

static void close_listeners(struct server *s)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		listener_close(&s->listeners[i], s->loop);
}

static void control_leave(void *ctx)
{
	struct server *s = ctx;

	for (unsigned i = 0; i < s->listener_count; i++)
		if (s->config->listeners[i].descriptor)
			listener_close(&s->listeners[i], s->loop);
}

static void on_drain_timer(struct wheel_node *node)
{
	struct server *s = container_of(node, struct server, drain_timer);

	s->cut += conn_pool_cut(&s->pool);
}

/* The kernel has accepted these already: closing the listener would reset them. */
static void accept_rest(struct server *s)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		for (unsigned n = 0; n < 4096 && loop_io_fd(&s->listeners[i].io) >= 0 && accept_one(s, &s->listeners[i]); n++)
			;
}

static void control_drain(void *ctx, uint64_t deadline)
{
	struct server *s = ctx;
	uint64_t at = s->loop->now + deadline;

	if (s->state == SERVER_STOPPED)
		return;
	if (s->state != SERVER_DRAINING)
		sm_move(&machine, &s->state, SERVER_DRAINING);
	accept_rest(s);
	close_listeners(s);
	if (!wheel_pending(&s->drain_timer) || at < s->drain_timer.deadline)
		wheel_set(&s->loop->wheel, &s->drain_timer, at);
	for (unsigned i = 0; i < s->listener_count; i++)
		if (s->quic[i])
			quic_drain(s->quic[i]);
	conn_pool_drain(&s->pool);
}

static void control_stop(void *ctx, int status)
{
	struct server *s = ctx;

	if (s->state == SERVER_STOPPED)
		return;
	sm_move(&machine, &s->state, SERVER_STOPPED);
	s->exit_status = status;
	close_listeners(s);
	loop_stop(s->loop);
}

static void control_stats(void *ctx, struct control_figures *figures)
{
	struct server *s = ctx;
	uint64_t handshakes = 0, resumed = 0, failed = 0, accepted = s->accepted;
	uint64_t h3_connections = 0, h3_retries = 0, h3_dropped = 0;
	struct quic_figures quic;

	for (unsigned i = 0; i < LISTENERS_MAX; i++) {
		handshakes += s->tls[i].handshakes;
		resumed += s->tls[i].resumed;
		failed += s->tls[i].failed;
		if (!s->quic[i])
			continue;
		quic_figures(s->quic[i], &quic);
		accepted += quic.accepted;
		handshakes += quic.handshakes;
		resumed += quic.resumed;
		failed += quic.failed;
		h3_connections += quic.connections;
		h3_retries += quic.retries;
		h3_dropped += quic.dropped;
	}
	*figures = (struct control_figures){
		.connections = s->pool.open,
		.idle = s->pool.waiting[CONN_IDLE].count,
		.lingering = s->pool.waiting[CONN_LINGERS].count,
		.half_open = s->pool.waiting[CONN_SHAKES].count,
		.handshakes = handshakes,
		.resumed = resumed,
		.tls_failed = failed,
		.misproxied = s->pool.misproxied,
		.h3_connections = h3_connections,
		.h3_retries = h3_retries,
		.h3_dropped = h3_dropped,
		.accepted = accepted,
		.rejected = s->pool.env.rejected,
		.bytes_in = s->pool.bytes_in,
		.bytes_out = s->pool.bytes_out,
	};
}

static void control_pressure(void *ctx, bool on)
{
	struct server *s = ctx;

	conn_pool_hold(&s->pool, on);
	watch_listeners(s);
}

const struct control_ops server_control = {
	.http3 = QUIC_EXISTS,
	.listen = control_listen,
	.certify = control_certify,
	.tickets = control_tickets,
	.is_secure = control_is_secure,
	.name = control_name,
	.drain = control_drain,
	.leave = control_leave,
	.stop = control_stop,
	.stats = control_stats,
	.pressure = control_pressure,
};

bool server_init(struct server *s, struct loop *loop, struct config *config, const struct stream_sink *sink)
{
	memset(s, 0, sizeof *s);
	s->loop = loop;
	s->config = config;
	wheel_node_init(&s->drain_timer, on_drain_timer);
	wheel_node_init(&s->accept_timer, on_accept_timer);
	s->reserve_fd = platform_spare_descriptor();
	for (unsigned i = 0; i < LISTENERS_MAX; i++)
		s->tls[i].now = &loop->now;
	return conn_pool_init(&s->pool, loop, config, sink);
}

void server_free(struct server *s)
{
	s->on_drained = NULL;
	s->cut += conn_pool_cut(&s->pool);
	close_listeners(s);
	conn_pool_reap(&s->pool);
	for (unsigned i = 0; i < LISTENERS_MAX; i++)
		if (s->quic[i])
			quic_close(s->quic[i]);
	conn_pool_free(&s->pool);
	for (unsigned i = 0; i < LISTENERS_MAX; i++) {
		tls_store_drop(s->tls[i].store);
		s->tls[i].store = NULL;
	}
	wheel_cancel(&s->loop->wheel, &s->drain_timer);
	wheel_cancel(&s->loop->wheel, &s->accept_timer);
	if (s->reserve_fd >= 0)
		close(s->reserve_fd);
	bufq_free_spares();
}
