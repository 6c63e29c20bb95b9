-- trim: shed dead letters of a shard beyond the bounds of age, number and bytes, at most 100 for each; all stay counted.
-- KEYS  1 meta  2 inbox  3 order  4 dead  5 dead_order
-- ARGV  1 most letters  2 oldest age in ms  3 most bytes of letters
-- Returns the number of letters shed
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local old = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, 100)
return shed_letters(old) + shed_beyond(tonumber(ARGV[1]), tonumber(ARGV[3]), 100)
