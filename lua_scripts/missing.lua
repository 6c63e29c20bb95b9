-- missing: a storm's RR was not found in the sink: have it written again, unless it was written since somebody looked.
-- KEYS  see storm.lua
-- ARGV  1 storm id  2 name  3 ms at which the look began
-- Returns 1 when the storm is due to be written again, else 0
local header = read_header()
if not header or header.n ~= ARGV[2] or header.uid == '' or leased(header) or header.lw >= tonumber(ARGV[3]) then return 0 end
if header.ph ~= 'A' or header.wp ~= 'A' then return 0 end
header.uid, header.rv, header.dg, header.fd = '', '', '', now
write_header(header)
enqueue(header, ARGV[1])
return 1
