# What is logged in a passing test is shown by none.
ExUnit.start(capture_log: true)
