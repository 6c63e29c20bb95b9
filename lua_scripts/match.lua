-- match: hold one open RR, as found in the sink, against the state; what nobody knows waits as an orphan to be adopted.
-- KEYS  see storm.lua, and 18 orphans
-- ARGV  1 storm id  2 'storm' or 'single'  3 name  4 namespace  5 uid  6 resourceVersion  7 fence  8 storm type (p r)
--       9 fingerprint  10 received of its first firing  11 ms after which an orphan counts as lost
--       12 ms at which the look began that found it
-- Returns { 'known' }          the state has this very object, or wrote to it since the look began
--         { 'stray' }          another object under the name of one that the state has: a create that came late; it is
--                              due to be written as what it stands for
--         { 'double', other }  the state has another object for the same: a storm's name, or when the Single was opened
--         { 'taken' }          a Single whose storm is a storm by now: the storm's next flush supersedes it
--         { 'orphan' }         kept until its alerts come again
--         { 'lost' }           they did not come again in time; it is forgotten here, and to be closed
local sid, kind, name, namespace, uid, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local fingerprint, opened, looked = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[12])
local header = read_header()
local raw = redis.call('HGET', KEYS[18], sid)
local orphans = raw and cmsgpack.unpack(raw) or { storm = false, singles = {} }

-- Deletes first, as everything here that writes: a full Redis must not keep RRs from being written.
local function keep()
  redis.call('HDEL', KEYS[18], sid)
  redis.call('HSET', KEYS[18], sid, cmsgpack.pack(orphans))
end

local function wait(since)
  if not header and now - since >= tonumber(ARGV[11]) then
    if kind == 'storm' then orphans.storm = false else orphans.singles[fingerprint] = nil end
    if orphans.storm or next(orphans.singles) then keep() else redis.call('HDEL', KEYS[18], sid) end
    return { 'lost' }
  end
  keep()
  if header and not leased(header) then redis.call('ZADD', KEYS[4], now, sid) end
  return { 'orphan' }
end

-- Has the storm written again without what it believes of its RR; its fence goes above the one that was met.
local function again()
  header.fn = math.max(header.fn, tonumber(ARGV[7])) + 1
  if leased(header) then
    header.dy = 1
  elseif header.ph ~= 'G' then
    header.fd, header.fu = now, earlier(header.fu, now)
  end
  write_header(header)
  enqueue(header, sid)
end

if kind == 'storm' then
  if header and header.n == name then
    if header.uid == '' or header.uid == uid or header.lw >= looked or leased(header) then return { 'known' } end
    if header.ns ~= namespace then return { 'double', header.n } end
    redis.call('HDEL', KEYS[6], 'uid', 'rv', 'dg')
    header.uid, header.rv, header.dg = '', '', ''
    again()
    return { 'stray' }
  end
  if header and header.uid ~= '' then return { 'double', header.n } end
  local since = orphans.storm and orphans.storm[7] or now
  orphans.storm = { name, namespace, uid, version, tonumber(ARGV[7]), ARGV[8], since, now }
  return wait(since)
end

local single = unpack_single(redis.call('HGET', KEYS[15], fingerprint))
-- One that is not named yet takes this object over when its storm is claimed.
if single and single.state ~= 'P' then
  if single.opened ~= opened then return { 'double', string.format('%.0f', single.opened) } end
  if single.uid == uid or (single.uid == '' and single.state ~= 'S') or header.lw >= looked or leased(header) then
    return { 'known' }
  end
  redis.call('HDEL', KEYS[15], fingerprint)
  single.uid, single.version, single.namespace = '', '', namespace
  if single.state == 'S' then
    single.state, single.wrote, single.uid, single.version = 'W', 'A', uid, version
  elseif header.ph == 'G' then
    single.wrote = ''
    redis.call('ZADD', KEYS[16], now, fingerprint)
  end
  redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
  again()
  return { 'stray' }
end
if header and header.ph ~= 'G' then
  single = {
    state = 'W', opened = opened, last = now, flaps = 0, wrote = 'A', uid = uid, version = version, namespace = namespace,
  }
  redis.call('HDEL', KEYS[15], fingerprint)
  redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
  header.fn = math.max(header.fn, tonumber(ARGV[7])) + ADOPTED
  again()
  return { 'taken' }
end
local known = orphans.singles[fingerprint]
local since = known and known[5] or now
orphans.singles[fingerprint] = { opened, namespace, uid, version, since, tonumber(ARGV[7]), now }
return wait(since)
