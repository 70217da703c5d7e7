/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox on other systems: the user and the limits of POSIX. READY names the missing parts. */
#include <errno.h>
#include <grp.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sandbox/parts.h"

void capabilities_bound(void)
{
}

int capabilities_clear(void)
{
	return ENOSYS;
}

/* From root, setuid changes the saved id too. */
int user_become(const struct passwd *user)
{
	if (setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
		return errno;
	return 0;
}

int no_new_privs_set(void)
{
	return ENOSYS;
}

int dumpable_clear(void)
{
	return ENOSYS;
}

int rlimits_lower(void)
{
	static const struct rlimit none = {0, 0};

	return setrlimit(RLIMIT_CORE, &none) == 0 ? 0 : errno;
}

int landlock_enter(const struct config *config, unsigned *abi)
{
	(void)config;
	*abi = 0;
	return ENOSYS;
}

int seccomp_enter(const struct config *config)
{
	(void)config;
	return ENOSYS;
}
