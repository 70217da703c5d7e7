-- SPDX-License-Identifier: Apache-2.0
-- A POST of 10,240 bytes.
dofile(debug.getinfo(1, "S").source:match("@(.*)/") .. "/wrk.lua")

wrk.method = "POST"
wrk.body = string.rep("0123456789abcdef", 640)
wrk.headers["Content-Type"] = "application/octet-stream"
