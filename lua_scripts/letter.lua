-- letter: keep a dead letter that stands for no alert, but for an object that the sink refuses. The ledger knows nothing of
-- it: the alerts are members of their storm as before.
-- KEYS  1 meta  2 inbox  3 order  4 dead  5 dead_order
-- ARGV  1 letter id  2 letter  3 most letters  4 most bytes of letters
-- Returns 1. Begins with what frees, so that it goes on when Redis is full.
local now_parts = redis.call('TIME')
remove_letters({ ARGV[1] })
put_letter(ARGV[1], ARGV[2], now_parts[1] * 1000 + math.floor(now_parts[2] / 1000))
shed_beyond(tonumber(ARGV[3]), tonumber(ARGV[4]), 100)
return 1
