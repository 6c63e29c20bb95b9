-- bury: turn an entry that fails for its content into a dead letter.
-- KEYS  1 meta  2 inbox  3 order  4 dead  5 dead_order
-- ARGV  1 entry id  2 alerts in it  3 letter id  4 letter  5 most letters  6 most bytes of letters
-- Returns 1 when buried, 0 when the entry was gone
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local buried = 0
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  put_letter(ARGV[3], ARGV[4], now)
  redis.call('HINCRBY', KEYS[1], 'pd', -tonumber(ARGV[2]))
  redis.call('HINCRBY', KEYS[1], 'dl', ARGV[2])
  shed_beyond(tonumber(ARGV[5]), tonumber(ARGV[6]), 100)
  buried = 1
end
return buried
