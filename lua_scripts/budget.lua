-- budget: take tokens for writes to Kubernetes from the bucket that all workers share.
-- KEYS  1 budget
-- ARGV  1 tokens a second  2 most tokens  3 tokens wanted  4 tokens that must be left afterwards
--       5 failures in a row after which one worker at a time may probe  6 ms between probes
-- Returns { ms to wait, 0 when the tokens are taken; 1 when a success is news to the others }
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'tk', 'at', 'pu', 'fa', 'da')
local rate, most, wanted, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local failures = tonumber(state[4] or 0)
local paused = tonumber(state[3] or 0)
local news = (failures > 0 or state[5]) and 1 or 0
if paused > now then return { math.ceil(paused - now), news } end

local at = tonumber(state[2] or now)
local tokens = math.min(most, tonumber(state[1] or most) + math.max(0, now - at) * rate / 1000)
local missing = wanted + left - tokens
if missing > 0 then return { math.ceil(missing * 1000 / rate), news } end
redis.call('HDEL', KEYS[1], 'pu')
redis.call('HSET', KEYS[1], 'tk', string.format('%.3f', tokens - wanted), 'at', now)
-- The server failed time and again: this caller probes, all others wait for what it finds.
if failures >= tonumber(ARGV[5]) then redis.call('HSET', KEYS[1], 'pu', now + tonumber(ARGV[6])) end
return { 0, news }
