/* SPDX-License-Identifier: Apache-2.0 */
#include "channel_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/platform.h"

void channel_host_start(struct channel_host *ch)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int probe;

	*ch = (struct channel_host){.folder = "/tmp/sparx-test-XXXXXX", .listener = -1, .socket = -1};
	assert_non_null(mkdtemp(ch->folder));
	snprintf(ch->path, sizeof ch->path, "%s/s", ch->folder);
	snprintf(at.sun_path, sizeof at.sun_path, "%s", ch->path);
	ch->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(ch->listener >= 0 && bind(ch->listener, (struct sockaddr *)&at, sizeof at) == 0 &&
		    listen(ch->listener, 4) == 0);
	probe = platform_channel(ch->path);
	if (probe < 0) {
		channel_host_stop(ch);
		skip_because("this system has no channel for descriptors");
	}
	close(probe);
	close(accept(ch->listener, NULL, NULL));
}

static void forget(struct channel_host *ch)
{
	if (ch->listener < 0)
		return;
	close(ch->listener);
	unlink(ch->path);
	rmdir(ch->folder);
	ch->listener = -1;
}

void channel_host_accept(struct channel_host *ch)
{
	ch->socket = accept4(ch->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ch->socket >= 0);
	forget(ch);
}

void channel_host_stop(struct channel_host *ch)
{
	forget(ch);
	if (ch->socket >= 0)
		close(ch->socket);
	ch->socket = -1;
}

void channel_host_sends(struct channel_host *ch, const char *text, const int *fds, unsigned count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(32 * sizeof(int))];
	} control = {0};
	struct buf packet = {0};
	struct iovec iov;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	notation_pack(&packet, text);
	iov = (struct iovec){buf_at(&packet), buf_len(&packet)};
	if (count) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(ch->socket, &m, MSG_NOSIGNAL), buf_len(&packet));
	buf_free(&packet);
}

void channel_host_hands(struct channel_host *ch, const char *text, int fd)
{
	assert_true(fd >= 0);
	channel_host_sends(ch, text, &fd, 1);
	close(fd);
}

int file_with(const char *bytes, size_t n)
{
	char path[] = "/tmp/sparx-test-XXXXXX";
	int out = mkstemp(path), in = open(path, O_RDONLY | O_CLOEXEC);

	unlink(path);
	assert_true(out >= 0 && in >= 0 && write(out, bytes, n) == (ssize_t)n);
	close(out);
	return in;
}

unsigned descriptors_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}
