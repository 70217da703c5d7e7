/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock, by its bare system calls: the C library has no wrappers, and older headers lack what newer kernels know.
 * Everything that the kernel can restrict is forbidden, except removing the path of a unix socket at the end. Open descriptors are
 * not affected.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

#ifndef SYS_landlock_create_ruleset /* the same numbers on all machines */
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum {
	ASK_VERSION = 1,
	RULE_PATH_BENEATH = 1,
	FS_REMOVE_FILE = 1 << 5,
	NET_BIND_AND_CONNECT_TCP = 3,
	SCOPE_ABSTRACT_AND_SIGNAL = 3
};

struct ruleset {
	uint64_t fs, net, scoped;
};

struct path_rule {
	uint64_t allowed;
	int32_t folder;
} __attribute__((packed));

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);

	return abi < 0 ? -errno : (int)abi;
}

/* All rights of this version: 13 for files and folders, later also moving, truncating, and ioctl of devices. */
static uint64_t fs_rights(int abi)
{
	static const unsigned count[] = {0, 13, 14, 15, 15, 16};

	return ((uint64_t)1 << count[abi < 5 ? abi : 5]) - 1;
}

/* Each kernel accepts the structure in the size of its own version. */
static size_t ruleset_size(int abi)
{
	struct ruleset r;

	return abi < 4 ? sizeof r.fs : abi < 6 ? sizeof r.fs + sizeof r.net : sizeof r;
}

/* If the folder cannot be opened, the socket could not be removed either: the next start removes it. */
static int allow_removal(int rules, const char *path)
{
	char folder[ADDRESS_MAX];
	const char *slash = strrchr(path, '/');
	struct path_rule rule = {.allowed = FS_REMOVE_FILE};
	long done;

	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	rule.folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rule.folder < 0)
		return 0;
	done = syscall(SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, &rule, 0);
	if (done != 0)
		done = errno;
	close(rule.folder);
	return (int)done;
}

int landlock_rules(int abi, const struct config *config)
{
	struct ruleset nothing = {fs_rights(abi), abi >= 4 ? NET_BIND_AND_CONNECT_TCP : 0,
				  abi >= 6 ? SCOPE_ABSTRACT_AND_SIGNAL : 0};
	int rules = (int)syscall(SYS_landlock_create_ruleset, &nothing, ruleset_size(abi), 0), error = 0;

	if (rules < 0)
		return -errno;
	for (unsigned i = 0; i < config->listener_count && error == 0; i++)
		if (listener_file(&config->listeners[i]))
			error = allow_removal(rules, listener_file(&config->listeners[i]));
	if (error == 0)
		return rules;
	close(rules);
	return -error;
}

int landlock_enter(const struct config *config, unsigned *abi)
{
	int known = landlock_abi(), rules, error;

	if (known < 0)
		return -known;
	rules = landlock_rules(known, config);
	if (rules < 0)
		return -rules;
	error = syscall(SYS_landlock_restrict_self, rules, 0) == 0 ? 0 : errno;
	close(rules);
	if (error == 0)
		*abi = (unsigned)known;
	return error;
}
