-- silence: note how many of a storm's firing members Alertmanager silences, and which of its Singles are, where that
-- changed, so that their RRs show it.
-- KEYS  see storm.lua
-- ARGV  1 storm id  2 rules  3 silenced members, '' to leave what was noted  4 packed: { {fingerprint silenced now, ...},
--       {fingerprint that is not any more, ...} }
-- Returns 1 when something changed, else 0 (no such storm, resolved, or noted before)
local header = read_header()
if not header or header.ph == 'R' then return 0 end
local rules, changed = unpack_rules(ARGV[2]), false

local function note_singles(fingerprints, silenced)
  for _, fingerprint in ipairs(fingerprints) do
    local single = unpack_single(redis.call('HGET', KEYS[15], fingerprint))
    if single and single.silenced ~= silenced then
      single.silenced, changed = silenced, true
      -- Any other is written anyway, and says it then.
      if single.wrote == 'A' and single.shown ~= silenced then
        if single.since == 0 then single.since = now end
        redis.call('ZADD', KEYS[16], math.min(now + rules.debounce, single.since + rules.max_wait), fingerprint)
      end
      redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
    end
  end
end

if header.ph == 'G' then
  local began, ended = unpack(cmsgpack.unpack(ARGV[4]))
  note_singles(began, 2)
  note_singles(ended, 1)
end
if ARGV[3] ~= '' then
  -- One more than the count: 0 means that none was ever silenced, and then the RR need not say so.
  local noted = math.min(tonumber(ARGV[3]), header.f) + 1
  if noted ~= header.si and (noted ~= 1 or header.si ~= 0) then
    header.si, changed = noted, true
    if header.ph ~= 'G' then mark_changed(header, rules) end
  end
end
if not changed then return 0 end
write_header(header)
enqueue(header, ARGV[1])
return 1
