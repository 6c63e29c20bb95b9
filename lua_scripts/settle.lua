-- settle: take the outcome of what the holder of a lease wrote, end the lease, and leave the storm due where it must be.
-- KEYS  see storm.lua
-- ARGV  1 storm id  2 token  3 rules  4 outcome, packed:
--   storm:   { 'storm', phase written or '' when it failed, uid, resourceVersion, digest, namespace, 1 when more is to be
--              superseded or told, ms until a retry, {fingerprint superseded, ...}, {fingerprint to drop, ...}, {resource id to drop, ...},
--              stage that Events told of, 1 when it only waits for its turn, which is no failure, or only Events wait }
--   singles: { 'singles', ms until a retry, {{fingerprint, phase written or '', uid, resourceVersion, namespace,
--              whether silenced, as written, 1 when the sink refused what it says}, ...}, 1 when they only wait for
--              their turn }
-- Returns 'lost' (the lease is somebody else's; nothing done), 'settled', 'dirty' (due again) or 'closed'
local sid, rules, outcome = ARGV[1], unpack_rules(ARGV[3]), cmsgpack.unpack(ARGV[4])
local header = read_header()
if not header or header.lk == '' or header.lk ~= ARGV[2] then return 'lost' end
redis.call('HDEL', KEYS[6], 'lk', 'lu')
header.lk, header.lu, header.was.lk, header.was.lu = '', 0, '', 0
local dirty = header.dy == 1
header.dy = 0

local function drop(key, fields)
  for i = 1, #fields, 500 do redis.call('HDEL', key, unpack(fields, i, math.min(i + 499, #fields))) end
end

local function settle_storm()
  local _, wrote, uid, version, digest, namespace, more, retry, superseded, dropped, rids, told, waits = unpack(outcome)
  for _, fingerprint in ipairs(superseded) do
    local single = unpack_single(redis.call('HGET', KEYS[15], fingerprint))
    if single then
      single.state, single.uid, single.version, single.wrote = 'S', '', '', ''
      redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
    end
  end
  drop(KEYS[15], dropped)
  for _, rid in ipairs(rids) do
    local resource = unpack_resource(redis.call('HGET', KEYS[9], rid))
    if resource and resource.count == 0 and resource.stamp ~= header.gn % GENERATIONS then redis.call('HDEL', KEYS[9], rid) end
  end
  header.ev = told
  if uid ~= '' then header.uid, header.rv, header.ns = uid, version, namespace end
  if wrote == '' then
    if waits ~= 1 then header.fa = header.fa + 1 end
    header.fd, header.fu = now + retry, earlier(header.fu, now)
    return true
  end
  if wrote == 'T' then
    if not dirty and now >= header.ls + rules.stale_after then
      forget(sid)
      return nil
    end
    -- There was news while it was written, be it a mere repeat: the storm goes on, and its RR must say so.
    dirty, header.fu = true, earlier(header.fu, now)
  end
  header.wp, header.dg, header.fa, header.lw = wrote, digest, 0, now
  if more == 1 then
    -- Without an unflushed change nothing but Events waits.
    header.fd = now + retry
    if waits ~= 1 or dirty then header.fu = earlier(header.fu, now) end
    if dirty then header.fd = math.min(header.fd, now + rules.debounce, header.fu + rules.max_wait) end
  elseif dirty then
    header.fd = math.min(now + rules.debounce, earlier(header.fu, now) + rules.max_wait)
  else
    header.fd, header.fu = 0, 0
  end
  return header.fd ~= 0
end

-- A Single whose time was over is forgotten; its member no longer counts.
local function forget_single(fingerprint, member)
  header.f = math.max(0, header.f - 1)
  local field = 's' .. member.severity
  header[field] = math.max(0, header[field] - 1)
  local resource = unpack_resource(redis.call('HGET', KEYS[9], member.rid))
  if resource then
    count_resource(resource, -1, header.gn)
    redis.call('HSET', KEYS[9], member.rid, pack_resource(resource))
  end
  redis.call('HDEL', KEYS[8], fingerprint)
  redis.call('HDEL', KEYS[15], fingerprint)
  redis.call('HDEL', KEYS[17], fingerprint)
  redis.call('ZREM', KEYS[16], fingerprint)
  drop_resources()
end

local function settle_single(item, retry)
  local fingerprint, wrote, uid, version, namespace, shown, refused = unpack(item)
  local single = unpack_single(redis.call('HGET', KEYS[15], fingerprint))
  local member = unpack_member(redis.call('HGET', KEYS[8], fingerprint))
  if not single or not member then return end
  local gathers = header.ph == 'G'
  if wrote == '' then
    single.since = earlier(single.since, now)
    redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
    if gathers then redis.call('ZADD', KEYS[16], now + retry, fingerprint) end
    return
  end
  -- What was refused may be wanted once more.
  if refused ~= 1 then redis.call('HDEL', KEYS[17], fingerprint) end
  if wrote == 'T' and member.state == 'F' and now >= single.last + rules.stale_after and gathers then
    forget_single(fingerprint, member)
    return
  end
  single.state, single.wrote, single.uid, single.version, single.namespace = 'W', wrote, uid, version, namespace
  single.shown = shown or 0
  local at
  if member.state == 'F' and wrote == 'A' and single.silenced == single.shown then
    at, single.since = single.last + rules.stale_after, 0
  elseif member.state == 'R' and wrote == 'R' then
    at, single.since = member.turn + rules.reopen_window, 0
  else
    single.since = earlier(single.since, now)
    at = math.min(now + rules.debounce, single.since + rules.max_wait)
  end
  redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
  if not gathers then return end
  redis.call('ZADD', KEYS[16], at, fingerprint)
end

local result
if outcome[1] == 'storm' then
  local due_again = settle_storm()
  if due_again == nil then return 'closed' end
  result = due_again and 'dirty' or 'settled'
else
  local failed = false
  for _, item in ipairs(outcome[3]) do
    settle_single(item, outcome[2])
    failed = failed or item[2] == ''
  end
  if not failed then
    header.fa = 0
  elseif outcome[4] ~= 1 then
    header.fa = header.fa + 1
  end
  result = dirty and 'dirty' or 'settled'
  if header.ph ~= 'G' and header.fd == 0 then
    -- The threshold fell while the Singles were written: the change was only marked, and is due now.
    header.fd = now + rules.debounce
  end
  header.fu = 0
end
plan_next(header, rules)
write_header(header)
enqueue(header, sid)
return result
