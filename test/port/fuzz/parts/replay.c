/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target without libFuzzer: runs each named input (a file, or all files of a folder), or one from stdin.
 * Built with afl-clang-fast it takes inputs from afl-fuzz.
 */
#include <dirent.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "target.h"

enum { INPUT_MAX = 1 << 20 };

static uint8_t bytes[INPUT_MAX];
static const char *current = "stdin";

void __sanitizer_set_death_callback(void (*tell)(void)) __attribute__((weak));

/* The input that caused a fault. */
static void tell(void)
{
	fprintf(stderr, "the input is %s\n", current);
}

static void on_signal(int number)
{
	tell();
	signal(number, SIG_DFL);
	raise(number);
}

static void blame(void)
{
	signal(SIGABRT, on_signal);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell);
	else
		signal(SIGSEGV, on_signal);
}

/* The bytes are in an allocation of exactly their length, so that reading beyond them is detected. */
static void run(size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		exit(1);
	memcpy(copy, bytes, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static unsigned run_file(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file) {
		perror(path);
		exit(1);
	}
	current = path;
	run(fread(bytes, 1, sizeof bytes, file));
	fclose(file);
	return 1;
}

static unsigned run_path(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	unsigned count = 0;
	char name[1024];

	if (!folder)
		return run_file(path);
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' && snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name)
			count += run_file(name);
	closedir(folder);
	return count;
}

#ifdef __AFL_COMPILER
static void run_stdin(void)
{
	while (__AFL_LOOP(10000)) {
		ssize_t n = read(0, bytes, sizeof bytes);
		run(n > 0 ? (size_t)n : 0);
	}
}
#else
static void run_stdin(void)
{
	run(fread(bytes, 1, sizeof bytes, stdin));
}
#endif

int main(int argc, char **argv)
{
	unsigned count = 0;

	mallopt(M_PERTURB, 0x5a); /* freed memory is overwritten, so that reading it shows without sanitizers too */
	blame();
	if (argc == 1)
		run_stdin();
	for (int i = 1; i < argc; i++)
		count += run_path(argv[i]);
	if (argc > 1)
		fprintf(stderr, "%u inputs\n", count);
	return 0;
}
