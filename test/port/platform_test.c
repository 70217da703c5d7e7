/* SPDX-License-Identifier: Apache-2.0 */
/* The port's system features: the same tests for linux.c and for portable.c (make PORTABLE=1 test). */
#include "platform/platform.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include "support.h"

static struct hups hups;

/* The next report, awaited as the loop does. */
static struct hup next_hup(void)
{
	struct hup told[4];
	struct pollfd p = {.fd = hups.fd, .events = POLLIN};
	int count;

	do
		poll(&p, hups.fd >= 0, HUPS_MS);
	while ((count = hups_take(&hups, told, 4)) == 0);
	assert_int_equal(count, 1);
	return told[0];
}

static void expect_nothing(void)
{
	struct hup told[4];

	assert_int_equal(hups_take(&hups, told, 4), 0);
}

static void pair(int ends[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
}

static void test_a_peer_that_closes_its_side_and_then_leaves_is_told_twice(void **state)
{
	int ends[2];
	struct hup told;

	(void)state;
	pair(ends);
	assert_true(hups_open(&hups));
	hups_watch(&hups, ends[0], ends);
	expect_nothing();
	assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
	told = next_hup();
	assert_ptr_equal(told.who, ends);
	assert_false(told.gone);
	hups_watch_on(&hups, ends[0], ends);
	expect_nothing();
	close(ends[1]);
	told = next_hup();
	assert_ptr_equal(told.who, ends);
	assert_true(told.gone);
	expect_nothing();
	hups_forget(&hups, ends[0]);
	close(ends[0]);
	hups_close(&hups);
}

static void test_what_is_forgotten_is_not_told(void **state)
{
	int one[2], other[2];

	(void)state;
	pair(one);
	pair(other);
	assert_true(hups_open(&hups));
	hups_watch(&hups, one[0], one);
	hups_watch(&hups, other[0], other);
	hups_forget(&hups, one[0]);
	close(one[1]);
	close(other[1]);
	assert_ptr_equal(next_hup().who, other);
	expect_nothing();
	hups_forget(&hups, other[0]);
	close(one[0]);
	close(other[0]);
	hups_close(&hups);
}

static void expect_prepared(int fd)
{
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void test_sockets_neither_block_nor_are_inherited(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *any = (struct sockaddr *)(void *)&address;
	socklen_t len = sizeof address;
	int listener = platform_socket(AF_INET), client = socket(AF_INET, SOCK_STREAM, 0), fd;

	(void)state;
	expect_prepared(listener);
	platform_unsent_limit(listener, 131072);
	assert_int_equal(bind(listener, any, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, any, &len), 0);
	assert_int_equal(platform_accept(listener, any, &len), -1);
	len = sizeof address;
	assert_int_equal(getsockname(listener, any, &len), 0);
	assert_int_equal(connect(client, any, len), 0);
	fd = platform_accept(listener, any, &len);
	expect_prepared(fd);
	assert_int_equal(address.sin_family, AF_INET);
	close(fd);
	close(client);
	close(listener);
	fd = platform_spare_descriptor();
	assert_true(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void test_pages_become_zero(void **state)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *page = aligned_alloc(size, size);

	(void)state;
	memset(page, 7, size);
	platform_zero_pages(page, size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(page[i], 0);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_peer_that_closes_its_side_and_then_leaves_is_told_twice),
		cmocka_unit_test(test_what_is_forgotten_is_not_told),
		cmocka_unit_test(test_sockets_neither_block_nor_are_inherited),
		cmocka_unit_test(test_pages_become_zero),
	};

	return cmocka_run_group_tests_name("platform", tests, NULL, NULL);
}
