-- claim: lease a storm that is due and tell its holder what to write; or close it, or find that nothing is due yet.
-- KEYS  see storm.lua, and 18 orphans
-- ARGV  1 storm id  2 token  3 lease in ms  4 rules  5 most Singles  6 raise the fence above this (0: leave it)
--       7 1: not before the sink was looked through for what an emptied Redis forgot
-- Returns { 'gone' }          no such storm
--         { 'unreconciled' }  look through the sink first
--         { 'busy' }          somebody else holds the lease
--         { 'idle', at }      nothing is due before `at`
--         { 'closed' }        the storm's time was over; all of it is forgotten
--         { 'storm', now, header, text, stale, {cause label, value, percent, ...} } write the storm's RR
--         { 'singles', now, header, text, {single, ...} } write these Singles
-- The same token may claim again: that renews the lease and the fence. A full Redis does not stop it: it frees first.
local sid, token, rules = ARGV[1], ARGV[2], unpack_rules(ARGV[4])
redis.call('ZREM', KEYS[5], sid)
local header = read_header()
if not header then
  redis.call('ZREM', KEYS[4], sid)
  return { 'gone' }
end
if leased(header) and header.lk ~= token then return { 'busy' } end
-- Only a holder that this Redis knows goes on above a fence it met: what another has in hand is older than that.
if tonumber(ARGV[6]) > 0 and header.lk ~= token then return { 'busy' } end
local again = header.lk == token
-- Whoever held the lease to its end may have written what it never told: what was told last proves nothing.
local untold = header.lk ~= ''
if ARGV[7] == '1' and header.uid == '' and redis.call('HEXISTS', KEYS[1], 'rl') == 0 then
  redis.call('ZADD', KEYS[4], now + 1000, sid)
  return { 'unreconciled' }
end

-- Open RRs of this key from before Redis was emptied: they are taken over, so that no alert stands in two.
local function adopt()
  local raw = redis.call('HGET', KEYS[18], sid)
  if not raw then return {} end
  redis.call('HDEL', KEYS[18], sid)
  local orphans = cmsgpack.unpack(raw)
  local storm = orphans.storm
  if storm and header.uid == '' then
    header.n, header.ns, header.uid, header.rv = storm[1], storm[2], storm[3], storm[4]
    header.fn, header.wp, header.fd = math.max(header.fn, storm[5]) + ADOPTED, 'A', now
    if header.ph == 'G' then
      header.ph, header.ty = 'A', storm[6]
      redis.call('UNLINK', KEYS[11], KEYS[16], KEYS[17])
    end
  end
  if header.ph == 'G' then return orphans.singles end
  for fingerprint, single in pairs(orphans.singles) do
    if redis.call('HEXISTS', KEYS[15], fingerprint) == 0 then
      redis.call('HSET', KEYS[15], fingerprint, pack_single({
        state = 'W', opened = single[1], last = now, flaps = 0, wrote = 'A', uid = single[3], version = single[4],
        namespace = single[2],
      }))
      header.fd = earlier(header.fd, now)
    end
  end
  return {}
end
local orphan_singles = adopt()

-- Tombstones that expired turn into mere counts, a bounded number a call.
for _ = 1, 500 do
  local head = redis.call('LINDEX', KEYS[12], 0)
  if not head then break end
  local expires, turn, at = struct.unpack('>I6I6', head)
  if expires > now then break end
  redis.call('LPOP', KEYS[12])
  local fingerprint = head:sub(at)
  local member = unpack_member(redis.call('HGET', KEYS[8], fingerprint))
  if member and member.state == 'R' and member.turn == turn then
    if header.ph == 'G' and redis.call('HEXISTS', KEYS[15], fingerprint) == 1 then
      -- Its Single is still open: the record goes with the Single.
      redis.call('RPUSH', KEYS[12], struct.pack('>I6I6', now + rules.tombstone, turn) .. fingerprint)
    else
      redis.call('HDEL', KEYS[8], fingerprint)
    end
  end
end

local function lease()
  header.lk, header.lu = token, now + tonumber(ARGV[3])
  -- A renewal keeps what was marked since the first claim, for its holder has not read that.
  if not again then header.fu, header.dy = 0, 0 end
  header.fn = math.max(header.fn, tonumber(ARGV[6])) + 1
  write_header(header)
  enqueue(header, sid)
end

local function flat()
  local out = {}
  for field, value in pairs(header) do
    if field ~= 'was' and value ~= '' and value ~= 0 then
      out[#out + 1] = field
      out[#out + 1] = type(value) == 'number' and string.format('%.0f', value) or value
    end
  end
  return out
end

local function idle()
  header.lk, header.lu = '', 0
  plan_next(header, rules)
  write_header(header)
  return { 'idle', enqueue(header, sid) }
end

if header.ph ~= 'G' then
  -- Marked dirty by a holder that never settled counts as due.
  local flush = again or header.dy == 1 or (header.fd ~= 0 and header.fd <= now)
  local stale = header.f > 0 and now >= header.ls + rules.stale_after
  -- Events that could not be told keep no storm open: without an unflushed change nothing but them is due.
  local events_only = not again and header.uid ~= '' and header.lk == '' and header.dy == 0 and header.fu == 0
  local said = not flush and header.fd == 0 or events_only
  if header.ph == 'R' and header.wp == 'R' and said and now >= header.lr + rules.reopen_window then
    forget(sid)
    return { 'closed' }
  end
  if not flush and not stale then return idle() end
  if untold and not again then header.dg = '' end
  for rank = 0, 4 do
    if header['s' .. rank] > 0 then header.sx = rank + 1 end
  end
  if header.f == 0 then
    header.ph = 'R'
  elseif not again then
    header.gn = header.gn + 1
  end
  if header.fd == 0 then header.fd = now end
  lease()
  local text = redis.call('GET', KEYS[7])
  return { 'storm', now, flat(), text, stale and 1 or 0, causes_to_say(text, header) }
end

-- Singles: what each that is due needs now.
local tasks, closed = {}, false
local due = redis.call('ZRANGEBYSCORE', KEYS[16], '-inf', now, 'LIMIT', 0, tonumber(ARGV[5]))
for _, fingerprint in ipairs(due) do
  local single = unpack_single(redis.call('HGET', KEYS[15], fingerprint))
  local member = unpack_member(redis.call('HGET', KEYS[8], fingerprint))
  local want, unwritten = nil, single and single.since or 0
  if single then single.since = 0 end
  if not single or not member then
    redis.call('ZREM', KEYS[16], fingerprint)
    redis.call('HDEL', KEYS[15], fingerprint)
  elseif orphan_singles[fingerprint] and single.state == 'P' then
    local orphan = orphan_singles[fingerprint]
    orphan_singles[fingerprint] = nil
    single.state, single.opened, single.wrote = 'W', orphan[1], 'A'
    single.namespace, single.uid, single.version = orphan[2], orphan[3], orphan[4]
    header.fn = math.max(header.fn, orphan[6]) + ADOPTED
    redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
    redis.call('HDEL', KEYS[17], fingerprint)
    if member.state == 'F' and single.silenced == 0 then
      redis.call('ZADD', KEYS[16], single.last + rules.stale_after, fingerprint)
    elseif member.state == 'F' then
      want = 'A'
    else
      want = 'R'
    end
  elseif member.state == 'F' then
    want = 'A'
    if single.wrote == 'A' and not untold then
      want = now >= single.last + rules.stale_after and 'T' or single.silenced ~= single.shown and 'A' or nil
      if not want then redis.call('ZADD', KEYS[16], single.last + rules.stale_after, fingerprint) end
    end
  elseif single.wrote ~= 'R' or untold then
    want = 'R'
  elseif now >= member.turn + rules.reopen_window then
    redis.call('HDEL', KEYS[15], fingerprint)
    redis.call('HDEL', KEYS[17], fingerprint)
    redis.call('HDEL', KEYS[8], fingerprint)
    redis.call('ZREM', KEYS[16], fingerprint)
    single, closed = nil, true
  else
    redis.call('ZADD', KEYS[16], member.turn + rules.reopen_window, fingerprint)
  end
  local pin = want and single.state == 'P'
  -- Pinned before the first write: whoever comes later knows that this name may exist.
  if pin then single.state = 'N' end
  if single and member and (pin or unwritten > 0) then redis.call('HSET', KEYS[15], fingerprint, pack_single(single)) end
  if want then
    local resource = redis.call('HGET', KEYS[9], member.rid) or ''
    tasks[#tasks + 1] = {
      fingerprint, want, string.format('%.0f', single.opened), single.wrote, single.flaps, single.uid, single.version,
      single.namespace, member.severity, resource, redis.call('HGET', KEYS[17], fingerprint) or '',
      single.silenced,
    }
  end
end
if closed then drop_resources() end
if next(orphan_singles) then
  -- Their alerts have not come again yet.
  redis.call('HSET', KEYS[18], sid, cmsgpack.pack({ storm = false, singles = orphan_singles }))
end
if #tasks > 0 then
  lease()
  return { 'singles', now, flat(), redis.call('GET', KEYS[7]), tasks }
end
if header.f == 0 and redis.call('HLEN', KEYS[15]) == 0 then
  forget(sid)
  return { 'closed' }
end
return idle()
