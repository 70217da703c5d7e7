/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process gives up once its listeners are bound: an attacker who takes it over can open no file, create no socket, and
 * start no program. The parts are independent; the kernel may lack some.
 */
#ifndef SPARX_SANDBOX_SANDBOX_H
#define SPARX_SANDBOX_SANDBOX_H

#include "config.h"

enum sandbox_part {
	SANDBOX_USER,         /* another user, no groups; only if the option names one */
	SANDBOX_CAPABILITIES, /* none */
	SANDBOX_NO_NEW_PRIVS, /* and no way to gain any */
	SANDBOX_DUMPABLE,     /* no core, no debugger of the same user, no /proc/PID/mem */
	SANDBOX_RLIMITS,      /* no core, no process, no byte in a file */
	SANDBOX_LANDLOCK,     /* no file system, no new TCP sockets, no signals and abstract sockets outside */
	SANDBOX_SECCOMP,      /* only the system calls that serving needs */
	SANDBOX_PARTS,
};

struct sandbox {
	uint8_t mode;          /* enum sandbox_mode */
	uint8_t in_force;      /* a bit for each part */
	uint8_t missing;       /* a bit for each part that is wanted and missing */
	unsigned landlock_abi; /* 0: not in force */
	char why[SANDBOX_PARTS][96];
};

const char *sandbox_part_name(enum sandbox_part part);
bool sandbox_has(uint8_t parts, enum sandbox_part part);

/*
 * Enters the sandbox, permanently. False: the program must not serve, and *fault says why: a part that the option `sandbox`
 * requires is missing, or root could not switch to the user.
 */
bool sandbox_enter(struct sandbox *s, const struct config *config, struct config_fault *fault);

#endif
