/*
 * What the process gives up once its listeners are bound: whoever takes it over by a fault of its parsers finds no file,
 * no new socket, no program to start. The parts are independent; the kernel may lack some.
 */
#ifndef SPARX_SANDBOX_SANDBOX_H
#define SPARX_SANDBOX_SANDBOX_H

#include "config.h"

enum sandbox_part {
	SANDBOX_USER,         /* another user, no groups; only if the option names one */
	SANDBOX_CAPABILITIES, /* none */
	SANDBOX_NO_NEW_PRIVS, /* nor any to be had */
	SANDBOX_DUMPABLE,     /* no core, no debugger of the same user, no /proc/PID/mem */
	SANDBOX_RLIMITS,      /* no core, no process, no byte in a file */
	SANDBOX_LANDLOCK,     /* no file system, no TCP but what is bound, no signals and abstract sockets outside */
	SANDBOX_SECCOMP,      /* no system call but those that serving needs */
	SANDBOX_PARTS,
};

struct sandbox {
	uint8_t mode;          /* enum sandbox_mode */
	uint8_t in_force;      /* a bit for each part */
	uint8_t missing;       /* the same: wanted, and not to be had */
	unsigned landlock_abi; /* 0: not in force */
	char why[SANDBOX_PARTS][96];
};

const char *sandbox_part_name(enum sandbox_part part);
bool sandbox_has(uint8_t parts, enum sandbox_part part);

/*
 * Enters it, for good. False: what is in force must not be taken for enough, and *fault says why: a part is missing that
 * the option `sandbox` insists on, or root could not become the user that it was to become.
 */
bool sandbox_enter(struct sandbox *s, const struct config *config, struct config_fault *fault);

#endif
