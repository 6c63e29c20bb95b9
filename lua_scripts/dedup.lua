-- dedup: functions that decide what one alert means for a member, and pack the member's record. Not callable alone:
-- the loader puts this text before the scripts that use it.
-- A member record is '>c1I6Bc8': state F or R, startsAt in ms, severity rank, resource id; once it has been resolved also
-- '>I6I6': the endsAt last applied, and the time of receipt of its last turn (resolve or reopening).

local function unpack_member(raw)
  if not raw then return nil end
  local state, starts, severity, rid = struct.unpack('>c1I6Bc8', raw)
  local ends, turn = 0, 0
  if #raw > 16 then ends, turn = struct.unpack('>I6I6', raw, 17) end
  return { state = state, starts = starts, severity = severity, rid = rid, ends = ends, turn = turn }
end

local function pack_member(member)
  local raw = struct.pack('>c1I6Bc8', member.state, member.starts, member.severity, member.rid)
  if member.ends > 0 or member.turn > 0 then raw = raw .. struct.pack('>I6I6', member.ends, member.turn) end
  return raw
end

-- The tombstone of a resolve that met no member is '>I6I6': its endsAt, when it expires; that of a member beyond
-- MAX_MEMBERS also '>I6I6': its startsAt and the time of receipt of its last turn. Returns it and its expiry.
local function unpack_stone(raw)
  local ends, expires, at = struct.unpack('>I6I6', raw)
  if at > #raw then return { ends = ends }, expires end
  local starts, turn = struct.unpack('>I6I6', raw, at)
  return { ends = ends, starts = starts, turn = turn }, expires
end

local function pack_stone(stone, expires)
  local raw = struct.pack('>I6I6', stone.ends, expires)
  if stone.turn then raw = raw .. struct.pack('>I6I6', stone.starts, stone.turn) end
  return raw
end

-- A firing alert about a known member. Returns its class; the member is changed where the alert is news to it.
local function apply_firing(member, starts, received)
  if member.state == 'F' then
    -- Two Prometheus replicas disagree on startsAt: the later one stands, so that an older resolve cannot close it.
    if starts > member.starts then
      member.starts, member.changed = starts, true
    end
    return 'du'
  end
  if starts > member.ends or received > member.turn then
    member.state, member.starts, member.changed = 'F', starts, true
    member.turn = math.max(member.turn, received)
    return 'ro'
  end
  return 'od'
end

-- A resolved alert about a known member. After a reopening with the same startsAt the same endsAt may apply once more.
local function apply_resolved(member, ends, received)
  if ends == member.ends and ends > 0 then
    if not (member.state == 'F' and ends >= member.starts and received > member.turn) then return 'du' end
  elseif not (ends > member.ends and ends >= member.starts) then
    return 'od'
  end
  member.state, member.ends, member.turn, member.changed = 'R', ends, received, true
  return 'rs'
end
