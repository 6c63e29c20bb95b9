-- audit: hold a shard's counters against each other and against its inbox, and note that beside what its storms gave.
-- KEYS  1 meta  2 inbox  3 order
-- ARGV  1 storms out of balance among those looked at  2 storms to pass over at the next look, 0 when the round is over
-- Returns 1 when the shard's counters do not balance, else 0
-- Notes in meta: at when  ao storms to pass over  ac storms out of balance in this round  au in the last one
--   as 1 when the counters do not balance. Begins with what frees, so that it goes on when Redis is full.
local MOST_ENTRIES = 1000
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local found, following = tonumber(ARGV[1]), tonumber(ARGV[2])
local counts = redis.call('HMGET', KEYS[1], 'rc', 'nw', 'du', 'ro', 'rs', 'od', 'ig', 'pd', 'dl', 'ac')
for i = 1, #counts do counts[i] = tonumber(counts[i] or 0) end

local sum = 0
for i = 2, 9 do sum = sum + counts[i] end
local wrong = counts[1] ~= sum
local entries = redis.call('ZCARD', KEYS[3])
if redis.call('HLEN', KEYS[2]) ~= entries then wrong = true end
if entries <= MOST_ENTRIES then
  -- An entry's id ends with the number of its alerts.
  local waiting = 0
  for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    local alerts = tonumber(id:match('%-(%d+)$'))
    waiting = waiting and alerts and waiting + alerts
  end
  if waiting and waiting ~= counts[8] then wrong = true end
end

redis.call('HDEL', KEYS[1], 'at', 'ao', 'ac', 'as')
redis.call('HSET', KEYS[1], 'at', now)
if wrong then redis.call('HSET', KEYS[1], 'as', 1) end
if following > 0 then
  redis.call('HSET', KEYS[1], 'ao', following, 'ac', counts[10] + found)
elseif counts[10] + found > 0 then
  redis.call('HSET', KEYS[1], 'au', counts[10] + found)
else
  redis.call('HDEL', KEYS[1], 'au')
end
return wrong and 1 or 0
