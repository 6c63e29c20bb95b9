-- unseen: forget the orphans of one storm key that a look through the sink did not meet: they are not open any more.
-- KEYS  1 orphans
-- ARGV  1 storm id  2 ms at which the look began
-- Returns 1 when something was forgotten, else 0
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then return 0 end
local orphans, before, changed = cmsgpack.unpack(raw), tonumber(ARGV[2]), 0
if orphans.storm and orphans.storm[8] < before then orphans.storm, changed = false, 1 end
for fingerprint, single in pairs(orphans.singles) do
  if single[7] < before then orphans.singles[fingerprint], changed = nil, 1 end
end
if changed == 0 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
if orphans.storm or next(orphans.singles) then redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(orphans)) end
return 1
