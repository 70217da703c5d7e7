/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines go to one sink: stderr before the hello, a LOG message afterwards. */
#ifndef SPARX_BASE_LOG_H
#define SPARX_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

typedef void log_sink_fn(void *ctx, enum log_level level, const char *text);

const char *log_level_name(enum log_level level);
/* NULL: back to stderr. */
void log_to(log_sink_fn *sink, void *ctx);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
