-- unbury: take a dead letter away. One that was replayed leaves the ledger too: its alert has just been accepted anew.
-- KEYS  1 meta  2 inbox  3 order  4 dead  5 dead_order
-- ARGV  1 letter id  2 alerts replayed, 0 when the letter is dropped
-- Returns 1, or 0 where there is no such letter
local replayed = tonumber(ARGV[2])
if remove_letters({ ARGV[1] }) == 0 then return 0 end
if replayed > 0 then
  redis.call('HINCRBY', KEYS[1], 'rc', -replayed)
  redis.call('HINCRBY', KEYS[1], 'dl', -replayed)
  redis.call('HINCRBY', KEYS[1], 'rp', replayed)
end
return 1
