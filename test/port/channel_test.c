/* SPDX-License-Identifier: Apache-2.0 */
/* The channel: packets with one descriptor each, and wrong ones. */
#include "channel/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel_fixture.h"
#include "platform/platform.h"

static struct loop loop;
static struct channel channel, *const c = &channel;
static struct channel_host host;
static unsigned open_before;

static bool no_turn(void *ctx)
{
	(void)ctx;
	return false;
}

static int setup(void **state)
{
	(void)state;
	open_before = descriptors_open();
	host = (struct channel_host){.listener = -1, .socket = -1};
	channel_init(c);
	assert_true(loop_init(&loop, no_turn, NULL));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_close(c, &loop);
	channel_host_stop(&host);
	loop_free(&loop);
	assert_int_equal(descriptors_open(), open_before);
	return 0;
}

static void start(void)
{
	channel_host_start(&host);
	assert_true(channel_open(c, &loop, host.path));
	channel_host_accept(&host);
}

static enum channel_result take(struct descriptor *d, const char **rule)
{
	c->ready = true;
	return channel_take(c, d, rule);
}

static void expect_wrong(const char *wanted)
{
	struct descriptor d;
	const char *rule;
	unsigned before = descriptors_open();

	assert_int_equal(take(&d, &rule), CHANNEL_WRONG);
	assert_string_equal(rule, wanted);
	assert_int_equal(descriptors_open(), before);
}

static void test_a_descriptor_comes_with_its_use_token_and_stream(void **state)
{
	struct descriptor d;
	const char *rule;
	char bytes[8];

	(void)state;
	start();
	assert_int_equal(take(&d, &rule), CHANNEL_EMPTY);
	channel_host_hands(&host, "[0, 9007199254740991, 12]", file_with("hello", 5));
	assert_int_equal(take(&d, &rule), CHANNEL_GOT);
	assert_int_equal(d.use, DESCRIPTOR_FILE);
	assert_int_equal(d.token, 9007199254740991);
	assert_int_equal(d.stream, 12);
	assert_int_equal(read(d.fd, bytes, sizeof bytes), 5);
	assert_true(fcntl(d.fd, F_GETFD) & FD_CLOEXEC);
	close(d.fd);
	assert_int_equal(take(&d, &rule), CHANNEL_EMPTY);
}

static void test_packets_that_say_something_else_are_closed(void **state)
{
	static const char *const texts[] = {
		"[0, 1]",      "[0, 1, 2, 3]",    "7",      "[0, 1, 'x']", "[0, nil, 1]",
		"[0, 1, 2] 3", "['x'*100, 1, 1]", "{0: 1}", "[0, -1, 1]",
	};

	(void)state;
	start();
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		channel_host_hands(&host, texts[i], file_with("", 0));
		expect_wrong("must come with [use, token, stream]");
	}
	channel_host_hands(&host, "[99, 1, 1]", file_with("", 0));
	expect_wrong("is for an unknown use");
	channel_host_hands(&host, "[0, 0, 1]", file_with("", 0));
	expect_wrong("must have a token of at least 1");
}

static void test_a_packet_brings_one_descriptor(void **state)
{
	int fds[32];

	(void)state;
	start();
	for (unsigned i = 0; i < 32; i++)
		fds[i] = i ? dup(fds[0]) : file_with("", 0);
	channel_host_sends(&host, "[0, 1, 1]", fds, 0);
	expect_wrong("is missing, or no descriptor is free for it");
	channel_host_sends(&host, "[0, 1, 1]", fds, 2);
	expect_wrong("must come alone");
	channel_host_sends(&host, "[0, 1, 1]", fds, 9);
	expect_wrong("must come alone");
	channel_host_sends(&host, "[0, 1, 1]", fds, 32);
	expect_wrong("must come alone");
	for (unsigned i = 0; i < 32; i++)
		close(fds[i]);
}

static void test_its_end_is_seen(void **state)
{
	struct descriptor d;
	const char *rule;

	(void)state;
	start();
	channel_host_hands(&host, "[0, 1, 1]", file_with("", 0));
	channel_host_stop(&host);
	assert_int_equal(take(&d, &rule), CHANNEL_GOT);
	close(d.fd);
	assert_int_equal(take(&d, &rule), CHANNEL_OVER);
}

static void test_what_cannot_be_connected_to_is_no_channel(void **state)
{
	(void)state;
	assert_false(channel_open(c, &loop, "/nowhere/at/all"));
	assert_false(channel_open(c, &loop, "/tmp"));
	assert_false(channel_open(c, &loop,
				  "/" /* longer than a path may be */
				  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	assert_false(c->open);
}

static void test_a_file_is_regular_and_cannot_be_written(void **state)
{
	int file, device, folder, ends[2];
	char path[] = "/tmp/sparx-test-XXXXXX";

	(void)state;
	start();
	file = mkstemp(path);
	assert_false(platform_is_file(file));
	close(file);
	file = open(path, O_WRONLY);
	assert_false(platform_is_file(file));
	close(file);
	file = open(path, O_RDONLY);
	unlink(path);
	assert_true(platform_is_file(file));
	close(file);
	device = open("/dev/null", O_RDONLY);
	folder = open("/tmp", O_RDONLY);
	assert_int_equal(pipe(ends), 0);
	assert_false(platform_is_file(device));
	assert_false(platform_is_file(folder));
	assert_false(platform_is_file(ends[0]));
	assert_false(platform_is_file(host.socket));
	assert_false(platform_is_file(-1));
	close(device);
	close(folder);
	close(ends[0]);
	close(ends[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_descriptor_comes_with_its_use_token_and_stream),
		TEST(test_packets_that_say_something_else_are_closed),
		TEST(test_a_packet_brings_one_descriptor),
		TEST(test_its_end_is_seen),
		TEST(test_what_cannot_be_connected_to_is_no_channel),
		TEST(test_a_file_is_regular_and_cannot_be_written),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
