-- overflow: the fingerprints beyond MAX_MEMBERS, and the other records that ingest reads in one go and writes in one go.
-- Not callable alone: the loader puts this text before ingest.

-- The fingerprints beyond MAX_MEMBERS lie in buckets, each a string of (length, fingerprint).
local buckets = {}
local function bucket_of(fingerprint)
  local name = redis.sha1hex(fingerprint):sub(1, 3)
  if buckets[name] == nil then
    local raw, set = redis.call('HGET', KEYS[14], name) or '', { fps = {}, size = 0 }
    local at = 1
    while at <= #raw do
      local length = raw:byte(at)
      set.fps[raw:sub(at + 1, at + length)] = true
      at = at + 1 + length
    end
    buckets[name] = set
  end
  return buckets[name]
end

local function write_buckets()
  for name, bucket in pairs(buckets) do
    if bucket.changed then
      local parts = {}
      for fingerprint in pairs(bucket.fps) do parts[#parts + 1] = string.char(#fingerprint) .. fingerprint end
      if #parts > 0 then
        redis.call('HSET', KEYS[14], name, table.concat(parts))
      else
        redis.call('HDEL', KEYS[14], name)
      end
    end
  end
end

-- Writes the records that changed.
local function write_all(key, records, pack)
  local args = {}
  for field, record in pairs(records) do
    if record.changed then
      args[#args + 1] = field
      args[#args + 1] = pack(record)
    end
  end
  if #args > 0 then redis.call('HSET', key, unpack(args)) end
end

-- The label ids, 6 bytes each, that are in both.
local function shared(ours, theirs)
  if ours == theirs then return ours end
  local set, kept = {}, {}
  for at = 1, #theirs, 6 do set[theirs:sub(at, at + 5)] = true end
  for at = 1, #ours, 6 do
    local id = ours:sub(at, at + 5)
    if set[id] then kept[#kept + 1] = id end
  end
  return table.concat(kept)
end
