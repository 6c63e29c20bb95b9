-- trim: shed dead letters of a shard beyond the bound of count and age, at most 100 a call; what is shed stays counted.
-- KEYS  1 meta  2 dead  3 dead_order
-- ARGV  1 most letters  2 oldest age in ms
-- Returns the number of letters shed
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local extra = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[1])
local old = redis.call('ZCOUNT', KEYS[3], '-inf', now - tonumber(ARGV[2]))
local shed = math.min(100, math.max(extra, old))
if shed <= 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[3], 0, shed - 1)
redis.call('HDEL', KEYS[2], unpack(ids))
redis.call('ZREM', KEYS[3], unpack(ids))
redis.call('HINCRBY', KEYS[1], 'sh', #ids)
return #ids
