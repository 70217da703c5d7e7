-- SPDX-License-Identifier: Apache-2.0
-- Prints one line that tools.py reads: the rate, and the percentiles of latency in ms.
function done(summary, latency, requests)
   local failed = summary.errors
   io.write(string.format(
      'result {"rate": %.1f, "p50": %.3f, "p99": %.3f, "p999": %.3f, "requests": %d, "errors": %d}\n',
      summary.requests / summary.duration * 1e6,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.9) / 1000,
      summary.requests, failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
