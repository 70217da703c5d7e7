# SPDX-License-Identifier: Apache-2.0
Sparx.Skipped.begin()

# What is logged in a passing test is shown by none. What must come may take its time on a busy machine.
ExUnit.start(
  capture_log: true,
  assert_receive_timeout: 15_000,
  timeout: 180_000,
  formatters: [ExUnit.CLIFormatter, Sparx.Skipped]
)
