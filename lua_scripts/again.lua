-- again: have an object written once more, whatever became of it: somebody mended what kept the sink from taking it.
-- KEYS  see storm.lua
-- ARGV  1 storm id  2 name of the storm's RR, or ''  3 fingerprint of a Single, or ''  4 when that Single was opened
-- Returns 1, 0 where that history is over, or -1 where it is being written: ask once more after that
local header = read_header()
local single = ARGV[3] ~= '' and unpack_single(redis.call('HGET', KEYS[15], ARGV[3]))
if not header or (ARGV[3] == '' and header.n ~= ARGV[2]) then return 0 end
if ARGV[3] ~= '' and (not single or single.opened ~= tonumber(ARGV[4]) or single.state == 'S') then return 0 end
if leased(header) then return -1 end
redis.call('ZREM', KEYS[4], ARGV[1])
header.fn = header.fn + 1
if single and header.ph == 'G' then
  single.wrote = ''
  redis.call('HSET', KEYS[15], ARGV[3], pack_single(single))
  redis.call('ZADD', KEYS[16], now, ARGV[3])
end
if header.ph ~= 'G' then header.dg, header.fd, header.fu = '', now, earlier(header.fu, now) end
write_header(header)
enqueue(header, ARGV[1])
return 1
