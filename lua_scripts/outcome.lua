-- outcome: note for all workers how a request to Kubernetes went.
-- KEYS  1 budget
-- ARGV  1 'ok', 'failed' (no answer, or a server-side failure), 'throttled', 'pause' (of our own), 'refused' (until somebody
--       mends something) or 'undefined' (so because the server does not know our kind)  2 ms for which everybody is to pause
-- Returns failures in a row
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'pu', 'fa')
local paused, failures = tonumber(state[1] or 0), tonumber(state[2] or 0)
local what = ARGV[1]
redis.call('HDEL', KEYS[1], 'pu', 'fa')
if what == 'ok' then redis.call('HDEL', KEYS[1], 'da') end
if what == 'undefined' then redis.call('HSETNX', KEYS[1], 'da', now) end
if what == 'refused' or what == 'undefined' then redis.call('HINCRBY', KEYS[1], 'rf', 1) end
if what == 'throttled' then redis.call('HINCRBY', KEYS[1], 'th', 1) end
if what ~= 'failed' and what ~= 'throttled' and what ~= 'pause' then
  -- The server answers. A pause that it asked for stands; one that waited for a probe is over.
  if failures == 0 and paused > now then redis.call('HSET', KEYS[1], 'pu', paused) end
  return 0
end
if what == 'failed' then failures = failures + 1 end
if failures > 0 then redis.call('HSET', KEYS[1], 'fa', failures) end
local pause = math.max(paused, now + tonumber(ARGV[2]))
if pause > now then redis.call('HSET', KEYS[1], 'pu', pause) end
return failures
