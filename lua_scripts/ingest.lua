-- ingest: take one entry into its storm: classify its alerts, record members, slide the windows, decide the phase, set what
-- is due, remove the entry. All of it or nothing: everything is read and checked before the entry is removed, and that is
-- the first write, so that it goes through when Redis is full.
-- KEYS  see storm.lua
-- ARGV  1 entry id  2 rules  3 storm id  4 slug  5 namespace  6 storm key as text
--       7 alerts {{fingerprint, 1 firing or 0, startsAt, endsAt, resource id, severity, combination of cause values or 0
--         where its labels are not known}, ...}  8 {resource id = text}
--       9 ids of the labels common to the entry's alerts, 6 bytes each
--       10 {detail, ...} beside the alerts, or {} where it is not at hand
--       11 {{cause label, ...}, {value, ...}, {combination: {value's place or 0 for each label}, ...}}
-- Returns { 'gone' }                the entry was taken in before: nothing to do
--         { 'detail' }              nothing done: the storm gathers, call again with details
--         { 'ok', new, duplicate, reopened, resolved, outdated, phase }
local received = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or nil)
if not received then return { 'gone' } end
local rules, sid = unpack_rules(ARGV[2]), ARGV[3]
local alerts, texts = cmsgpack.unpack(ARGV[7]), cmsgpack.unpack(ARGV[8])
local common, details = ARGV[9], cmsgpack.unpack(ARGV[10])
local header = read_header()
local known = header ~= nil
if #details == 0 and #alerts > 0 and (not known or header.ph == 'G') then return { 'detail' } end

-- read ----------------------------------------------------------------------------------------------------------------
local fingerprints, seen = {}, {}
for _, alert in ipairs(alerts) do
  if not seen[alert[1]] then
    seen[alert[1]] = true
    fingerprints[#fingerprints + 1] = alert[1]
  end
end
local members, unknown, rids, resources, text = {}, {}, {}, {}, nil
if known then
  text = cmsgpack.unpack(redis.call('GET', KEYS[7]))
  local raws = redis.call('HMGET', KEYS[8], unpack(fingerprints))
  for i, fingerprint in ipairs(fingerprints) do members[fingerprint] = unpack_member(raws[i]) end
end
if redis.call('EXISTS', KEYS[13]) == 1 then
  local raws = redis.call('HMGET', KEYS[13], unpack(fingerprints))
  for i, fingerprint in ipairs(fingerprints) do
    if raws[i] then
      local stone, expires = unpack_stone(raws[i])
      if expires > now then unknown[fingerprint] = stone end
    end
  end
end
for _, alert in ipairs(alerts) do texts[alert[5]] = texts[alert[5]] or '' end
for _, member in pairs(members) do texts[member.rid] = texts[member.rid] or '' end
for rid in pairs(texts) do rids[#rids + 1] = rid end
if known and #rids > 0 then
  local raws = redis.call('HMGET', KEYS[9], unpack(rids))
  for i, rid in ipairs(rids) do resources[rid] = unpack_resource(raws[i]) end
end

-- decide --------------------------------------------------------------------------------------------------------------
header = header or new_header()
local room = rules.max_members - (known and redis.call('HLEN', KEYS[8]) or 0)
local counts = { nw = 0, du = 0, ro = 0, rs = 0, od = 0 }
local news, news_rids, news_at, singles_touched = {}, {}, {}, {}
local tombstones, stones = {}, {}
local unmatched = 0
local before, net_causes, unnamed = { f = header.f, ph = header.ph }, {}, 0

-- A member beyond MAX_MEMBERS, or nil: that it fires says its bucket, when it was resolved a tombstone with start and turn.
local function beyond(fingerprint)
  local stone = unknown[fingerprint]
  local fires = header.of > 0 and bucket_of(fingerprint).fps[fingerprint]
  if not fires and not (stone and stone.turn) then return nil end
  stone = stone or {}
  return { state = fires and 'F' or 'R', starts = stone.starts or 0, ends = stone.ends or 0, turn = stone.turn or 0 }
end

-- A member with the labels of this alert fires (by 1), or no longer does (-1).
local function tally_cause(alert, by)
  local combination = alert[7]
  if combination > 0 then
    net_causes[combination] = (net_causes[combination] or 0) + by
  elseif by < 0 then
    unnamed = unnamed + 1
  end
end

local function keep_beyond(fingerprint, stray, by)
  local bucket = bucket_of(fingerprint)
  bucket.fps[fingerprint], bucket.changed = stray.state == 'F' or nil, true
  header.f, header.of = header.f + by, header.of + by
  if stray.turn > 0 then
    stones[fingerprint] = { ends = stray.ends, starts = stray.starts, turn = stray.turn }
    unknown[fingerprint] = stones[fingerprint]
  end
end

local function resource_of(rid)
  local resource = resources[rid]
  if not resource then
    resource = { count = 0, first = received, shown = 0, stamp = header.gn % GENERATIONS, text = texts[rid] or '' }
    resources[rid] = resource
  end
  return resource
end

local function fires(index, fingerprint, member)
  header.f = header.f + 1
  tally_cause(alerts[index], 1)
  local field = 's' .. member.severity
  header[field] = header[field] + 1
  count_resource(resource_of(member.rid), 1, header.gn)
  news[#news + 1] = fingerprint
  news_rids[#news_rids + 1] = member.rid
  news_at[fingerprint] = index
end

local function rests(alert, member)
  header.f = header.f - 1
  tally_cause(alert, -1)
  local field = 's' .. member.severity
  header[field] = math.max(0, header[field] - 1)
  count_resource(resource_of(member.rid), -1, header.gn)
end

local function take_firing(index, alert, fingerprint, member)
  if member then
    local class = apply_firing(member, alert[3], received)
    if class == 'ro' then
      -- Where its resource was dropped meanwhile only what this alert names is known.
      if not resources[member.rid] then member.rid = alert[5] end
      fires(index, fingerprint, member)
    end
    return class
  end
  local stray, class = beyond(fingerprint), 'nw'
  if stray then
    class = apply_firing(stray, alert[3], received)
    if stray.changed and class == 'du' and unknown[fingerprint] then keep_beyond(fingerprint, stray, 0) end
    if class ~= 'ro' then return class end
  else
    local stone = unknown[fingerprint]
    if stone and alert[3] < stone.ends then return 'od' end
    stray = { state = 'F', starts = alert[3], ends = 0, turn = 0 }
  end
  if unknown[fingerprint] then stones[fingerprint], unknown[fingerprint] = false, nil end
  if header.ph ~= 'G' and header.ph ~= '' and room <= 0 then
    keep_beyond(fingerprint, stray, 1)
    tally_cause(alert, 1)
    news[#news + 1] = fingerprint
    return class
  end
  room = room - 1
  stray.severity, stray.rid, stray.changed = alert[6], alert[5], true
  members[fingerprint] = stray
  fires(index, fingerprint, stray)
  return class
end

local function take_resolved(alert, fingerprint, member)
  if member then
    local fired = member.state == 'F'
    local class = apply_resolved(member, alert[4], received)
    if class == 'rs' then
      if fired then rests(alert, member) end
      header.lr = math.max(header.lr, received)
      tombstones[#tombstones + 1] = struct.pack('>I6I6', now + rules.tombstone, received) .. fingerprint
    end
    return class
  end
  local stray = beyond(fingerprint)
  if stray then
    local fired = stray.state == 'F'
    local class = apply_resolved(stray, alert[4], received)
    if class == 'rs' then
      keep_beyond(fingerprint, stray, fired and -1 or 0)
      if fired then tally_cause(alert, -1) end
      header.lr = math.max(header.lr, received)
    end
    return class
  end
  local stone = unknown[fingerprint]
  if stone and alert[4] == stone.ends then return 'du' end
  if not stone or alert[4] > stone.ends then
    stones[fingerprint] = { ends = alert[4] }
    unknown[fingerprint] = stones[fingerprint]
  end
  return 'od'
end

for index, alert in ipairs(alerts) do
  local fingerprint = alert[1]
  local member = members[fingerprint]
  local class
  if alert[2] == 1 then
    class = take_firing(index, alert, fingerprint, member)
  else
    class = take_resolved(alert, fingerprint, member)
  end
  counts[class] = counts[class] + 1
  if class ~= 'od' and (class ~= 'du' or not singles_touched[fingerprint]) then singles_touched[fingerprint] = class end
end

local opens = not known and #news > 0
local changed = #news > 0 or counts.rs > 0
if not known and not opens then
  unmatched = #alerts
elseif opens then
  local meta_epoch = tonumber(redis.call('HGET', KEYS[1], 'ep') or 0)
  header.ph, header.e = 'G', math.max(now, meta_epoch + 1)
  header.fs, header.ns = received, ARGV[5]
  -- The last digit is the shard, so that a name alone tells where to look.
  header.n = (ARGV[4] == '' and 'storm-' or 'storm-' .. ARGV[4] .. '-')
    .. redis.sha1hex(sid .. ':' .. string.format('%.0f', header.e)):sub(1, 9) .. sid:sub(1, 1)
end

local causes
if known and changed or opens then
  causes = recount_causes(known and text[4], before, header, ARGV[11], net_causes, unnamed)
end

-- write ---------------------------------------------------------------------------------------------------------------
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if #alerts > 0 then redis.call('HINCRBY', KEYS[1], 'pd', -#alerts) end
for class, count in pairs(counts) do
  if count > 0 then redis.call('HINCRBY', KEYS[1], class, count) end
end
if unmatched > 0 then redis.call('HINCRBY', KEYS[1], 'um', unmatched) end

for fingerprint, stone in pairs(stones) do
  if not stone then
    redis.call('HDEL', KEYS[13], fingerprint)
  elseif redis.call('HLEN', KEYS[13]) < rules.max_members then
    redis.call('HSET', KEYS[13], fingerprint, pack_stone(stone, now + rules.tombstone))
    redis.call('PEXPIRE', KEYS[13], rules.tombstone)
    -- Two looks at random keep the hash within about twice what is live, however long it is refreshed.
    local some = redis.call('HRANDFIELD', KEYS[13], 2, 'WITHVALUES')
    for i = 1, #some, 2 do
      local _, expires = unpack_stone(some[i + 1])
      if expires <= now then redis.call('HDEL', KEYS[13], some[i]) end
    end
  end
end
if header.ph == '' then
  return { 'ok', counts.nw, counts.du, counts.ro, counts.rs, counts.od, '' }
end

write_all(KEYS[8], members, pack_member)
write_all(KEYS[9], resources, pack_resource)
write_buckets()
if #tombstones > 0 then
  redis.call('RPUSH', KEYS[12], unpack(tombstones))
  header.nx = earlier(header.nx, now + rules.tombstone)
end

-- the sample, which of its labels are common to all, and the causes
if changed then
  local write_text = opens or text[4] ~= causes
  if opens then
    text = { ARGV[6], common, details[news_at[news[1]]] or '' }
  elseif #news > 0 then
    local kept = shared(text[2], common)
    if kept ~= text[2] then text[2], write_text = kept, true end
  end
  text[4] = causes
  if write_text then redis.call('SET', KEYS[7], cmsgpack.pack(text)) end
end

-- the ledger
header.rc = header.rc + #alerts
for class, count in pairs(counts) do header[class] = header[class] + count end
if changed or counts.du > 0 then header.ls = math.max(header.ls, received) end

-- windows and phase
local was = header.ph
if #news > 0 and header.ty ~= 'r' then
  if window_met(KEYS[10], news, received, rules.rate_window, rules.rate_threshold) then header.ty = 'r' end
  if header.ph == 'G' and header.ty == '' and rules.pattern_threshold > 0
    and window_met(KEYS[11], news_rids, received, rules.pattern_window, rules.pattern_threshold) then
    header.ty = 'p'
  end
  if header.ty ~= '' and was == 'G' then
    header.ph = 'A'
    redis.call('UNLINK', KEYS[11], KEYS[16], KEYS[17])
  end
end
if was == 'R' and #news > 0 then
  header.ph, header.fl = 'A', header.fl + 1
end

if header.ph == 'G' then
  local function detail_of(fingerprint) return details[news_at[fingerprint]] end
  touch_singles(singles_touched, members, detail_of, received, rules)
  if changed then
    header.fn = header.fn + 1
    if leased(header) then header.dy = 1 end
  end
elseif changed or header.ty ~= header.was.ty then
  mark_changed(header, rules)
end

if opens then redis.call('HSET', KEYS[1], 'ep', header.e) end
write_header(header)
enqueue(header, sid)
return { 'ok', counts.nw, counts.du, counts.ro, counts.rs, counts.od, header.ph }
