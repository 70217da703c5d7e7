/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that are allowed. It is a table, and a filter that only walks through it, so no library is needed. Any other
 * call kills the process (SIGSYS).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

enum {
	X32 = 0x40000000, /* the bit that marks the x32 numbers of calls on x86-64 */
	/*
	 * Calls with higher numbers are newer than this table and get ENOSYS, so that a newer C library falls back to the
	 * older call.
	 */
	LAST_KNOWN = 469,
	CHECKS_MAX = 2,
};

enum what { ALWAYS, IS, HAS, LACKS };

struct rule {
	int number;
	struct check {
		uint8_t what;  /* enum what; ALWAYS: no check */
		uint8_t field; /* position of the argument; its lower half is checked */
		uint32_t value;
	} check[CHECKS_MAX];
};

/* The calls of each request come first: older kernels walk through the filter at every call. */
static const struct rule rules[] = {
	{SYS_read, {{0}}},        /* sockets, the pipe */
	{SYS_write, {{0}}},       /* sockets; what a library prints to stderr */
	{SYS_writev, {{0}}},      /* sockets, the pipe */
	{SYS_epoll_ctl, {{0}}},   /* the loop */
	{SYS_epoll_pwait, {{0}}}, /* the loop; the only one on aarch64 */
#ifdef SYS_epoll_wait
	{SYS_epoll_wait, {{0}}}, /* the loop */
#endif
#ifdef SYS_epoll_pwait2
	{SYS_epoll_pwait2, {{0}}}, /* a newer libev */
#endif
	{SYS_accept4, {{0}}},                /* connections */
	{SYS_recvfrom, {{IS, 3, MSG_PEEK}}}, /* the PROXY header before the first byte */
	{SYS_close, {{0}}},                  /* their end */
	{SYS_shutdown, {{0}}},               /* the same, in good order */
	{SYS_clock_gettime, {{0}}},          /* if the vDSO cannot be used */
#ifdef SYS_poll
	{SYS_poll, {{0}}}, /* whether there is a connection to accept; the last messages to the host */
#endif
	{SYS_ppoll, {{0}}},       /* the same on aarch64 */
	{SYS_brk, {{0}}},         /* malloc */
	{SYS_munmap, {{0}}},      /* malloc */
	{SYS_mremap, {{0}}},      /* realloc */
	{SYS_madvise, {{0}}},     /* malloc; the pages of HTTP/2 */
	{SYS_getsockname, {{0}}}, /* READY's names of the listeners */
	{SYS_getpid, {{0}}},      /* READY; abort */
	{SYS_gettid, {{0}}},      /* abort */
	{SYS_getrandom, {{0}}},   /* malloc's first use */
	{SYS_eventfd2, {{0}}},    /* the reserve descriptor, to turn connections away when there is no other */
	{SYS_gettimeofday, {{0}}},
#ifdef SYS_time
	{SYS_time, {{0}}}, /* as clock_gettime */
#endif
	{SYS_rt_sigreturn, {{0}}},    /* back from SIGTERM */
	{SYS_rt_sigaction, {{0}}},    /* the end of the loop; abort */
	{SYS_rt_sigprocmask, {{0}}},  /* abort */
	{SYS_restart_syscall, {{0}}}, /* after SIGSTOP and SIGCONT */
	{SYS_exit_group, {{0}}},      /* the end */
	{SYS_exit, {{0}}},
	/* Memory that is not of a file, and never code */
	{SYS_mmap, {{LACKS, 2, PROT_EXEC}, {HAS, 3, MAP_ANONYMOUS}}},
	{SYS_mprotect, {{LACKS, 2, PROT_EXEC}}},
	/* To cut a connection with a reset */
	{SYS_setsockopt, {{IS, 1, SOL_SOCKET}, {IS, 2, SO_LINGER}}},
	/* How much a slow peer has taken */
	{SYS_ioctl, {{IS, 1, SIOCOUTQ}}},
	/* libev asks so whether a descriptor is valid */
	{SYS_fcntl, {{IS, 1, F_GETFD}}},
	/* Locks of the C library: only waiting and waking */
	{SYS_futex, {{LACKS, 1, ~(uint32_t)(FUTEX_WAKE | FUTEX_PRIVATE_FLAG)}}},
};

struct writer {
	struct sock_filter *at, *end;
};

static void put(struct writer *w, struct sock_filter instruction)
{
	assert(w->at < w->end);
	*w->at++ = instruction;
}

static void load(struct writer *w, size_t offset)
{
	put(w, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void end_with(struct writer *w, uint32_t action)
{
	put(w, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* Continues if the check holds; else skips n instructions. Both architectures are little-endian: the lower half comes first. */
static void put_check(struct writer *w, const struct check *c, uint8_t skip)
{
	uint8_t then = c->what == LACKS ? skip : 0, otherwise = c->what == LACKS ? 0 : skip;
	uint16_t compare = c->what == IS ? BPF_JEQ : BPF_JSET;

	load(w, offsetof(struct seccomp_data, args) + 8u * c->field);
	put(w, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | BPF_K | compare), c->value, then, otherwise));
}

/* The number is in the accumulator before and after. */
static void put_rule(struct writer *w, const struct rule *rule)
{
	unsigned checks = 0;

	while (checks < CHECKS_MAX && rule->check[checks].what != ALWAYS)
		checks++;
	put(w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rule->number, 0,
					    (uint8_t)(checks ? 2 * checks + 2 : 1)));
	for (unsigned i = 0; i < checks; i++)
		put_check(w, &rule->check[i], (uint8_t)(2 * (checks - i) - 1));
	end_with(w, SECCOMP_RET_ALLOW);
	if (checks)
		load(w, offsetof(struct seccomp_data, nr));
}

/* Descriptors come only over the channel, and only files that cannot be written are accepted. */
static void put_channel(struct writer *w, uint32_t channel)
{
	put_rule(w, &(struct rule){SYS_recvmsg, {{IS, 0, channel}}});
	put_rule(w, &(struct rule){SYS_preadv2, {{0}}});   /* reads a file, without waiting for a disk */
	put_rule(w, &(struct rule){SYS_sendfile, {{0}}});  /* the same to a socket */
	put_rule(w, &(struct rule){SYS_pread64, {{0}}});   /* if the file system cannot say whether it would wait */
	put_rule(w, &(struct rule){SYS_fadvise64, {{0}}}); /* asks the system to read ahead */
	put_rule(w, &(struct rule){SYS_setsockopt,
				   {{IS, 1, IPPROTO_TCP},
				    {IS, 2, TCP_NOTSENT_LOWAT}}});  /* more unsent bytes are allowed for files than for memory */
	put_rule(w, &(struct rule){SYS_fstat, {{0}}});              /* is it a file? */
	put_rule(w, &(struct rule){SYS_fcntl, {{IS, 1, F_GETFL}}}); /* open for reading only? */
}

/* HTTP/3: packets in both directions use these sockets. On other descriptors these calls could pass descriptors on. */
static void put_packets(struct writer *w, const int *sockets, unsigned count)
{
	put(w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_recvmmsg, 1, 0));
	put(w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendmsg, 0, (uint8_t)(count + 3)));
	load(w, offsetof(struct seccomp_data, args));
	for (unsigned i = 0; i < count; i++)
		put(w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)sockets[i], (uint8_t)(count - i), 0));
	end_with(w, SECCOMP_RET_KILL_PROCESS);
	end_with(w, SECCOMP_RET_ALLOW);
}

static void put_needs(struct writer *w, const struct filter_needs *needs)
{
	put_rule(w, &(struct rule){SYS_tgkill, {{IS, 0, needs->pid}}});
	put_rule(w, &(struct rule){SYS_tkill, {{IS, 0, needs->pid}}});
	if (needs->channel >= 0)
		put_channel(w, (uint32_t)needs->channel);
	if (needs->udp_count > 0)
		put_packets(w, needs->udp, needs->udp_count);
	if (!needs->unlink)
		return;
#ifdef SYS_unlink
	put_rule(w, &(struct rule){SYS_unlink, {{0}}});
#else
	put_rule(w, &(struct rule){SYS_unlinkat, {{0}}});
#endif
}

size_t seccomp_filter(struct sock_filter *filter, const struct filter_needs *needs)
{
	struct writer w = {filter, filter + FILTER_ROOM};

	if (MACHINE == 0)
		return 0;
	load(&w, offsetof(struct seccomp_data, arch));
	put(&w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0));
	end_with(&w, SECCOMP_RET_KILL_PROCESS);
	load(&w, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		put_rule(&w, &rules[i]);
	put_needs(&w, needs);
	put(&w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 2, 0));
	put(&w, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST_KNOWN, 0, 1));
	end_with(&w, SECCOMP_RET_ERRNO | ENOSYS);
	end_with(&w, SECCOMP_RET_KILL_PROCESS);
	return (size_t)(w.at - filter);
}

int seccomp_enter(const struct config *config)
{
	struct filter_needs needs = {.pid = (uint32_t)getpid(), .channel = config->channel};
	struct sock_filter filter[FILTER_ROOM];
	struct sock_fprog program = {.filter = filter};

	for (unsigned i = 0; i < config->listener_count; i++) {
		needs.unlink |= listener_file(&config->listeners[i]) != NULL;
		if (config->listeners[i].http3 && config->listeners[i].udp >= 0)
			needs.udp[needs.udp_count++] = config->listeners[i].udp;
	}
	program.len = (unsigned short)seccomp_filter(filter, &needs);
	if (program.len == 0)
		return EOPNOTSUPP;
	/* Restricting speculation protects a process from untrusted code inside it; here there is none. */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0 ? 0 : errno;
}
