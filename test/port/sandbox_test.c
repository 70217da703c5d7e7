/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox: its filter in a small interpreter, and each part for real, in a child process. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/parts.h"
#include "support.h"

#ifdef SANDBOX_LEFT_OUT
enum { LEFT_OUT = 1 };
#else
enum { LEFT_OUT = 0 };
#endif

static struct config config;
static struct config_fault fault;
static struct sandbox sandbox;
static char folder[] = "/tmp/sparx-sandbox-XXXXXX", other[] = "/tmp/sparx-sandbox-XXXXXX";

static int setup(void **state)
{
	(void)state;
	config_defaults(&config);
	config.listener_count = 1;
	snprintf(config.listeners[0].address, sizeof config.listeners[0].address, "127.0.0.1");
	return 0;
}

/* ---- children ---- */

/* For child processes: their tests end by returning, not by cmocka's jumps. */
#define CHECK(what) \
	do { \
		if (!(what)) { \
			dprintf(2, "%s:%d: %s (errno: %s)\n", __FILE__, __LINE__, #what, strerror(errno)); \
			return 1; \
		} \
	} while (0)

#ifdef COVERAGE
extern void __gcov_dump(void);
#else
static void __gcov_dump(void)
{
}
#endif

static int done_in_child(int (*deed)(void))
{
	int result = deed();

	signal(SIGXFSZ, SIG_IGN);
	__gcov_dump(); /* coverage of the child counts too, if it may still write a file */
	return result;
}

/* The waitpid status of a child that ran this. */
static int in_child(int (*deed)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		alarm(20);
		_exit(done_in_child(deed));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void expect_well_in_child(int (*deed)(void))
{
	assert_int_equal(in_child(deed), 0);
}

/* Valgrind's own system calls would be filtered too. */
static void need_bare_machine(void)
{
	struct sock_filter filter[FILTER_ROOM];

	if (under_valgrind())
		skip_because("the filter cannot be tried under valgrind");
	if (!seccomp_filter(filter, &(struct filter_needs){0}))
		skip_because("there is no filter for this machine");
	if (prctl(PR_GET_SECCOMP) < 0)
		skip_because("the kernel has no seccomp");
}

/* ---- the filter, interpreted ---- */

enum { KILL = 1, ALLOW, REFUSE };

static const unsigned char *word(const struct seccomp_data *data, uint32_t at, uint32_t *value)
{
	assert_true(at + 4 <= sizeof *data);
	return memcpy(value, (const char *)data + at, 4);
}

static bool holds(const struct sock_filter *i, uint32_t a)
{
	switch (i->code) {
	case BPF_JMP | BPF_JEQ | BPF_K:
		return a == i->k;
	case BPF_JMP | BPF_JGE | BPF_K:
		return a >= i->k;
	case BPF_JMP | BPF_JGT | BPF_K:
		return a > i->k;
	default:
		assert_int_equal(i->code, BPF_JMP | BPF_JSET | BPF_K);
		return a & i->k;
	}
}

static uint32_t interpret(const struct sock_filter *filter, size_t count, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t at = 0; at < count; at++) {
		const struct sock_filter *i = &filter[at];
		if (i->code == (BPF_RET | BPF_K))
			return i->k;
		if (i->code == (BPF_LD | BPF_W | BPF_ABS))
			word(data, i->k, &a);
		else
			at += holds(i, a) ? i->jt : i->jf;
	}
	fail_msg("the filter has no end");
	return 0;
}

#if defined(__aarch64__)
enum { HERE = (int)AUDIT_ARCH_AARCH64, THERE = (int)AUDIT_ARCH_X86_64 };
#else
enum { HERE = (int)AUDIT_ARCH_X86_64, THERE = (int)AUDIT_ARCH_I386 };
#endif

static const struct filter_needs *needs = &(struct filter_needs){.pid = 4711, .channel = -1};

static int verdict(int machine, int number, const uint64_t *args)
{
	struct sock_filter filter[FILTER_ROOM];
	struct seccomp_data data = {.nr = number, .arch = (uint32_t)machine};
	size_t count = seccomp_filter(filter, needs);
	uint32_t action;

	assert_true(count > 0 && count <= FILTER_ROOM);
	memcpy(data.args, args, sizeof data.args);
	action = interpret(filter, count, &data);
	if (action == (SECCOMP_RET_ERRNO | ENOSYS))
		return REFUSE;
	assert_true(action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_KILL_PROCESS);
	return action == SECCOMP_RET_ALLOW ? ALLOW : KILL;
}

static int on_call(int number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return verdict(HERE, number, (uint64_t[6]){a, b, c, d});
}

static void need_filter(void)
{
	struct sock_filter filter[FILTER_ROOM];

	if (!seccomp_filter(filter, needs))
		skip_because("there is no filter for this machine");
}

static void test_the_filter_lets_serving_go_on_and_nothing_else(void **state)
{
	static const int good[] = {SYS_read,        SYS_write, SYS_writev, SYS_accept4,
				   SYS_epoll_pwait, SYS_close, SYS_brk,    SYS_exit_group};
	static const int bad[] = {SYS_execve,
				  SYS_execveat,
				  SYS_openat,
				  SYS_socket,
				  SYS_connect,
				  SYS_bind,
				  SYS_listen,
				  SYS_ptrace,
				  SYS_clone,
				  SYS_kill,
				  SYS_prctl,
				  SYS_sendmsg,
				  SYS_sendto,
				  SYS_dup3,
				  SYS_pidfd_open,
				  SYS_unlinkat,
				  SYS_process_vm_writev,
				  SYS_setuid,
				  SYS_mount,
				  SYS_memfd_create,
				  SYS_bpf,
				  SYS_perf_event_open,
				  SYS_userfaultfd,
				  425 /* io_uring_setup */,
				  437 /* openat2 */,
				  435 /* clone3 */,
				  -1};

	(void)state;
	need_filter();
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_int_equal(on_call(good[i], 0, 0, 0, 0), ALLOW);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (on_call(bad[i], 0, 0, 0, 0) != KILL)
			fail_msg("call %d is let through", bad[i]);
}

static void test_the_filter_is_short(void **state)
{
	unsigned allowed = 0;

	(void)state;
	need_filter();
	for (int number = 0; number < 470; number++)
		allowed += on_call(number, 0, 0, 0, MAP_ANONYMOUS) == ALLOW;
	if (allowed < 25 || allowed > 45)
		fail_msg("%u calls are allowed: SECURITY.md speaks of about forty", allowed);
}

static void test_the_filter_looks_at_arguments(void **state)
{
	uint64_t high = (uint64_t)1 << 32;

	(void)state;
	need_filter();
	assert_int_equal(on_call(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS), ALLOW);
	assert_int_equal(on_call(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS), KILL);
	assert_int_equal(on_call(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE), KILL);
	assert_int_equal(on_call(SYS_mprotect, 0, 4096, PROT_NONE, 0), ALLOW);
	assert_int_equal(on_call(SYS_mprotect, 0, 4096, PROT_READ | PROT_EXEC, 0), KILL);
	assert_int_equal(on_call(SYS_setsockopt, 9, SOL_SOCKET, SO_LINGER, 0), ALLOW);
	assert_int_equal(on_call(SYS_setsockopt, 9, SOL_SOCKET, SO_ATTACH_FILTER, 0), KILL);
	assert_int_equal(on_call(SYS_setsockopt, 9, IPPROTO_TCP, SO_LINGER, 0), KILL);
	assert_int_equal(on_call(SYS_ioctl, 9, SIOCOUTQ, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_ioctl, 0, TIOCSTI, 0, 0), KILL);
	assert_int_equal(on_call(SYS_recvfrom, 9, 0, 100, MSG_PEEK), ALLOW);
	assert_int_equal(on_call(SYS_recvfrom, 9, 0, 100, 0), KILL);
	assert_int_equal(on_call(SYS_fcntl, 0, F_GETFD, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_fcntl, 0, F_DUPFD, 0, 0), KILL);
	assert_int_equal(on_call(SYS_futex, 0, FUTEX_WAIT, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_futex, 0, FUTEX_WAKE_PRIVATE, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_futex, 0, FUTEX_REQUEUE, 0, 0), KILL);
	assert_int_equal(on_call(SYS_tgkill, 4711, 4711, SIGABRT, 0), ALLOW);
	assert_int_equal(on_call(SYS_tgkill, 4712, 4712, SIGABRT, 0), KILL);
	assert_int_equal(on_call(SYS_tgkill, high | 4711, 1, SIGABRT, 0), ALLOW); /* the kernel takes an int */
}

static void test_the_filter_knows_only_its_machine_and_its_time(void **state)
{
	static const uint64_t none[6];

	(void)state;
	need_filter();
	assert_int_equal(verdict(THERE, SYS_read, none), KILL);
	assert_int_equal(verdict(HERE, 0x40000000 | SYS_read, none), KILL);
	assert_int_equal(verdict(HERE, 469, none), KILL);
	assert_int_equal(verdict(HERE, 470, none), REFUSE);
	assert_int_equal(verdict(HERE, 0x3fffffff, none), REFUSE);
}

static void test_a_path_is_removed_only_where_there_is_one(void **state)
{
	static const struct filter_needs with = {.pid = 4711, .channel = -1, .unlink = true};
	const struct filter_needs *without = needs;

	(void)state;
	need_filter();
	needs = &with;
#ifdef SYS_unlink
	assert_int_equal(on_call(SYS_unlink, 0, 0, 0, 0), ALLOW);
#else
	assert_int_equal(on_call(SYS_unlinkat, 0, 0, 0, 0), ALLOW);
#endif
	needs = without;
#ifdef SYS_unlink
	assert_int_equal(on_call(SYS_unlink, 0, 0, 0, 0), KILL);
#endif
	assert_int_equal(on_call(SYS_unlinkat, 0, 0, 0, 0), KILL);
}

static void test_descriptors_come_over_the_channel_alone(void **state)
{
	static const struct filter_needs with = {.pid = 4711, .channel = 9};
	const struct filter_needs *without = needs;

	(void)state;
	need_filter();
	needs = &with;
	assert_int_equal(on_call(SYS_recvmsg, 9, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_recvmsg, 8, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_sendmsg, 9, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_fstat, 10, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_preadv2, 10, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_pread64, 10, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_sendfile, 9, 10, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_fadvise64, 10, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_setsockopt, 10, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0), ALLOW);
	assert_int_equal(on_call(SYS_setsockopt, 10, IPPROTO_TCP, TCP_MD5SIG, 0), KILL);
	assert_int_equal(on_call(SYS_pwrite64, 10, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_pwritev2, 10, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_fcntl, 10, F_GETFL, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_fcntl, 10, F_SETFL, 0, 0), KILL);
	needs = without;
	assert_int_equal(on_call(SYS_recvmsg, 9, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_preadv2, 10, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_sendfile, 9, 10, 0, 0), KILL);
	assert_int_equal(on_call(SYS_fstat, 10, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_fcntl, 10, F_GETFL, 0, 0), KILL);
}

static void test_packets_come_and_go_by_the_sockets_of_http3_alone(void **state)
{
	static const struct filter_needs with = {.pid = 4711, .channel = -1, .udp = {7, 9, 12}, .udp_count = 3, .unlink = true};
	const struct filter_needs *without = needs;

	(void)state;
	need_filter();
	needs = &with;
	for (uint64_t fd = 0; fd < 20; fd++) {
		int expected = fd == 7 || fd == 9 || fd == 12 ? ALLOW : KILL;
		assert_int_equal(on_call(SYS_recvmmsg, fd, 0, 0, 0), expected);
		assert_int_equal(on_call(SYS_sendmsg, fd, 0, 0, 0), expected);
		assert_int_equal(on_call(SYS_sendmmsg, fd, 0, 0, 0), KILL);
		assert_int_equal(on_call(SYS_sendto, fd, 0, 0, 0), KILL);
		assert_int_equal(on_call(SYS_recvmsg, fd, 0, 0, 0), KILL);
	}
	assert_int_equal(on_call(SYS_socket, 0, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_read, 0, 0, 0, 0), ALLOW);
#ifdef SYS_unlink
	assert_int_equal(on_call(SYS_unlink, 0, 0, 0, 0), ALLOW); /* a rule behind these */
#endif
	needs = without;
	assert_int_equal(on_call(SYS_recvmmsg, 7, 0, 0, 0), KILL);
	assert_int_equal(on_call(SYS_sendmsg, 7, 0, 0, 0), KILL);
}

/* The filter has room for the most sockets that there can be. */
static void test_the_filter_holds_all_sockets_of_http3(void **state)
{
	static struct filter_needs with = {.pid = 4711, .channel = 200, .unlink = true, .udp_count = LISTENERS_MAX};
	const struct filter_needs *without = needs;

	(void)state;
	need_filter();
	for (int i = 0; i < LISTENERS_MAX; i++)
		with.udp[i] = 10 + i;
	needs = &with;
	assert_int_equal(on_call(SYS_sendmsg, 10, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_sendmsg, 10 + LISTENERS_MAX - 1, 0, 0, 0), ALLOW);
	assert_int_equal(on_call(SYS_sendmsg, 10 + LISTENERS_MAX, 0, 0, 0), KILL);
	needs = without;
}

/* ---- the filter, for real ---- */

static int file, parent, packets, others;

static long try_execve(void)
{
	char *argv[] = {"true", NULL};

	return execve("/bin/true", argv, NULL);
}

static long try_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long try_connect(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return connect(file, (struct sockaddr *)&a, sizeof a);
}

static long send_by(int fd)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct iovec iov = {"x", 1};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &iov, .msg_iovlen = 1};

	return sendmsg(fd, &m, 0);
}

static long receive_by(int fd)
{
	return recvmmsg(fd, NULL, 0, MSG_DONTWAIT, NULL);
}

/* On a socket that is not one of HTTP/3. */
static long try_packet(void)
{
	return send_by(others);
}

static long try_receive(void)
{
	return receive_by(others);
}

static long try_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
}

static long try_io_uring(void)
{
	return syscall(425, 8, NULL);
}

static long try_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long try_kill(void)
{
	return kill(parent, 0);
}

static long try_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static long try_map_file(void)
{
	return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0) == MAP_FAILED;
}

static const struct {
	const char *name;
	long (*deed)(void);
} crimes[] = {
	{"execve", try_execve},           {"open", try_open},      {"socket", try_socket},
	{"connect", try_connect},         {"ptrace", try_ptrace},  {"clone", try_fork},
	{"io_uring", try_io_uring},       {"kill", try_kill},      {"mmap of code", try_code},
	{"mmap of a file", try_map_file}, {"sendmsg", try_packet}, {"recvmmsg", try_receive},
};

static long (*crime)(void);

static int commit_crime(void)
{
	no_new_privs_set();
	if (seccomp_enter(&config) != 0)
		return 2;
	crime();
	return 1;
}

/* A socket of HTTP/3, and another of the same kind. */
static void open_packets(void)
{
	packets = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	others = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	config.listeners[0].http3 = true;
	config.listeners[0].udp = packets;
}

static int exchange_packets(void)
{
	CHECK(no_new_privs_set() == 0 && seccomp_enter(&config) == 0);
	CHECK(send_by(packets) == 1 && receive_by(packets) == 0);
	return 0;
}

static void test_what_a_server_has_no_business_with_kills(void **state)
{
	(void)state;
	need_bare_machine();
	file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	parent = getpid();
	open_packets();
	for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
		int status;
		crime = crimes[i].deed;
		status = in_child(commit_crime);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: status %#x, no SIGSYS", crimes[i].name, status);
	}
	if (!LEFT_OUT) /* sanitizers make calls of their own */
		expect_well_in_child(exchange_packets);
	close(file);
	close(packets);
	close(others);
}

static int listener_fd, loop_fd;

static int serve_a_little(void)
{
	struct linger now = {1, 0};
	struct epoll_event event = {.events = EPOLLIN};
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	char *memory;

	CHECK(getsockname(listener_fd, (struct sockaddr *)&a, &len) == 0);
	CHECK(connect(client, (struct sockaddr *)&a, len) == 0);
	CHECK(no_new_privs_set() == 0 && seccomp_enter(&config) == 0);
	CHECK(epoll_ctl(loop_fd, EPOLL_CTL_ADD, listener_fd, &event) == 0);
	CHECK(epoll_wait(loop_fd, &event, 1, 1000) == 1);
	fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && shutdown(fd, SHUT_WR) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && close(fd) == 0);
	fd = eventfd(0, EFD_CLOEXEC);
	CHECK(fd >= 0 && close(fd) == 0);
	memory = malloc(1 << 24);
	CHECK(memory != NULL);
	memory = realloc(memory, 1 << 25);
	CHECK(memory != NULL);
	free(memory);
	return 0;
}

static int break_a_promise(void)
{
	CHECK(no_new_privs_set() == 0 && rlimits_lower() == 0 && seccomp_enter(&config) == 0);
	abort();
}

static void test_serving_goes_on_and_abort_is_still_abort(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int status;

	(void)state;
	if (LEFT_OUT)
		skip_because("sanitizers have a malloc and an abort of their own");
	need_bare_machine();
	listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(bind(listener_fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listener_fd, 5), 0);
	expect_well_in_child(serve_a_little);
	status = in_child(break_a_promise);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
		fail_msg("status %#x, no SIGABRT", status);
	close(listener_fd);
	close(loop_fd);
}

/* ---- Landlock ---- */

static void need_landlock(void)
{
	if (landlock_abi() < 0)
		skip_because("the kernel has no Landlock");
}

static bool make_file(const char *in, const char *name, char *path, size_t size)
{
	int fd;

	snprintf(path, size, "%s/%s", in, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	return fd >= 0 && close(fd) == 0;
}

static int look_around(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char mine[100], theirs[100];
	unsigned abi = 0;

	CHECK(make_file(folder, "s", mine, sizeof mine) && make_file(other, "s", theirs, sizeof theirs));
	CHECK(no_new_privs_set() == 0 && landlock_enter(&config, &abi) == 0 && abi >= 1);
	CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	CHECK(open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	CHECK(open(mine, O_RDONLY) < 0 && errno == EACCES);
	CHECK(mkdir("/tmp/sparx-no", 0700) < 0 && errno == EACCES);
	CHECK(unlink(theirs) < 0 && errno == EACCES);
	CHECK(unlink(mine) == 0);
	if (abi >= 4) {
		CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno == EACCES);
		a.sin_port = htons(54321);
		CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno == EACCES);
	}
	if (abi >= 6)
		CHECK(kill(parent, 0) < 0 && errno == EPERM);
	return 0;
}

static void remove_files(const char *in)
{
	char path[100];

	snprintf(path, sizeof path, "%s/s", in);
	unlink(path);
	rmdir(in);
}

static void test_landlock_leaves_the_folder_of_a_unix_socket(void **state)
{
	(void)state;
	need_landlock();
	assert_non_null(mkdtemp(folder));
	assert_non_null(mkdtemp(other));
	parent = getpid();
	snprintf(config.listeners[0].address, sizeof config.listeners[0].address, "unix:%s/s", folder);
	expect_well_in_child(look_around);
	remove_files(folder);
	remove_files(other);
}

static void test_landlock_rules_of_every_version_are_taken(void **state)
{
	int abi = landlock_abi();

	(void)state;
	need_landlock();
	snprintf(config.listeners[0].address, sizeof config.listeners[0].address, "unix:s"); /* in the working directory */
	for (int version = 1; version <= abi; version++) {
		int rules = landlock_rules(version, &config);
		if (rules < 0)
			fail_msg("version %d: %s", version, strerror(-rules));
		close(rules);
	}
	snprintf(config.listeners[0].address, sizeof config.listeners[0].address, "unix:/no/such/folder/s");
	close(landlock_rules(abi, &config));
}

/* ---- the process ---- */

static uint64_t limit_of(unsigned resource)
{
	struct rlimit limit;

	return getrlimit(resource, &limit) == 0 ? limit.rlim_max : UINT64_MAX;
}

static int lose_limits(void)
{
	int fds[2];

	CHECK(pipe(fds) == 0 && dup2(fds[1], 2) == 2);
	CHECK(rlimits_lower() == 0);
	CHECK(limit_of(RLIMIT_CORE) == 0 && limit_of(RLIMIT_NPROC) == 0 && limit_of(RLIMIT_FSIZE) == 0);
	return 0;
}

static int keep_a_log(void)
{
	char path[] = "/tmp/sparx-stderr-XXXXXX";
	int fd = mkstemp(path);
	uint64_t before = limit_of(RLIMIT_FSIZE);

	CHECK(fd >= 0 && unlink(path) == 0 && dup2(fd, 2) == 2 && close(fd) == 0);
	CHECK(rlimits_lower() == 0);
	CHECK(limit_of(RLIMIT_CORE) == 0 && limit_of(RLIMIT_FSIZE) == before);
	return dprintf(2, "a line") == 6 ? 0 : 1;
}

static void test_limits_and_a_log_that_goes_on(void **state)
{
	(void)state;
	expect_well_in_child(lose_limits);
	expect_well_in_child(keep_a_log);
}

static bool has_no_capability(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}, {0}};

	data[0].effective = 1; /* to be overwritten */
	return syscall(SYS_capget, &head, data) == 0 && !data[0].effective && !data[0].permitted && !data[0].inheritable &&
	       !data[1].effective && !data[1].permitted && !data[1].inheritable;
}

static int lose_capabilities(void)
{
	bool root = geteuid() == 0 && prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1;

	capabilities_bound();
	CHECK(capabilities_clear() == 0 && has_no_capability());
	CHECK(!root || prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0);
	CHECK(no_new_privs_set() == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(dumpable_clear() == 0 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	return 0;
}

static void test_no_capability_no_privilege_no_dump(void **state)
{
	(void)state;
	expect_well_in_child(lose_capabilities);
}

/* ---- the user ---- */

static bool is_wholly(uid_t uid)
{
	uid_t u[3];
	gid_t g[3];

	return getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0 && u[0] == uid && u[1] == uid &&
	       u[2] == uid && g[0] != 0 && g[1] != 0 && g[2] != 0 && getgroups(0, NULL) == 0;
}

static int become_nobody(void)
{
	const struct passwd *nobody = getpwnam("nobody");

	CHECK(nobody && sandbox_enter(&sandbox, &config, &fault));
	CHECK(sandbox_has(sandbox.in_force, SANDBOX_USER) && is_wholly(nobody->pw_uid) && has_no_capability());
	CHECK(setuid(0) != 0);
	return 0;
}

static int stay_nobody(void)
{
	const struct passwd *nobody = getpwnam("nobody");

	CHECK(nobody && user_become(nobody) == 0);
	CHECK(sandbox_enter(&sandbox, &config, &fault) && sandbox_has(sandbox.in_force, SANDBOX_USER));
	snprintf(config.user, sizeof config.user, "root");
	CHECK(sandbox_enter(&sandbox, &config, &fault) && sandbox_has(sandbox.missing, SANDBOX_USER));
	CHECK(strcmp(sandbox.why[SANDBOX_USER], "only root can switch to another user") == 0);
	config.sandbox = SANDBOX_STRICT;
	CHECK(!sandbox_enter(&sandbox, &config, &fault) && strcmp(fault.field, "sandbox") == 0);
	CHECK(strcmp(fault.rule, "user: only root can switch to another user") == 0);
	return 0;
}

static int lack_the_right(void)
{
	CHECK(capabilities_clear() == 0 && !sandbox_enter(&sandbox, &config, &fault));
	CHECK(strcmp(fault.field, "user") == 0 && strcmp(fault.rule, "cannot switch to it: Operation not permitted") == 0);
	return 0;
}

static void test_root_becomes_another_user(void **state)
{
	(void)state;
	if (geteuid() != 0 || prctl(PR_CAPBSET_READ, CAP_SETUID, 0, 0, 0) != 1)
		skip_because("only root can switch to another user");
	config.sandbox = SANDBOX_OFF; /* the user is an option of its own */
	snprintf(config.user, sizeof config.user, "nobody");
	expect_well_in_child(become_nobody);
	expect_well_in_child(stay_nobody);
	expect_well_in_child(lack_the_right);
}

static void test_a_user_that_is_not_there_is_refused_in_every_mode(void **state)
{
	(void)state;
	snprintf(config.user, sizeof config.user, "no such user");
	config.sandbox = SANDBOX_OFF;
	assert_false(sandbox_enter(&sandbox, &config, &fault));
	assert_string_equal(fault.field, "user");
	assert_string_equal(fault.rule, "there is no such user");
}

/* ---- the modes ---- */

static void test_off_changes_nothing(void **state)
{
	(void)state;
	config.sandbox = SANDBOX_OFF;
	assert_true(sandbox_enter(&sandbox, &config, &fault));
	assert_int_equal(sandbox.in_force | sandbox.missing, 0);
	assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

enum { ALL = (1 << SANDBOX_PARTS) - 1 - (1 << SANDBOX_USER), WITHOUT_LANDLOCK = ALL - (1 << SANDBOX_LANDLOCK) };

/* A kernel without Landlock. */
static bool forget_landlock(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

	return no_new_privs_set() == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int go_without_landlock(void)
{
	CHECK(forget_landlock() && sandbox_enter(&sandbox, &config, &fault));
	CHECK(sandbox.in_force == WITHOUT_LANDLOCK && sandbox.missing == 1 << SANDBOX_LANDLOCK && sandbox.landlock_abi == 0);
	CHECK(strcmp(sandbox.why[SANDBOX_LANDLOCK], "Function not implemented") == 0);
	return 0;
}

static int insist_on_landlock(void)
{
	CHECK(forget_landlock() && !sandbox_enter(&sandbox, &config, &fault));
	CHECK(strcmp(fault.field, "sandbox") == 0 && strcmp(fault.rule, "landlock: Function not implemented") == 0);
	return 0;
}

static int have_it_all(void)
{
	CHECK(sandbox_enter(&sandbox, &config, &fault));
	CHECK(sandbox.in_force == ALL && sandbox.missing == 0 && sandbox.landlock_abi >= 1);
	return 0;
}

static int have_nothing(void)
{
	CHECK(sandbox_enter(&sandbox, &config, &fault) && sandbox.in_force == 0 && sandbox.missing == ALL);
	CHECK(strcmp(sandbox.why[SANDBOX_SECCOMP], "left out of this build") == 0);
	config.sandbox = SANDBOX_STRICT;
	CHECK(!sandbox_enter(&sandbox, &config, &fault));
	CHECK(strcmp(fault.rule, "capabilities: left out of this build") == 0);
	return 0;
}

static void test_best_effort_goes_without_and_strict_does_not(void **state)
{
	(void)state;
	if (LEFT_OUT) {
		expect_well_in_child(have_nothing);
		return;
	}
	need_bare_machine();
	expect_well_in_child(go_without_landlock);
	config.sandbox = SANDBOX_STRICT;
	expect_well_in_child(insist_on_landlock);
	need_landlock();
	expect_well_in_child(have_it_all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_the_filter_lets_serving_go_on_and_nothing_else, setup),
		cmocka_unit_test_setup(test_the_filter_is_short, setup),
		cmocka_unit_test_setup(test_the_filter_looks_at_arguments, setup),
		cmocka_unit_test_setup(test_the_filter_knows_only_its_machine_and_its_time, setup),
		cmocka_unit_test_setup(test_a_path_is_removed_only_where_there_is_one, setup),
		cmocka_unit_test_setup(test_descriptors_come_over_the_channel_alone, setup),
		cmocka_unit_test_setup(test_packets_come_and_go_by_the_sockets_of_http3_alone, setup),
		cmocka_unit_test_setup(test_the_filter_holds_all_sockets_of_http3, setup),
		cmocka_unit_test_setup(test_what_a_server_has_no_business_with_kills, setup),
		cmocka_unit_test_setup(test_serving_goes_on_and_abort_is_still_abort, setup),
		cmocka_unit_test_setup(test_landlock_leaves_the_folder_of_a_unix_socket, setup),
		cmocka_unit_test_setup(test_landlock_rules_of_every_version_are_taken, setup),
		cmocka_unit_test_setup(test_limits_and_a_log_that_goes_on, setup),
		cmocka_unit_test_setup(test_no_capability_no_privilege_no_dump, setup),
		cmocka_unit_test_setup(test_root_becomes_another_user, setup),
		cmocka_unit_test_setup(test_a_user_that_is_not_there_is_refused_in_every_mode, setup),
		cmocka_unit_test_setup(test_off_changes_nothing, setup),
		cmocka_unit_test_setup(test_best_effort_goes_without_and_strict_does_not, setup),
	};

	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
