-- letters: functions over the dead letters of a shard, their number and bytes bounded. Not callable alone: the loader
-- puts this text before the scripts that use it.
-- KEYS of all of them: 1 meta  2 inbox  3 order  4 dead  5 dead_order
-- Meta: dl alerts that are or were letters  sh letters shed  rp alerts replayed, no longer in dl  lb bytes of letters held

local function put_letter(id, letter, at)
  local before = redis.call('HSTRLEN', KEYS[4], id)
  redis.call('HSET', KEYS[4], id, letter)
  redis.call('ZADD', KEYS[5], at, id)
  redis.call('HINCRBY', KEYS[1], 'lb', #letter - before)
end

-- Begins with what frees, so that it goes on when Redis is full.
local function remove_letters(ids)
  local bytes, gone = 0, 0
  for _, id in ipairs(ids) do
    bytes = bytes + redis.call('HSTRLEN', KEYS[4], id)
    gone = gone + redis.call('HDEL', KEYS[4], id)
    redis.call('ZREM', KEYS[5], id)
  end
  if bytes > 0 then redis.call('HINCRBY', KEYS[1], 'lb', -bytes) end
  return gone
end

local function shed_letters(ids)
  local gone = remove_letters(ids)
  if gone > 0 then redis.call('HINCRBY', KEYS[1], 'sh', gone) end
  return gone
end

-- Sheds the oldest until the bounds hold, at most `limit` of them; what is shed stays counted in dl.
local function shed_beyond(most, most_bytes, limit)
  local extra = redis.call('ZCARD', KEYS[5]) - most
  local over = tonumber(redis.call('HGET', KEYS[1], 'lb') or 0) - most_bytes
  if (extra <= 0 and over <= 0) or limit <= 0 then return 0 end
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, limit - 1)) do
    if #ids >= extra and over <= 0 then break end
    over = over - redis.call('HSTRLEN', KEYS[4], id)
    ids[#ids + 1] = id
  end
  return shed_letters(ids)
end
