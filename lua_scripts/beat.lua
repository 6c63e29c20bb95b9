-- beat: note that a worker lives. Names that were silent for long are dropped, and all of them once no worker is left.
-- KEYS  1 workers
-- ARGV  1 name  2 ms of silence after which a name is dropped
-- Returns the number of names. Begins with what frees, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  if tonumber(known[i + 1]) < now - tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], known[i]) end
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HLEN', KEYS[1])
