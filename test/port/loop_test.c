/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <time.h>
#include <unistd.h>

#include "support.h"

static struct loop loop;
static unsigned turns, fired, readable;
static struct loop_io io;

static uint64_t monotonic_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void on_fire(struct wheel_node *node)
{
	(void)node;
	fired++;
}

static void on_ready(struct loop_io *what, int ready)
{
	assert_ptr_equal(what, &io);
	readable += (ready & LOOP_READ) != 0;
}

static bool until_fired(void *ctx)
{
	(void)ctx;
	turns++;
	wheel_fire(&loop.wheel, loop.now);
	if (fired)
		loop_stop(&loop);
	return false;
}

static bool three_turns(void *ctx)
{
	(void)ctx;
	if (++turns == 3)
		loop_stop(&loop);
	return true;
}

static bool until_readable(void *ctx)
{
	(void)ctx;
	turns++;
	if (readable)
		loop_stop(&loop);
	return false;
}

static void start(loop_turn_fn *turn)
{
	turns = fired = readable = 0;
	assert_true(loop_init(&loop, turn, NULL));
}

static void test_the_clock_is_the_monotonic_one(void **state)
{
	uint64_t before = monotonic_us();

	(void)state;
	start(three_turns);
	loop_run(&loop);
	assert_true(loop.now_us >= before && loop.now_us <= monotonic_us());
	assert_true(loop.now == loop.now_us / 1000);
	assert_true(loop.unix_sec >= (uint64_t)time(NULL) - 5);
	loop_free(&loop);
}

static void test_a_turn_with_work_left_is_followed_by_another(void **state)
{
	(void)state;
	start(three_turns);
	loop_run(&loop);
	assert_int_equal(turns, 3);
	loop_free(&loop);
}

static void test_a_deadline_wakes_the_loop_and_does_not_spin_it(void **state)
{
	struct wheel_node node;

	(void)state;
	start(until_fired);
	wheel_node_init(&node, on_fire);
	wheel_set(&loop.wheel, &node, loop.now + 40);
	loop_run(&loop);
	assert_int_equal(fired, 1);
	assert_true(turns < 20);
	loop_free(&loop);
}

static void test_a_descriptor_wakes_the_loop_for_what_it_is_watched_for(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start(until_readable);
	loop_io_init(&io, on_ready, NULL, fds[0]);
	assert_int_equal(loop_io_events(&io), 0);
	loop_io_watch(&loop, &io, LOOP_READ);
	assert_int_equal(loop_io_events(&io), LOOP_READ);
	assert_int_equal(loop_io_fd(&io), fds[0]);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_run(&loop);
	assert_int_equal(readable, 1);
	loop_io_watch(&loop, &io, 0);
	assert_int_equal(loop_io_events(&io), 0);
	loop_free(&loop);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_clock_is_the_monotonic_one),
		cmocka_unit_test(test_a_turn_with_work_left_is_followed_by_another),
		cmocka_unit_test(test_a_deadline_wakes_the_loop_and_does_not_spin_it),
		cmocka_unit_test(test_a_descriptor_wakes_the_loop_for_what_it_is_watched_for),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
