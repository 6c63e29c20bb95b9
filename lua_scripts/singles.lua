-- singles: the Singles of the alerts that an entry was about, while their storm gathers. Not callable alone: the loader puts
-- this text before ingest.

-- A member's first alert gets a Single after the hold; what changes one that is named is due after the debounce, but not
-- past the first change that is not written + max_wait. `detail_of` tells what to render it from.
local function touch_singles(touched, members, detail_of, received, rules)
  local fps = {}
  for fingerprint in pairs(touched) do fps[#fps + 1] = fingerprint end
  if #fps == 0 then return end
  local raws, kept = redis.call('HMGET', KEYS[15], unpack(fps)), {}
  for i, fingerprint in ipairs(fps) do
    local single, class = unpack_single(raws[i]), touched[fingerprint]
    local due
    if not single and members[fingerprint] then
      single = {
        state = 'P', opened = received, last = received, flaps = 0, wrote = '', uid = '', version = '', namespace = '',
        since = 0,
      }
      kept[#kept + 1] = fingerprint
      kept[#kept + 1] = detail_of(fingerprint) or ''
      due = now + rules.single_hold
    elseif single and class ~= 'du' and single.state ~= 'P' then
      if single.since == 0 then single.since = now end
      due = math.min(now + rules.debounce, single.since + rules.max_wait)
      if class == 'ro' and single.wrote == 'R' then single.flaps = single.flaps + 1 end
    end
    if single then
      single.last = math.max(single.last, received)
      redis.call('HSET', KEYS[15], fingerprint, pack_single(single))
      if due then redis.call('ZADD', KEYS[16], due, fingerprint) end
    end
  end
  if #kept > 0 then redis.call('HSET', KEYS[17], unpack(kept)) end
end
