-- sweep: pick the due storms of a shard that somebody should be told about, and say whether its inbox waits for a wake-up.
-- KEYS  1 meta  2 order  3 due  4 published
-- ARGV  1 most published and unclaimed  2 ms after which such a mark lapses  3 ms after which a wake-up counts as lost
--       4 ms after which a due storm counts as overdue, whether its task was published or not
-- Returns { now, entries in the inbox, received of the oldest, 1 when a wake-up is to be published, due storms,
--           score of the most overdue one, {storm id to publish, ...}, {overdue storm id, ...} }
-- Begins with what frees memory, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local picked, overdue = {}, {}
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 64)
local free = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[4])
for i = 1, #due, 2 do
  if tonumber(due[i + 1]) < now - tonumber(ARGV[4]) then overdue[#overdue + 1] = due[i] end
  if #picked < free and not redis.call('ZSCORE', KEYS[4], due[i]) then
    redis.call('ZADD', KEYS[4], now + tonumber(ARGV[2]), due[i])
    picked[#picked + 1] = due[i]
  end
end
local entries = redis.call('ZCARD', KEYS[2])
local oldest = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or 0)
local wake = 0
if entries > 0 then
  local mark = tonumber(redis.call('HGET', KEYS[1], 'wk') or 0)
  if mark < now - tonumber(ARGV[3]) and oldest < now - 1000 then
    redis.call('HSET', KEYS[1], 'wk', now)
    wake = 1
  end
end
return { now, entries, oldest, wake, #due / 2, tonumber(due[2] or 0), picked, overdue }
