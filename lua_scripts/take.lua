-- take: read the oldest entries of a shard's inbox; the entries stay until ingest removes them. While there are some the
-- wake-up mark says that somebody drains; the take that finds none clears it, so that the next accept asks for a wake-up.
-- KEYS  1 meta  2 inbox  3 order
-- ARGV  1 most entries  2 most bytes (the first entry comes whatever its size)
-- Returns { id, received in ms, payload, ... }, oldest first
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
redis.call('HDEL', KEYS[1], 'wk')
local range = redis.call('ZRANGE', KEYS[3], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
local result, bytes, most = {}, 0, tonumber(ARGV[2])
for i = 1, #range, 2 do
  local payload = redis.call('HGET', KEYS[2], range[i])
  if payload then
    bytes = bytes + #payload
    if i > 1 and bytes > most then break end
    result[#result + 1] = range[i]
    result[#result + 1] = range[i + 1]
    result[#result + 1] = payload
  else
    redis.call('ZREM', KEYS[3], range[i])
  end
end
if #result > 0 then redis.call('HSET', KEYS[1], 'wk', now) end
return result
