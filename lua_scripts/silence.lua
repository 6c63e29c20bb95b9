-- silence: note how many of a storm's firing members Alertmanager silences, where that changed, so that its RR shows it.
-- KEYS  see storm.lua
-- ARGV  1 storm id  2 rules  3 silenced members
-- Returns 1 when it changed, else 0 (no such storm, resolved, or noted before)
local header = read_header()
if not header or header.ph == 'R' then return 0 end
-- One more than the count: 0 means that none was ever silenced, and then the RR need not say so.
local noted = math.min(tonumber(ARGV[3]), header.f) + 1
if noted == header.si or (noted == 1 and header.si == 0) then return 0 end
header.si = noted
if header.ph ~= 'G' then mark_changed(header, unpack_rules(ARGV[2])) end
write_header(header)
enqueue(header, ARGV[1])
return 1
