-- postpone: a due storm waits for its turn to be written: nobody is to look at it before. Its own times stay as they are.
-- KEYS  1 due  2 published
-- ARGV  1 storm id  2 ms until its turn
-- Returns 1 when it waits, 0 when there is no such storm
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
redis.call('ZREM', KEYS[2], ARGV[1])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
-- Only later: somebody may hold its lease, or have written it just now.
redis.call('ZADD', KEYS[1], 'XX', 'GT', now + tonumber(ARGV[2]), ARGV[1])
return 1
