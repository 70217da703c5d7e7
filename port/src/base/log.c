/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void to_stderr(void *ctx, enum log_level level, const char *text)
{
	(void)ctx;
	fprintf(stderr, "sparx_port: %s: %s\n", log_level_name(level), text);
}

static log_sink_fn *current = to_stderr;
static void *current_ctx;

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};

	return names[level];
}

void log_to(log_sink_fn *sink, void *ctx)
{
	current = sink ? sink : to_stderr;
	current_ctx = ctx;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	current(current_ctx, level, text);
}
