-- causes: how many firing members have which value of the cause labels; what nearly all of them share is a hint where to
-- look first. Not callable alone: the loader puts this text before the scripts that use it.
-- Packed it is the 4th part of a storm's text: { members firing when it was written, flush generation, what the flush of
-- that generation said (false: not known), label, {value = members}, ... }. A hint is { label, value, percent }, flat.
-- Every count is a lower bound, so that no hint says too much: a value that has to give way to another is counted anew
-- when it comes again, and a member that leaves without a word of its labels is taken off every value.

local MOST_VALUES, LEAST_PERCENT = 16, 90

local function lower_causes(causes, by)
  if by <= 0 then return end
  for _, counts in pairs(causes.counts) do
    for value, count in pairs(counts) do counts[value] = count > by and count - by or nil end
  end
end

-- Whatever takes members away but ingest shows in `firing`.
local function unpack_causes(raw, firing)
  local causes = { counts = {}, said = false }
  if raw then
    local packed = cmsgpack.unpack(raw)
    causes.generation, causes.said = packed[2], packed[3]
    for at = 4, #packed, 2 do causes.counts[packed[at]] = packed[at + 1] end
    lower_causes(causes, packed[1] - firing)
  end
  return causes
end

-- nil where there is nothing to keep.
local function pack_causes(causes, firing)
  local packed = { firing, causes.generation, causes.said }
  for label, counts in pairs(causes.counts) do
    if firing > 0 and next(counts) then
      packed[#packed + 1] = label
      packed[#packed + 1] = counts
    end
  end
  if #packed == 3 and not causes.said then return nil end
  return cmsgpack.pack(packed)
end

local function cause_hints(causes, firing)
  local hints = {}
  for label, counts in pairs(causes.counts) do
    for value, count in pairs(counts) do
      if firing > 0 and count * 100 >= LEAST_PERCENT * firing then
        hints[#hints + 1] = label
        hints[#hints + 1] = value
        hints[#hints + 1] = math.min(100, math.floor(count * 100 / firing))
      end
    end
  end
  return hints
end

-- A full table makes room where it counts the fewest: for one new value of an entry whatever that counts, lest those who
-- came first keep all places, and for others that count more.
local function add_values(counts, new)
  local size, fewest, made_room = 0, nil, false
  for _ in pairs(counts) do size = size + 1 end
  for value, by in pairs(new) do
    if size < MOST_VALUES then
      counts[value], size = by, size + 1
    else
      if not fewest then
        for known, count in pairs(counts) do
          if not fewest or count < counts[fewest] then fewest = known end
        end
      end
      if not made_room or by > counts[fewest] then
        counts[fewest] = nil
        counts[value], fewest, made_room = by, nil, true
      end
    end
  end
end

-- Labels that the entry does not name are no longer asked for.
local function count_causes(causes, entry, net, unnamed)
  local labels, values, combinations = unpack(entry)
  local kept = {}
  for at, label in ipairs(labels) do
    local by_value, counts, new = {}, causes.counts[label] or {}, {}
    for combination, by in pairs(net) do
      local value = values[combinations[combination][at]]
      if value then by_value[value] = (by_value[value] or 0) + by end
    end
    for value, by in pairs(by_value) do
      if counts[value] then
        counts[value] = counts[value] + by > 0 and counts[value] + by or nil
      elseif by > 0 then
        new[value] = by
      end
    end
    add_values(counts, new)
    kept[label] = counts
  end
  causes.counts = kept
  lower_causes(causes, unnamed)
end

-- The causes, packed, after an entry: `before` are phase and members firing before it, `net` is combination of values ->
-- how many more of its members fire, `unnamed` how many left whose labels are not known. What the last flush said is
-- kept at the first change after it; of a storm that was never flushed, what was so when it first declined.
local function recount_causes(raw, before, header, entry, net, unnamed)
  local causes = unpack_causes(raw, before.f)
  local flushed = causes.generation ~= header.gn
  local declines = header.gn == 0 and not causes.said and header.f < before.f
  if raw and (flushed or declines) and before.f > 0 and before.ph ~= 'G' then causes.said = cause_hints(causes, before.f) end
  causes.generation = header.gn
  count_causes(causes, cmsgpack.unpack(entry), net, unnamed)
  return pack_causes(causes, header.f)
end

-- What the RR of a storm is to say; of one that is resolved, what the last flush said.
local function causes_to_say(text, header)
  local causes = unpack_causes(cmsgpack.unpack(text)[4], header.f)
  if header.f > 0 then return cause_hints(causes, header.f) end
  return causes.said or {}
end
