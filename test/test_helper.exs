# SPDX-License-Identifier: Apache-2.0
Sparx.Summary.begin()

# Logs of passing tests are not shown. Expected messages may take long on a busy machine.
ExUnit.start(
  capture_log: true,
  assert_receive_timeout: 15_000,
  timeout: 180_000,
  formatters: [ExUnit.CLIFormatter, Sparx.Summary]
)
