/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes and limits of the process. */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/parts.h"

int no_new_privs_set(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno;
}

int dumpable_clear(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : errno;
}

/* stderr is the only file that the process ever writes. */
static bool stderr_is_a_file(void)
{
	struct stat st;

	return fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);
}

int rlimits_lower(void)
{
	static const struct rlimit none = {0, 0};
	bool lower = setrlimit(RLIMIT_CORE, &none) == 0 && setrlimit(RLIMIT_NPROC, &none) == 0 &&
		     setrlimit(RLIMIT_MEMLOCK, &none) == 0 && (stderr_is_a_file() || setrlimit(RLIMIT_FSIZE, &none) == 0);

	return lower ? 0 : errno;
}
