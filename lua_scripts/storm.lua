-- storm: functions over the state of one storm: header, resources, windows, Singles, when it is due. Not callable alone:
-- the loader puts this text before the scripts that use it.
-- KEYS of all of them: 1 meta  2 inbox  3 order  4 due  5 published  6 header  7 text  8 members  9 resources  10 rate
--   11 pattern  12 tombstones  13 unknown  14 overflow  15 singles  16 singles_due  17 details
-- Header: ph phase (G A R)  e epoch  n name  ns namespace  ty type (p r)  f members firing  of of these beyond MAX_MEMBERS
--   rc nw du ro rs od the ledger  s0..s4 members firing by severity  sx 1 + the worst as of the last flush  fs ls first and last seen  lr last resolve received
--   fl flaps  fu first unflushed change  fd flush due  nx next other thing due  lk lu lease and its end  dy changed while
--   leased  si 1 + members silenced, once one was  fn fence  gn flush generation  uid rv wp dg what was written last, lw when  fa failures in a row  ev the stage that Events told of last. Absent: 0 or ''.

local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)

local TEXTS = { 'ph', 'n', 'ns', 'ty', 'lk', 'uid', 'rv', 'wp', 'dg', 'ev' }
local NUMBERS = {
  'e', 'f', 'of', 'rc', 'nw', 'du', 'ro', 'rs', 'od', 's0', 's1', 's2', 's3', 's4', 'fs', 'ls', 'lr', 'fl', 'fu', 'fd',
  'nx', 'lu', 'dy', 'fn', 'gn', 'fa', 'sx', 'si', 'lw',
}

local function read_header()
  local texts = redis.call('HMGET', KEYS[6], unpack(TEXTS))
  if not texts[1] then return nil end
  local numbers = redis.call('HMGET', KEYS[6], unpack(NUMBERS))
  local header, was = {}, {}
  for i, field in ipairs(TEXTS) do header[field] = texts[i] or '' end
  for i, field in ipairs(NUMBERS) do header[field] = tonumber(numbers[i] or 0) end
  for field, value in pairs(header) do was[field] = value end
  header.was = was
  return header
end

local function new_header()
  local header = { was = {} }
  for _, field in ipairs(TEXTS) do header[field], header.was[field] = '', '' end
  for _, field in ipairs(NUMBERS) do header[field], header.was[field] = 0, 0 end
  return header
end

local function write_header(header)
  local set, drop = {}, {}
  for field, value in pairs(header) do
    if field ~= 'was' and value ~= header.was[field] then
      if value == 0 or value == '' then
        drop[#drop + 1] = field
      else
        set[#set + 1] = field
        set[#set + 1] = value
      end
    end
  end
  if #drop > 0 then redis.call('HDEL', KEYS[6], unpack(drop)) end
  if #set > 0 then redis.call('HSET', KEYS[6], unpack(set)) end
end

-- A resource record is '>I2BBI5' and text: flush generation `stamp`, members firing, members firing as of that generation,
-- first seen in ms since 2020; where a count exceeds a byte it is '>I2I3I3I5', the stamp raised by GENERATIONS.
-- The copy is made at the first change after a flush, so a resolved storm can still show what it last listed.
local GENERATIONS, YEAR_2020 = 32768, 1577836800000

local function unpack_resource(raw)
  if not raw then return nil end
  local stamp = struct.unpack('>I2', raw)
  local long = stamp >= GENERATIONS
  local _, count, shown, first, at = struct.unpack(long and '>I2I3I3I5' or '>I2BBI5', raw)
  if long then stamp = stamp - GENERATIONS end
  return { count = count, first = first + YEAR_2020, shown = shown, stamp = stamp, text = raw:sub(at) }
end

local function pack_resource(resource)
  local count, shown, stamp, form = resource.count, resource.shown, resource.stamp, '>I2BBI5'
  if count > 255 or shown > 255 then stamp, form = stamp + GENERATIONS, '>I2I3I3I5' end
  return struct.pack(form, stamp, count, shown, math.max(0, resource.first - YEAR_2020)) .. resource.text
end

local function count_resource(resource, by, generation)
  local stamp = generation % GENERATIONS
  if resource.stamp ~= stamp then
    resource.shown, resource.stamp = resource.count, stamp
  end
  resource.count = math.max(0, resource.count + by)
  if generation == 0 then resource.shown = math.max(resource.shown, resource.count) end
  resource.changed = true
end

-- A Single's record: state P(ending) N(amed) W(ritten) S(uperseded), received of its first firing, last news, flaps,
-- the phase last written (A R), uid, resourceVersion, namespace, since when a change is not written (0: none is), silenced
-- (2: it is, 1: it was, 0: never), and which of these its RR says.
local function unpack_single(raw)
  if not raw then return nil end
  local state, opened, last, flaps, wrote, uid, version, namespace, since, silenced, shown = unpack(cmsgpack.unpack(raw))
  return {
    state = state, opened = opened, last = last, flaps = flaps, wrote = wrote, uid = uid, version = version,
    namespace = namespace, since = since or 0, silenced = silenced or 0, shown = shown or 0,
  }
end

local function pack_single(single)
  return cmsgpack.pack({
    single.state, single.opened, single.last, single.flaps, single.wrote, single.uid, single.version, single.namespace,
    single.since or 0, single.silenced or 0, single.shown or 0,
  })
end

-- Whether `ids`, received now, complete `threshold` distinct ids within `window` ms. A met window is dropped.
local function window_met(key, ids, received, window, threshold)
  if #ids > 0 then
    local args = {}
    for _, id in ipairs(ids) do
      args[#args + 1] = received
      args[#args + 1] = id
    end
    redis.call('ZADD', key, 'GT', unpack(args))
  end
  local newest = tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', newest - window)
  local met
  if received >= newest then
    met = redis.call('ZCARD', key) >= threshold
  else
    -- A late entry: any span of one window may hold enough, not only the one that ends with the newest.
    local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    met = false
    for i = threshold, #all / 2 do
      if all[i * 2] - all[(i - threshold + 1) * 2] < window then met = true end
    end
  end
  if met then redis.call('DEL', key) end
  return met
end

-- A fence leaps by so much where an object from before Redis was emptied is taken over: a worker that claimed before that
-- may still hold a fence some way above the one that stands in the object, and must not write any more.
local ADOPTED = 1000000

local function leased(header)
  return header.lk ~= '' and header.lu > now
end

-- A change that the RR must show. The first flush stays where the threshold put it; later ones move, but not past
-- the first unflushed change + max_wait. A leased storm is only marked: settle sees to the rest. The mark is made past
-- the end of a lease too: until somebody else claims, its holder may still settle, and knows nothing of this change.
local function mark_changed(header, rules)
  if header.fu == 0 then header.fu = now end
  header.fn = header.fn + 1
  if header.lk ~= '' then header.dy = 1 end
  if not leased(header) and (header.wp ~= '' or header.fd == 0) then
    header.fd = math.min(now + rules.debounce, header.fu + rules.max_wait)
  end
end

local function earlier(a, b)
  if a == 0 then return b end
  if b == 0 then return a end
  return math.min(a, b)
end

-- The next time to act but for flushes and Singles: stale, close, or a tombstone that expires.
local function plan_next(header, rules)
  local head = redis.call('LINDEX', KEYS[12], 0)
  local next_time = 0
  if head then next_time = struct.unpack('>I6', head) end
  if header.ph == 'R' then
    next_time = earlier(next_time, header.lr + rules.reopen_window)
  elseif header.ph == 'A' then
    next_time = earlier(next_time, header.ls + rules.stale_after)
  end
  header.nx = next_time
end

-- Puts the storm where the sweep finds it in time; a leased one at the end of its lease, in case its holder dies.
local function enqueue(header, sid)
  local at
  if leased(header) then
    at = header.lu
  elseif header.ph == 'G' then
    local head = redis.call('ZRANGE', KEYS[16], 0, 0, 'WITHSCORES')
    at = earlier(tonumber(head[2] or 0), header.nx)
  else
    at = earlier(header.fd, header.nx)
  end
  if at == 0 then at = now end
  redis.call('ZADD', KEYS[4], at, sid)
  return at
end

-- Where no flush does: drops the resources that no member refers to any more. To read all members at every Single that
-- closes would be too much for many of them; then it waits until half of the resources are such.
local function drop_resources()
  local members = redis.call('HLEN', KEYS[8])
  if members > 500 and redis.call('HLEN', KEYS[9]) <= 2 * members then return end
  local used = {}
  for _, raw in ipairs(redis.call('HVALS', KEYS[8])) do used[unpack_member(raw).rid] = true end
  for _, rid in ipairs(redis.call('HKEYS', KEYS[9])) do
    if not used[rid] then redis.call('HDEL', KEYS[9], rid) end
  end
end

-- Forgets the storm; only tombstones of unknown members stay, and expire by themselves.
local function forget(sid)
  redis.call('ZREM', KEYS[4], sid)
  redis.call('UNLINK', KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[14], KEYS[15], KEYS[16],
    KEYS[17])
end

local function unpack_rules(raw)
  local r = cmsgpack.unpack(raw)
  return {
    rate_threshold = r[1], rate_window = r[2], pattern_threshold = r[3], pattern_window = r[4], debounce = r[5],
    max_wait = r[6], single_hold = r[7], reopen_window = r[8], stale_after = r[9], max_members = r[10],
    tombstone = r[11],
  }
end
