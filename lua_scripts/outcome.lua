-- outcome: note for all workers how a request to Kubernetes went.
-- KEYS  1 budget
-- ARGV  1 'ok', 'failed' (no answer, or a server-side failure), 'throttled', 'refused' (until somebody mends something) or
--       'undefined' (so because the server does not know our kind)  2 ms for which everybody is to pause, where all do
--       3 failures in a row after which all do  4 writes sent beyond those that were asked for; fewer are given back
-- Returns ms for which everybody pauses
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'pu', 'fa', 'da', 'tk')
local paused, failures, tokens = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[4] or 0)
local probing = state[3] or failures >= tonumber(ARGV[3])
local what, pause, more = ARGV[1], now + tonumber(ARGV[2]), tonumber(ARGV[4])
redis.call('HDEL', KEYS[1], 'pu', 'fa')
if more ~= 0 and state[4] then
  redis.call('HSET', KEYS[1], 'tk', string.format('%.3f', tokens - more))
  redis.call('HINCRBY', KEYS[1], 'wr', more)
end
if what == 'refused' or what == 'undefined' then redis.call('HINCRBY', KEYS[1], 'rf', 1) end
if what == 'throttled' then redis.call('HINCRBY', KEYS[1], 'th', 1) end
if what == 'undefined' then redis.call('HSETNX', KEYS[1], 'da', now) end
if what == 'ok' then redis.call('HDEL', KEYS[1], 'da') end
if what == 'failed' then
  failures = failures + 1
elseif what ~= 'throttled' then
  failures = 0 -- the server answers
end
if failures > 0 then redis.call('HSET', KEYS[1], 'fa', failures) end

-- A pause that the server asked for stands; one that waited for a probe ends with what the probe found.
local rests = what == 'throttled' or what == 'undefined' or failures >= tonumber(ARGV[3])
local till = math.max(rests and pause or 0, probing and what ~= 'throttled' and 0 or paused)
if till <= now then return 0 end
redis.call('HSET', KEYS[1], 'pu', till)
return till - now
