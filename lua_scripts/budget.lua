-- budget: take tokens for writes to Kubernetes from the bucket that all workers share, or a place in the queue for them.
-- KEYS  1 budget  2 queue of storms  3 queue of Singles  4 since when each waits
-- ARGV  1 tokens a second  2 most tokens  3 tokens wanted  4 who asks (a storm's id; '' takes no place)  5 1: a storm, 0: a
--       Single or what is less  6 failures in a row after which one worker at a time may probe  7 ms that a probe may take
--       8 ms from a probe to the next  9 1: ahead of a claim, what is taken is kept for the take that follows within FRESH ms
-- Returns { ms to wait, 0 when the tokens are taken; 1 when a success is news to the others }
-- Whoever is turned away is told a time of its own, at the rate at which tokens come, and keeps its place until LATE ms
-- after it. Storms go before Singles; a Single that has waited LONG joins their queue, where every SHAREth turn is for such.
-- Begins with what frees memory, so that it goes on when Redis is full.
local LATE, LONG, SHARE, MOST_WAITING, FRESH = 10000, 120000, 4, 10000, 500
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local rate, most, wanted, who = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

-- Places of those that never came back. A place below 0 is that of somebody who took tokens so long ago, to use them now.
local function drop_lost(key)
  local lost = redis.call('ZRANGEBYSCORE', key, LATE - now, now - LATE, 'LIMIT', 0, 500)
  if #lost == 0 then return end
  redis.call('ZREM', key, unpack(lost))
  redis.call('ZREM', KEYS[4], unpack(lost))
end
drop_lost(KEYS[2])
drop_lost(KEYS[3])

local state = redis.call('HMGET', KEYS[1], 'tk', 'at', 'pu', 'fa', 'da', 'ag', 'la')
local paused, failures = tonumber(state[3] or 0), tonumber(state[4] or 0)
local probing = state[5] or failures >= tonumber(ARGV[6])
local news = (failures > 0 or state[5]) and 1 or 0
local at = tonumber(state[2] or now)
local tokens = math.min(most, tonumber(state[1] or most) + math.max(0, now - at) * rate / 1000)
local place = tonumber(redis.call('ZSCORE', KEYS[2], who) or 0)
local first = ARGV[5] == '1' or place ~= 0
if not first then place = tonumber(redis.call('ZSCORE', KEYS[3], who) or 0) end
local since = tonumber(redis.call('ZSCORE', KEYS[4], who) or now)
local took = place < 0
local rests = paused > now
-- What was taken long ago would come on top of what others took since; but a probe is waited for.
local fresh = probing and rests and tonumber(ARGV[7]) or FRESH
if took and now + place > fresh then took, place = false, 1 end
-- Not to storms that are late: there must be tokens for those, too, and they may never come.
local yields = not first and redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') > 0

-- What must be there: also for those whose turn came before. They may be late, and are not waited for when the bucket is
-- full. A Single leaves half of it to storms.
local needed = wanted
local before = place > 0 and '(' .. place or now
if first then
  needed = needed + redis.call('ZCOUNT', KEYS[2], 0, before) * wanted
else
  local late = redis.call('ZCOUNT', KEYS[2], 0, now) + redis.call('ZCOUNT', KEYS[3], 0, before)
  needed = math.max(needed, wanted + math.floor(most / 2)) + late * wanted
end
if place > 0 and place <= now then needed = math.min(needed, most) end

-- Where somebody probes, that is whoever took tokens before.
local free = took and (not rests or probing)
-- Before its time, too, where the bucket has enough for all whose turn comes earlier: some of those never come back.
if free or (not rests and tokens >= needed and not yields) then
  redis.call('ZREM', KEYS[2], who)
  redis.call('ZREM', KEYS[3], who)
  redis.call('ZREM', KEYS[4], who)
  if not free then
    redis.call('HSET', KEYS[1], 'tk', string.format('%.3f', tokens - wanted), 'at', now)
    -- The server failed time and again: this caller probes, all others wait for what it finds.
    if probing then redis.call('HSET', KEYS[1], 'pu', now + tonumber(ARGV[7])) end
  end
  if ARGV[9] ~= '1' then
    redis.call('HINCRBY', KEYS[1], 'wr', wanted)
  elseif first then
    redis.call('ZADD', KEYS[2], -now, who)
  else
    redis.call('ZADD', KEYS[3], -now, who)
  end
  return { 0, news }
end

-- A probe may succeed any moment: nobody waits for the end of the time that it may take.
if probing then paused = math.min(paused, now + tonumber(ARGV[8])) end
if took then return { paused - now, news } end
if place > now and place >= paused then return { place - now, news } end
local refill = math.ceil(math.max(1, (needed - tokens) * 1000 / rate))
if place > 0 and not rests and not yields then return { refill, news } end
if who == '' then return { math.max(refill, paused - now), news } end

local step = wanted * 1000 / rate
local function last_of(key) return tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or 0) end
local storms_wait = redis.call('ZCOUNT', KEYS[2], 0, '+inf') > 0
local to = math.max(now + refill, paused)
-- Behind the last storm, not behind Singles that waited long: those have every SHAREth turn only.
if first and storms_wait then to = math.max(to, tonumber(state[7] or 0) + step) end
redis.call('ZREM', KEYS[3], who)
if first then
  redis.call('HSET', KEYS[1], 'la', to)
  if place > 0 or redis.call('ZCARD', KEYS[2]) < MOST_WAITING then
    redis.call('ZADD', KEYS[2], math.ceil(to), who)
    redis.call('ZADD', KEYS[4], since, who)
  end
elseif now - since >= LONG then
  to = math.max(now, paused, tonumber(state[6] or 0)) + SHARE * step
  redis.call('HSET', KEYS[1], 'ag', to)
  redis.call('ZADD', KEYS[2], math.ceil(to), who)
else
  to = math.max(to, last_of(KEYS[2]) + step, last_of(KEYS[3]) + step)
  if place > 0 or redis.call('ZCARD', KEYS[3]) < MOST_WAITING then
    redis.call('ZADD', KEYS[3], math.ceil(to), who)
    redis.call('ZADD', KEYS[4], since, who)
  end
end
return { math.ceil(to) - now, news }
