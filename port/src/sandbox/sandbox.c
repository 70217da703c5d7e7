/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/parts.h"

static const char *const names[SANDBOX_PARTS] = {
	[SANDBOX_USER] = "user",         [SANDBOX_CAPABILITIES] = "capabilities", [SANDBOX_NO_NEW_PRIVS] = "no_new_privs",
	[SANDBOX_DUMPABLE] = "dumpable", [SANDBOX_RLIMITS] = "rlimits",           [SANDBOX_LANDLOCK] = "landlock",
	[SANDBOX_SECCOMP] = "seccomp",
};

/* Sanitizers, valgrind and coverage write files, start threads and look into processes: their builds leave the parts out. */
#ifdef SANDBOX_LEFT_OUT
enum { LEFT_OUT = 1 };
#else
enum { LEFT_OUT = 0 };
#endif

const char *sandbox_part_name(enum sandbox_part part)
{
	return names[part];
}

bool sandbox_has(uint8_t parts, enum sandbox_part part)
{
	return parts >> part & 1;
}

static bool fault_of(struct config_fault *fault, const char *field, const char *what, const char *why)
{
	snprintf(fault->field, sizeof fault->field, "%s", field);
	snprintf(fault->rule, sizeof fault->rule, "%s%s%s", what, *what ? ": " : "", why);
	return false;
}

static void lacks(struct sandbox *s, enum sandbox_part part, const char *why)
{
	s->missing |= (uint8_t)(1u << part);
	snprintf(s->why[part], sizeof s->why[part], "%s", why);
}

static void note(struct sandbox *s, enum sandbox_part part, int error)
{
	if (error == 0)
		s->in_force |= (uint8_t)(1u << part);
	else
		lacks(s, part, strerror(error));
}

/* If the option says to give up root and that fails, the program refuses to start in every mode. Other users cannot switch, and
 * go on. */
static bool change_user(struct sandbox *s, const struct config *config, struct config_fault *fault)
{
	const struct passwd *user;
	int error;

	if (!config->user[0])
		return true;
	user = getpwnam(config->user);
	if (!user)
		return fault_of(fault, "user", "", "there is no such user");
	error = geteuid() == user->pw_uid && geteuid() != 0 ? 0 : user_become(user);
	if (error && geteuid() == 0)
		return fault_of(fault, "user", "cannot switch to it", strerror(error));
	if (error)
		lacks(s, SANDBOX_USER, "only root can switch to another user");
	else
		note(s, SANDBOX_USER, 0);
	return true;
}

static int enter_part(struct sandbox *s, enum sandbox_part part, const struct config *config)
{
	switch (part) {
	case SANDBOX_CAPABILITIES:
		return capabilities_clear();
	case SANDBOX_NO_NEW_PRIVS:
		return no_new_privs_set();
	case SANDBOX_DUMPABLE:
		return dumpable_clear();
	case SANDBOX_RLIMITS:
		return rlimits_lower();
	case SANDBOX_LANDLOCK:
		return landlock_enter(config, &s->landlock_abi);
	case SANDBOX_SECCOMP:
		return seccomp_enter(config);
	default:
		return 0;
	}
}

static void enter_parts(struct sandbox *s, const struct config *config)
{
	for (enum sandbox_part part = SANDBOX_CAPABILITIES; part < SANDBOX_PARTS; part++)
		if (LEFT_OUT)
			lacks(s, part, "left out of this build");
		else
			note(s, part, enter_part(s, part, config));
}

static int same(const void *a, const void *b)
{
	(void)a;
	(void)b;
	return 0;
}

/* Calls functions that open files, or make calls that are not in the filter, at their first use. */
static void open_early(void)
{
	char more_than_the_stack_takes[2048] = "";

	tzset(); /* gmtime_r reads the time zone */
	/* glibc asks how much memory the machine has before it sorts more than 1 KiB */
	qsort(more_than_the_stack_takes, sizeof more_than_the_stack_takes, 1, same);
}

bool sandbox_enter(struct sandbox *s, const struct config *config, struct config_fault *fault)
{
	memset(s, 0, sizeof *s);
	s->mode = config->sandbox;
	open_early();
	if (s->mode != SANDBOX_OFF && !LEFT_OUT)
		capabilities_bound();
	if (!change_user(s, config, fault))
		return false;
	if (s->mode != SANDBOX_OFF)
		enter_parts(s, config);
	for (enum sandbox_part part = 0; part < SANDBOX_PARTS && s->mode == SANDBOX_STRICT; part++)
		if (sandbox_has(s->missing, part))
			return fault_of(fault, "sandbox", names[part], s->why[part]);
	return true;
}
