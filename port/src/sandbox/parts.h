/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the sandbox, one by one. Each returns 0, or an errno. */
#ifndef SPARX_SANDBOX_PARTS_H
#define SPARX_SANDBOX_PARTS_H

#include <pwd.h>

#include "config.h"

/* ---- identity.c ---- */

/* No capability can come back by execve. Only root may do this; it is not a separate part. */
void capabilities_bound(void);
int capabilities_clear(void);
int user_become(const struct passwd *user);

/* ---- process.c ---- */

int no_new_privs_set(void);
int dumpable_clear(void);
int rlimits_lower(void);

/* ---- landlock.c ---- */

/* The kernel's version of Landlock; negative: an errno, there is none. */
int landlock_abi(void);
/* A descriptor of the rules for this configuration; negative: an errno. */
int landlock_rules(int abi, const struct config *config);
int landlock_enter(const struct config *config, unsigned *abi);

/* ---- seccomp.c ---- */

enum { FILTER_ROOM = 384 };

struct sock_filter;

struct filter_needs {
	uint32_t pid; /* the only process that may be sent a signal: itself, by abort */
	bool unlink;  /* of a unix socket's path */
	int channel;  /* from which descriptors may be received; -1: none */
	/* sockets of HTTP/3, for packets in both directions; none without HTTP/3 */
	unsigned udp_count;
	int udp[LISTENERS_MAX];
};

/* The filter, into room for FILTER_ROOM instructions. 0: there is none for this machine. */
size_t seccomp_filter(struct sock_filter *filter, const struct filter_needs *needs);
int seccomp_enter(const struct config *config);

#endif
