-- accept: store the entries of one delivery for one shard, stamp them with the server's time and count them. Dead letters
-- beyond the bounds push out the oldest at once: a burst of malformed alerts must not fill Redis.
-- KEYS  1 meta  2 inbox  3 order  4 dead  5 dead_order
-- ARGV  1 ignored alerts  2 alerts that are dead letters  3 number of entries  4 dead letters that are not kept at all
--       5 most letters  6 most bytes of letters, then per entry: id, number of alerts, payload; then per dead letter: id, payload
-- Returns { received in ms, 1 when the caller should publish a wake-up }
-- The first write grows memory, so a full Redis refuses the call before it left a trace.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local ignored, buried, entries, unkept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at, alerts, stored, letters = 7, 0, 0, 0

for _ = 1, entries do
  local id, count, payload = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  at = at + 3
  if redis.call('HSETNX', KEYS[2], id, payload) == 1 then
    redis.call('ZADD', KEYS[3], now, id)
    alerts, stored = alerts + count, stored + 1
  end
end
while ARGV[at] do
  put_letter(ARGV[at], ARGV[at + 1], now)
  at, letters = at + 2, letters + 1
end

local total = alerts + ignored + buried
if total > 0 then redis.call('HINCRBY', KEYS[1], 'rc', total) end
if alerts > 0 then redis.call('HINCRBY', KEYS[1], 'pd', alerts) end
if ignored > 0 then redis.call('HINCRBY', KEYS[1], 'ig', ignored) end
if buried > 0 then redis.call('HINCRBY', KEYS[1], 'dl', buried) end
if unkept > 0 then redis.call('HINCRBY', KEYS[1], 'sh', unkept) end
if letters > 0 then shed_beyond(tonumber(ARGV[5]), tonumber(ARGV[6]), 2 * letters + 100) end

-- The mark stands until a worker takes from this inbox; a wake-up that got lost is published again by the sweep.
local wake = 0
if stored > 0 and redis.call('HSETNX', KEYS[1], 'wk', now) == 1 then wake = 1 end
return { now, wake }
