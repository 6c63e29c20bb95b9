-- split: replace one entry by several smaller ones under the same time of receipt.
-- KEYS  1 inbox  2 order
-- ARGV  1 entry id, then per new entry: id, payload
-- Returns 1, or 0 when the entry is gone already
local received = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not received then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for at = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  redis.call('ZADD', KEYS[2], received, ARGV[at])
end
return 1
