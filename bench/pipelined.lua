-- SPDX-License-Identifier: Apache-2.0
-- 16 requests in one write.
dofile(debug.getinfo(1, "S").source:match("@(.*)/") .. "/wrk.lua")

function init()
   requests = string.rep(wrk.format("GET", wrk.path), 16)
end

function request()
   return requests
end
