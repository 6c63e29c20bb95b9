-- outcome: note for all workers how a request to Kubernetes went.
-- KEYS  1 budget
-- ARGV  1 'ok', 'failed' (no answer, or a server-side failure) or 'throttled'  2 ms for which everybody is to pause
-- Returns failures in a row
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'pu', 'fa')
local paused, failures = tonumber(state[1] or 0), tonumber(state[2] or 0)
redis.call('HDEL', KEYS[1], 'pu', 'fa')
if ARGV[1] == 'ok' then
  -- A pause that the server asked for stands; one that waited for a probe is over.
  if failures == 0 and paused > now then redis.call('HSET', KEYS[1], 'pu', paused) end
  return 0
end
if ARGV[1] == 'failed' then failures = failures + 1 end
if failures > 0 then redis.call('HSET', KEYS[1], 'fa', failures) end
local pause = math.max(paused, now + tonumber(ARGV[2]))
if pause > now then redis.call('HSET', KEYS[1], 'pu', pause) end
return failures
