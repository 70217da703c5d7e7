/* SPDX-License-Identifier: Apache-2.0 */
/* The identity of the process: user, groups, capabilities. */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

enum { CAPABILITIES_MAX = 64 };

void capabilities_bound(void)
{
	for (unsigned long c = 0; c < CAPABILITIES_MAX; c++)
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) != 0)
			return; /* past the last capability, or not allowed to drop it */
}

int capabilities_clear(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* the process gives it up with the others anyway */
	return syscall(SYS_capset, &head, none) == 0 ? 0 : errno;
}

/* Permanently: including the saved ids and those for the file system. */
int user_become(const struct passwd *user)
{
	if (setgroups(0, NULL) != 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
		return errno;
	return 0;
}
